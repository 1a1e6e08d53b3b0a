"""Messages exchanged with the process that shows cells on W&B. Imports no torch."""

from dataclasses import dataclass, field
from enum import StrEnum, auto


class UploadEventKind(StrEnum):
    """What happened."""

    online = auto()  # the server has taken the key; url says where
    offline = auto()  # there is no key, and will be none
    retrying = auto()  # the server, or one cell's upload; it is tried again
    shown = auto()  # a cell has a page on W&B; url says where
    uploaded = auto()  # a cell has ended, and W&B has confirmed that it has all of it
    done = auto()  # W&B had all of it already
    partly = auto()  # W&B has the epochs so far; the cell has not ended
    nothing = auto()  # the cell has left nothing yet
    other_process = auto()  # another process shows the cell
    failed = auto()  # W&B did not take the cell, and is not asked again


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowRequest:
    """Cells and plans to show from now on."""

    cells: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadEvent:
    """One event of an upload."""

    kind: UploadEventKind
    cell: str = ""  # "": it is not about one cell
    text: str = ""
    url: str = ""
