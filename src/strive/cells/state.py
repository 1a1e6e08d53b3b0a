"""State of a cell, derived from the files in its folder. Imports no torch."""

from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path

from strive.cells.checkpoints import has_checkpoint
from strive.cells.history import read_lines
from strive.cells.lease import Owner, is_older, owner_of, surely_gone
from strive.cells.records import Status


class CellState(StrEnum):
    """State of a cell, from its folder, and from SLURM if it is waiting."""

    done = auto()
    diverged = auto()
    running = auto()
    waiting = auto()  # a live launch or a SLURM job will train it
    failed = auto()
    unreadable = auto()  # its record cannot be read
    contradictory = auto()  # the plan, or another file of the cell, contradicts the record
    stopped = auto()  # started and stopped; the next launch resumes it
    missing = auto()  # not started

    @property
    def finished(self) -> bool:
        """Return whether there is a result."""
        return self in (CellState.done, CellState.diverged)

    @property
    def ended(self) -> bool:
        """Return whether this launch will do no more for the cell."""
        return self.finished or self in (CellState.failed, CellState.unreadable, CellState.contradictory)


@dataclass(frozen=True, slots=True)
class FolderState:
    """State of a cell, from its folder alone."""

    state: CellState
    owner: Owner | None = None  # the process that trains it, or that stopped without releasing its claim
    epochs_done: int = 0  # 0 if there is a result
    has_checkpoint: bool = False  # whether training can resume from one


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
    """Return the process that trains the cell in `folder`, as far as known; None if there is none."""
    owner = _owner(folder)
    return owner if owner is not None and _trains(folder, owner) else None


def _owner(folder: Path) -> Owner | None:
    try:
        return owner_of(folder)
    except OSError:
        return None


def _trains(folder: Path, owner: Owner) -> bool:
    """Return whether an owner seems to be alive and has not yet written the record."""
    if surely_gone(owner):
        return False
    try:
        # After writing the record the owner only has to release its claim.
        return not is_older(folder, owner, (folder / "record.json").stat().st_mtime_ns)
    except OSError:
        return True
