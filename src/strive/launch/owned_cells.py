"""Cells of a launch that processes outside of it train, watched until each one is free. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from strive.cells import records
from strive.cells.lease import LeaseMonitor, Owner, owner_of
from strive.cells.records import Record
from strive.cells.task import Task
from strive.errors import RecordError

Purpose = TypeVar("Purpose")


@dataclass(frozen=True, slots=True)
class ReleasedCell(Generic[Purpose]):
    """A cell that its owner trains no more."""

    task: Task
    purpose: Purpose
    record: Record | None  # that the owner left; None: the cell is to be trained
    fence: str  # token of the owner that is gone, and to be shut out; "" if it gave the cell back


@dataclass(slots=True)
class _Owned(Generic[Purpose]):
    task: Task
    purpose: Purpose
    owner: Owner | None  # as last shown to the user
    record: str  # sha256 of the record file when the owner was found; "" if there was none


class OwnedCells(Generic[Purpose]):
    """The cells of a launch that other processes own. Purpose: what the caller keeps with each."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._cells: dict[str, _Owned[Purpose]] = {}
        self._leases = LeaseMonitor()

    def add(self, task: Task, purpose: Purpose) -> None:
        """Watch a cell that another process has claimed."""
        self._cells[task.cell] = _Owned(task, purpose, None, task.record_hash())

    def discard(self, cell: str) -> None:
        """Watch a cell no longer, if it was watched."""
        self._cells.pop(cell, None)

    def owners(self) -> dict[str, Owner | None]:
        """Return the cells that are watched, and who trains each, where that is known by now."""
        return {name: cell.owner for name, cell in self._cells.items()}

    def freed(self) -> list[ReleasedCell[Purpose]]:
        """Look at the owners, and return the cells that are watched no more because they are free or have a result."""
        found = [freed for cell in self._cells.values() if (freed := self._look(cell)) is not None]
        for freed in found:
            del self._cells[freed.task.cell]
        return found

    def _look(self, cell: _Owned[Purpose]) -> ReleasedCell[Purpose] | None:
        folder = cell.task.folder
        owner = owner_of(folder)
        fence = self._leases.fence(folder)
        # Read after the claim: its owner writes the record first and then gives the cell back.
        record = _new_record(cell)
        if record is not None and (record.status.finished or owner is None):
            return ReleasedCell(cell.task, cell.purpose, record, "")
        if owner is None or fence is not None:
            return ReleasedCell(cell.task, cell.purpose, None, fence or "")
        if cell.owner is None or cell.owner.token != owner.token:
            cell.owner = owner
            self._say(f"{cell.task.cell} waits: it is being trained by {owner}")
        return None


def _new_record(cell: _Owned[Purpose]) -> Record | None:
    task = cell.task
    try:
        known = task.record_hash() in ("", cell.record, task.replaces)
        return None if known else records.read_record(records.record_path(task.folder.parent, task.cell))
    except (OSError, RecordError):  # a worker will say what is wrong with it
        return None
