"""The folder of a launch: frozen cells and who launched them, written before anything trains. Imports no torch."""

import json
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from strive.cells import records
from strive.cells.task import Task, read_tasks, write_tasks
from strive.processes import boot_id, is_gone, start_time

# {attribute of a Launch: key in launch.json}
_KEYS = {name: name for name in ("launcher", "host", "pid", "boot", "pid_started", "time", "options")}
_KEYS["working_directory"] = "folder"


@dataclass(frozen=True)  # no slots: cached_property needs a place
class Launch:
    """One launch of a sweep, as its launch.json describes it."""

    folder: Path
    launcher: str  # local or slurm
    host: str
    pid: int
    time: str  # UTC, ISO 8601
    working_directory: str  # of the command that launched it
    boot: str = ""  # of the host, as for cells.lease.Owner; "" in launches of earlier versions
    pid_started: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of its launcher; {} in earlier versions

    @property
    def sweep(self) -> str:
        """The name of the plan whose cells it trains."""
        return self.folder.parent.name

    @property
    def cancel_file(self) -> Path:
        """The file that appears where the launch is cancelled."""
        return cancel_file(self.folder)

    @property
    def logs(self) -> Path:
        """Where workers and jobs write what they print."""
        return self.folder / "logs"

    @cached_property
    def tasks(self) -> list[Task]:
        """The cells that it trains or waits for, as they were frozen. Raises OSError and ValueError."""
        return read_tasks(self.folder / "tasks.jsonl")

    @cached_property
    def cells(self) -> list[str]:
        """The cells that it trains or waits for, in the order of tasks.jsonl; none if the file was deleted."""
        try:
            return [task.cell for task in self.tasks]
        except (OSError, ValueError, TypeError):
            return []

    @property
    def jobs(self) -> dict[str, list[int]]:
        """Its SLURM jobs: {id: places in `cells`}; empty for a local launch, and until it has submitted."""
        try:
            return read_jobs(self.folder)
        except OSError:
            return {}

    def cells_at(self, numbers: Collection[int]) -> list[str]:
        """Return the cells of a job."""
        return [self.cells[number] for number in numbers if number < len(self.cells)]

    @property
    def alive(self) -> bool | None:
        """Whether its process is there; None: it is on another machine, which cannot be seen from here."""
        if self.host != socket.gethostname():
            return None
        # A machine that was started again since has another boot id, and none of its old processes.
        return self.boot == boot_id() and not is_gone(self.pid, self.pid_started)


def write_launch(plan: Path, tasks: Sequence[Task], launcher: str, options: Mapping[str, Any] | None = None) -> Launch:
    """Write frozen cells, and who launches them, into a new folder below a plan's.

    options: the launcher's, for those who train the cells later.
    """
    launch = Launch(
        folder=plan / f"{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:8]}",
        launcher=launcher,
        host=socket.gethostname(),
        pid=os.getpid(),
        time=records.utc_now(),
        boot=boot_id(),
        pid_started=start_time(os.getpid()) or "",
        working_directory=os.getcwd(),
        options=dict(options or {}),
    )
    launch.logs.mkdir(parents=True)
    write_tasks(launch.folder / "tasks.jsonl", tasks)
    vars(launch)["tasks"] = list(tasks)  # the cached property: they need not be read again
    content = {key: getattr(launch, name) for name, key in _KEYS.items()}
    records.write_whole(launch.folder / "launch.json", (json.dumps(content, indent=1) + "\n").encode(), durable=False)
    return launch


def read_launch(folder: Path) -> Launch | None:
    """Return the launch that a folder belongs to; None while it is being written, or if it was deleted."""
    try:
        content = json.loads((folder / "launch.json").read_text(encoding="utf-8"))
        return Launch(folder, **{name: content[key] for name, key in _KEYS.items() if key in content})
    except (OSError, ValueError, TypeError):
        return None


class Launches:
    """The launches of a runs folder; ask the same object again, it remembers what does not change."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[Path, Launch] = {}

    def of(self, sweep: str) -> list[Launch]:
        """Return the launches of one sweep, the newest first."""
        paths = (self._runs / "sweeps" / sweep).glob("*/launch.json")
        return [launch for path in sorted(paths, reverse=True) if (launch := self._read(path.parent)) is not None]

    def submitted(self) -> Iterator[Launch]:
        """Yield those that have SLURM jobs."""
        for path in sorted(self._runs.glob("sweeps/*/*/jobs.json")):
            if (launch := self._read(path.parent)) is not None:
                yield launch

    def _read(self, folder: Path) -> Launch | None:
        if folder not in self._known and (launch := read_launch(folder)) is not None:
            self._known[folder] = launch
        return self._known.get(folder)


def cancel_file(folder: Path) -> Path:
    """Return the file in the folder of a launch with which `strive cancel` stops it, wherever it trains."""
    return folder / "cancelled"


def read_jobs(folder: Path) -> dict[str, list[int]]:
    """Return {job: places in tasks.jsonl} of a launch's SLURM jobs; empty until it has submitted.

    Raises OSError if the file is there and cannot be read.
    """
    try:
        content = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {job: numbers for job, numbers in content.items() if re.fullmatch(r"\d+(_\d+)?", job)}
