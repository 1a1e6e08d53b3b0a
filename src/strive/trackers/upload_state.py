"""Upload state of a cell or a plan: a small file beside it that says what W&B has. Imports no torch."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from strive.cells import records

NAME = "wandb.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadState:
    """What W&B has confirmed to have of one cell or plan."""

    server: str  # its address
    entity: str
    project: str
    id: str  # of the W&B run
    url: str
    group: str = ""
    tags: list[str] = field(default_factory=list)
    epochs: list[str] = field(default_factory=list)  # a checksum of each epoch's line
    sha256: str = ""  # of the record or plan that W&B has, or of a stopped cell's epochs; "": not all is there
    weights: bool = False
    images: bool = False

    def contradicts(self, lines: Sequence[str]) -> bool:
        """Return whether these epochs are of another training than those that W&B has."""
        return any(mine != theirs for mine, theirs in zip(map(checksum, lines), self.epochs, strict=False))


def checksum(line: str) -> str:
    """Return eight hex digits that tell one epoch's line from another's."""
    return f"{zlib.crc32(line.encode()):08x}"


def sha256(text: str) -> str:
    """Return the hash by which a record or plan is known."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_upload_state(folder: Path) -> UploadState | None:
    """Return the upload state in a folder; None if there is none, or none that can be read: then W&B is asked."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        state = UploadState(**content)
    except (OSError, ValueError, TypeError):
        return None
    good = all(isinstance(getattr(state, item.name), _KINDS[item.name]) for item in dataclasses.fields(UploadState))
    return state if good else None


def upload_url(folder: Path) -> str:
    """Return the address of a cell's page on W&B; "" if it has none."""
    state = read_upload_state(folder)
    return state.url if state is not None else ""


def write_upload_state(folder: Path, state: UploadState) -> None:
    """Write the upload state into the folder of the cell or plan."""
    content = json.dumps(dataclasses.asdict(state)) + "\n"
    records.write_whole(folder / NAME, content.encode(), durable=False)


_KINDS = {item.name: str for item in dataclasses.fields(UploadState)} | {
    "tags": list,
    "epochs": list,
    "weights": bool,
    "images": bool,
}
