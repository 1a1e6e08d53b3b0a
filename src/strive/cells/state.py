"""State of a cell, found from what lies in its folder. Imports no torch."""

from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path

from strive.cells.history import read_lines
from strive.cells.lease import Owner, is_older, owner_of, surely_dead
from strive.cells.records import Status


class CellState(StrEnum):
    """State of a cell, as far as it lies on disk or SLURM knows it."""

    done = auto()
    diverged = auto()
    running = auto()
    waiting = auto()  # a launch that is alive, or a SLURM job, will train it
    failed = auto()
    unreadable = auto()  # there is a record that cannot be read
    contradictory = auto()  # the plan, or another file of the cell, contradicts the record
    stopped = auto()  # begun and left; the next launch goes on
    missing = auto()  # not begun

    @property
    def finished(self) -> bool:
        """Whether there is a result."""
        return self in (CellState.done, CellState.diverged)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the cell in this launch."""
        return self.finished or self in (CellState.failed, CellState.unreadable, CellState.contradictory)


@dataclass(frozen=True, slots=True)
class FolderState:
    """State of a cell as its folder shows it."""

    state: CellState
    owner: Owner | None = None  # who trains it; of a stopped cell who trained it last, if it left its claim
    epochs_done: int = 0  # 0 if there is a result
    has_checkpoint: bool = False  # whether training goes on from one


def find_state(folder: Path, record: Status | None) -> FolderState:
    """Return the state of the cell in `folder`: running, done, diverged, failed, stopped or missing.

    record: the status in the cell's record; None if it has none.
    """
    owner = _owner(folder)
    if owner is not None and _trains(folder, owner):
        return FolderState(CellState.running, owner, len(read_lines(folder)), has_checkpoint(folder))
    if record is not None and record.finished:
        return FolderState(CellState(record.value))
    resumes = has_checkpoint(folder)
    if record is None and owner is None and not resumes:
        return FolderState(CellState.missing)
    state = CellState.stopped if record is None else CellState.failed
    return FolderState(state, owner, len(read_lines(folder)), resumes)


def living_owner(folder: Path) -> Owner | None:
    """Return the process that trains the cell in `folder`, as far as is known; None if there is none."""
    owner = _owner(folder)
    return owner if owner is not None and _trains(folder, owner) else None


def has_checkpoint(folder: Path) -> bool:
    """Return whether training in a folder can go on from a checkpoint."""
    return any((folder / name).exists() for name in ("checkpoint.pt", "checkpoint-previous.pt"))


def _owner(folder: Path) -> Owner | None:
    try:
        return owner_of(folder)
    except OSError:
        return None


def _trains(folder: Path, owner: Owner) -> bool:
    """Return whether an owner is alive, as far as is known, and has not written the record yet."""
    if surely_dead(owner):
        return False
    try:
        # Once it is written only the claim is left to be given back.
        return not is_older(folder, owner, (folder / "record.json").stat().st_mtime_ns)
    except OSError:
        return True
