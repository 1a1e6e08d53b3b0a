"""Messages between a pool and its workers: one line of JSON each."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from strive.cells.records import Status
from strive.cells.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRequest:
    """Train this cell."""

    task: Task
    fence: str = ""  # token of a claim on the cell whose process is gone; "" if there is none


class EventKind(StrEnum):
    """Kinds of events that a worker reports."""

    ready = auto()  # it can train
    began = auto()  # with the cell it was given
    ended = auto()  # the cell has a record, `status` says how it ended
    owned = auto()  # another process trains the cell
    returned = auto()  # the cell is to train again, together with fewer others, and nothing was recorded
    stopped = auto()  # the cell was left, because `cause` asked for it
    refused = auto()  # this worker must not or cannot train the cell, and nothing was recorded
    crashed = auto()  # training raised an error that left no record


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerEvent:
    """One event that a worker reports."""

    kind: EventKind
    cell: str = ""
    status: Status | None = None
    cause: str = ""  # one line
    traceback: str = ""
    exits: bool = False  # the worker ends after this; another one must take its place
    companions: int = 0  # so many others trained in the process when the cell ended
    room: int = 0  # of `returned`: how many cells at once the worker can or should train
    seen: dict[str, Any] = field(default_factory=dict)  # fields of Provenance that the worker knows
