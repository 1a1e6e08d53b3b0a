"""A hash of the source that decides numbers: networks, data, training, a custom builder's file."""

import hashlib
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_DECIDING = ("randomness.py", "networks", "data", "training")


@lru_cache(maxsize=8)
def code_hash(builder_file: Path | None = None) -> str:
    """Return ten hex digits that change with the deciding source and with nothing else.

    Works without git. builder_file: the source of model.builder, for a custom net.
    """
    digest = hashlib.sha256()
    for name, path in _deciding_files(builder_file):
        # Line ends are the checkout's choice, not the code's.
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:10]


def _deciding_files(builder_file: Path | None) -> list[tuple[str, Path]]:
    files = []
    for name in _DECIDING:
        place = PACKAGE / name
        found = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        files += [(path.relative_to(PACKAGE).as_posix(), path) for path in found]
    # Named without its folder: the same builder elsewhere is the same code.
    return files + ([(f"builder/{builder_file.name}", builder_file)] if builder_file else [])
