"""Cells that other processes train: watched until they end, or their owner is found dead. Imports no torch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strive.cells import records
from strive.cells.lease import Owner, Silence, owner_of
from strive.cells.records import Record, RecordError
from strive.launch.protocol import Order
from strive.launch.task import Task

_LOOK_SECONDS = 1.0  # between two looks: an owner's end comes without a word


@dataclass(slots=True)
class _Cell:
    order: Order
    owner: Owner | None  # as last told to the user
    record: str  # sha256 of the record file when another process was first found on the cell; "" if there was none


class Elsewhere:
    """The cells of a launch that other processes train."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._cells: dict[str, _Cell] = {}
        self._silence = Silence()
        self._next_look = 0.0

    def add(self, order: Order) -> None:
        """Watch a cell that somebody else has claimed."""
        self._cells[order.task.cell] = _Cell(order, None, _record_hash(order.task))

    def owners(self) -> dict[str, Owner | None]:
        """Return the cells that are watched, and who trains each, where that is known by now."""
        return {name: cell.owner for name, cell in self._cells.items()}

    def look(self) -> list[tuple[Order, Record | None]]:
        """Return the cells that others train no more, with the records that they left; without one the cell is free."""
        now = time.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + _LOOK_SECONDS
        over = [(name, end) for name, cell in self._cells.items() if (end := self._end(cell)) is not None]
        for name, _ in over:
            del self._cells[name]
        return [end for _, end in over]

    def _end(self, cell: _Cell) -> tuple[Order, Record | None] | None:
        task = cell.order.task
        owner = owner_of(task.folder)
        dead = self._silence.stale(task.folder)
        # Read after the claim: its owner writes the record first and then gives the cell back.
        record = _new_record(cell)
        if record is not None and (record.status.finished or owner is None):
            return cell.order, record
        if owner is None or dead is not None:
            return Order(task=task, fence=dead.token if dead else ""), None
        if cell.owner is None or cell.owner.token != owner.token:
            cell.owner = owner
            self._say(f"{task.cell} waits: it is being trained by {owner}")
        return None


def _path(task: Task) -> Path:
    return records.record_path(task.folder.parent, task.cell)


def _record_hash(task: Task) -> str:
    try:
        return records.file_hash(_path(task))
    except FileNotFoundError:
        return ""


def _new_record(cell: _Cell) -> Record | None:
    task = cell.order.task
    try:
        known = _record_hash(task) in ("", cell.record, task.replaces)
        return None if known else records.read_record(_path(task))
    except (OSError, RecordError):  # a worker will say what is wrong with it
        return None
