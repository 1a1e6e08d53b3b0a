"""A cell frozen at the launch of a sweep, and its outcome."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strive.cells import records
from strive.cells.records import Status
from strive.json_lines import from_line, to_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One cell to train. Workers and SLURM jobs read this file, never conf/."""

    cell: str  # its id
    config: dict[str, Any]  # every knob, as {dotted key: value}; paths are relative to the launch's directory
    replaces: str = ""  # sha256 of the record file that this training replaces; "" if there is no result yet
    work: float = 0.0  # FLOPs of the remaining forward passes, used to balance cells; 0 if unknown
    code: str = ""  # the code hash at the launch, which must not have changed; "" allows any code

    @property
    def folder(self) -> Path:
        """Return the cell's folder."""
        return Path(self.config["runs"]) / self.cell

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


def write_tasks(path: Path, tasks: list[Task]) -> None:
    """Write one line per task."""
    records.write_whole(path, b"".join(map(to_line, tasks)))


def read_tasks(path: Path) -> list[Task]:
    """Return the tasks in order."""
    return [from_line(Task, line) for line in path.read_bytes().splitlines()]
