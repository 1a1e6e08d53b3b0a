"""The checkpoint of an app's function: a folder with what it wrote, the history so far, and a description of both.

checkpoint/state...        the file or the folder that the function wrote
checkpoint/history.jsonl   the history at that moment; there is none if nothing was logged
checkpoint/about.json      which cell, which code, and the hash of each file
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strive.cells.history import HISTORY
from strive.errors import ContractError
from strive.json_lines import from_line, to_line

_ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """What a checkpoint says of itself."""

    cell: str
    code_hash: str
    code_files: dict[str, str]
    step: int | None  # the last that was logged
    resumes: int
    inexact: list[str]
    started: str  # UTC, ISO 8601; of the first process
    seconds: float  # of all processes so far
    surroundings: dict[str, str]  # {what: value} that the last bits may depend on
    data: dict[str, str]  # {name: fingerprint}
    files: dict[str, str]  # {path in the folder: sha256}


def write_saved_state(
    folder: Path, write: Callable[[Path], object], history: bytes, about: Callable[[dict[str, str]], SavedState]
) -> None:
    """Make a checkpoint, which does not exist yet.

    write: the app's; it makes a file or a folder of the path that it is given. about: gets {path: sha256}.

    Raises OSError, ContractError if `write` leaves nothing or more than that, and what `write` raises.
    """
    folder.mkdir()
    write(folder / "state")
    left = sorted(path.name for path in folder.iterdir())
    if len(left) != 1:
        raise ContractError(
            f"the function given to strive.save wrote {', '.join(left) or 'nothing'}; it must write one file or one"
            " folder, at the path that it is given"
        )
    if history:
        (folder / HISTORY).write_bytes(history)
    (folder / _ABOUT).write_bytes(to_line(about(_hashes(folder))))


def read_saved_state(folder: Path) -> SavedState:
    """Return the description of a checkpoint. Raises ValueError if it is not whole."""
    try:
        about = from_line(SavedState, (folder / _ABOUT).read_bytes())
        found = _hashes(folder)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"it is damaged: {error}") from None
    if wrong := sorted(name for name in about.files.keys() | found.keys() if about.files.get(name) != found.get(name)):
        raise ValueError(f"it is damaged: {', '.join(wrong[:3])} is not what was written")
    return about


def state_path(folder: Path) -> Path:
    """Return what the app wrote into a whole checkpoint: numpy, for one, adds an ending to the name."""
    return next(path for path in folder.iterdir() if path.name not in (_ABOUT, HISTORY))


def history_in(folder: Path) -> bytes:
    """Return the history in a whole checkpoint."""
    try:
        return (folder / HISTORY).read_bytes()
    except FileNotFoundError:
        return b""


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.name != _ABOUT and path.is_file()
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
