"""A cell as it was frozen when a sweep was launched, and its outcome."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strive.cells import records
from strive.cells.records import Status
from strive.json_lines import from_line, to_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One cell to train. Workers and SLURM jobs read this, never conf/."""

    cell: str  # its id
    config: dict[str, Any]  # every knob, as {dotted key: value}; paths start from the launch's directory
    replaces: str = ""  # sha256 of the record file that this training replaces; "": there is no result yet
    work: float = 0.0  # FLOPs of the forward passes that it has to train, to weigh cells by; 0: not known
    code: str = ""  # the code hash when it was frozen; other code must not train it. "": any code

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        return Path(self.config["runs"]) / self.cell

    def record_hash(self) -> str:
        """Return the sha256 of the record that the cell has now, "" if it has none."""
        try:
            return records.file_hash(records.record_path(self.folder.parent, self.cell))
        except OSError:
            return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellOutcome:
    """How a cell ended in this launch."""

    cell: str
    status: Status | None  # None: it has not ended; it was stopped, refused, or is another process's
    cause: str = ""  # one line; "" if it has a result
    log: str = ""  # where to read more
    job: str = ""  # the SLURM job that is left to train it


def write_tasks(path: Path, tasks: list[Task]) -> None:
    """Write one line per task."""
    records.write_whole(path, b"".join(map(to_line, tasks)))


def read_tasks(path: Path) -> list[Task]:
    """Return the tasks in their order."""
    return [from_line(Task, line) for line in path.read_bytes().splitlines()]
