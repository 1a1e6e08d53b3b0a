"""A cell frozen at the launch of a sweep, and its outcome."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strive import app
from strive.cells import records
from strive.cells.records import Record, Status
from strive.cells.settings import Settings, settings_of
from strive.config import identity
from strive.errors import RecordError
from strive.json_lines import from_line, to_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One cell to train. Workers and SLURM jobs read this file, never conf/."""

    cell: str  # its id
    config: dict[str, Any]  # {dotted key: value} of what decides its numbers
    logistics: dict[str, Any]  # and of every other key; paths are relative to the launch's directory
    settings: Settings
    frozen: dict[str, str] = field(default_factory=dict)  # what else the app needs to make the config again
    replaces: str = ""  # sha256 of the record file that this training replaces; "" if there is no result yet
    work: float = 0.0  # FLOPs of the remaining forward passes, used to balance cells; 0 if unknown
    code: str = ""  # the code hash at the launch, which must not have changed; "" allows any code

    @property
    def folder(self) -> Path:
        """Return the cell's folder."""
        return Path(self.settings.runs) / self.cell

    @property
    def flat(self) -> dict[str, Any]:
        """Return every key of its config, as `App.flat` does."""
        return self.config | self.logistics

    def result(self) -> Record | None:
        """Return the record that the cell is trained for, None while there is none that can be read."""
        path = records.record_path(self.folder.parent, self.cell)
        try:
            if records.file_hash(path) == self.replaces:
                return None
            record = records.read_record(path)
        except (OSError, RecordError):
            return None  # the worker says what is wrong with it
        return record if record.status.finished else None

    def record_hash(self) -> str:
        """Return the sha256 of the cell's current record, "" if it has none."""
        try:
            return records.file_hash(records.record_path(self.folder.parent, self.cell))
        except OSError:
            return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellOutcome:
    """The outcome of a cell in this launch."""

    cell: str
    status: Status | None  # None: not ended, because it was stopped or refused, or belongs to another process
    cause: str = ""  # one line; "" if it has a result
    log: str = ""  # file with details
    job: str = ""  # the SLURM job that will train it


def task_of(config: Any, **more: Any) -> Task:
    """Return a cell as a worker gets it: whatever happens to conf/ from now on, it trains with these values.

    more: further fields.
    """
    flat, science = app.in_use().flat(config), app.in_use().science(config)
    logistics = {key: value for key, value in flat.items() if key not in science}
    return Task(
        cell=identity.cell_id(config),
        config=science,
        logistics=logistics,
        settings=settings_of(config),
        frozen=app.in_use().frozen(config),
        **more,
    )


def write_tasks(path: Path, tasks: Sequence[Task]) -> None:
    """Write one line per task."""
    records.write_whole(path, b"".join(map(to_line, tasks)))


def read_tasks(path: Path) -> list[Task]:
    """Return the tasks in order, also those of a launch before there were settings. Raises OSError and ValueError."""
    return [_task(line) for line in path.read_bytes().splitlines()]


def _task(line: bytes) -> Task:
    content = json.loads(line)
    if "settings" in content:
        return from_line(Task, line)
    config = app.in_use().config_of(content.pop("config"))  # of a launch before there were settings
    return replace(task_of(config), **content)
