"""Upload state of a cell or a plan: a small file beside it that says what W&B has. Imports no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from strive.cells import records

NAME = "wandb.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadState:
    """The W&B run of one cell or plan, and what W&B has confirmed to have of it."""

    server: str  # its address
    entity: str
    project: str
    id: str  # of the W&B run
    url: str
    group: str = ""
    content: str = ""  # a hash of what was uploaded; "": not all is there


def read_upload_state(folder: Path) -> UploadState | None:
    """Return the upload state in a folder; None if there is none, or none that can be read: then W&B is asked."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=UploadState)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def upload_url(folder: Path) -> str:
    """Return the address of a cell's page on W&B; "" if it has none."""
    state = read_upload_state(folder)
    return state.url if state is not None else ""


def write_upload_state(folder: Path, state: UploadState) -> None:
    """Write the upload state into the folder of the cell or plan."""
    records.write_whole(folder / NAME, (json.dumps(asdict(state)) + "\n").encode(), durable=False)
