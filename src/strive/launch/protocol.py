"""What a pool and its workers say to each other: one line of JSON each."""

import dataclasses
import json
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Self

from strive.cells.records import Status
from strive.launch.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Train this cell."""

    task: Task
    fence: str = ""  # token of a dead process's claim on the cell; "" if nobody is to be shut out

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps({"task": dataclasses.asdict(self.task), "fence": self.fence}, allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what to_json wrote."""
        content = json.loads(line)
        return cls(task=Task(**content["task"]), fence=content["fence"])


class Kind(StrEnum):
    """What a worker has to say."""

    ready = auto()  # it can train
    began = auto()  # with the cell it was given
    ended = auto()  # the cell has a record, `status` says how it ended
    owned = auto()  # another process trains the cell
    returned = auto()  # the cell is to train again, beside fewer others, and nothing was recorded
    stopped = auto()  # the cell was left, because `cause` asked for it
    refused = auto()  # this worker must not or cannot train the cell, and nothing was recorded
    crashed = auto()  # something came out of run_cell that left no record


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One thing that a worker has to say."""

    kind: Kind
    cell: str = ""
    status: Status | None = None
    cause: str = ""  # one line
    traceback: str = ""
    leaves: bool = False  # the worker ends after this; another one must take its place
    beside: int = 0  # so many others trained in the process when the cell ended
    room: int = 0  # of `returned`: how many cells at once the worker can or should train
    seen: dict[str, str | int] = field(default_factory=dict)  # fields of Provenance that the worker knows

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what to_json wrote."""
        content = json.loads(line)
        status = content["status"]
        return cls(**content | {"kind": Kind(content["kind"]), "status": Status(status) if status else None})
