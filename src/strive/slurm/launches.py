"""Launches of a runs folder, read from disk, and which of them are alive. Imports no torch."""

import json
import re
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from strive.cells.task import Task, read_tasks
from strive.errors import QueueError
from strive.launch.submission import cancel_file
from strive.processes import boot_id, is_gone
from strive.slurm.squeue import JobInfo, JobPhase, SlurmQueue

_LOOKS = 3  # at jobs that squeue does not know, for it to be sure that they are gone
_QUIET_SECONDS = 10.0  # between two questions to SLURM, which all users share


@dataclass(frozen=True)  # no slots: cached_property needs a place
class Launch:
    """One launch of a sweep, as its launch.json describes it."""

    folder: Path
    launcher: str  # local or slurm
    host: str
    pid: int
    time: str  # UTC, ISO 8601
    boot: str = ""  # of the host, as for cells.lease.Owner; "" in launches of earlier versions
    pid_started: str = ""
    working_directory: str = ""  # of the command that launched it
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of its launcher; {} in earlier versions

    @property
    def cancel_file(self) -> Path:
        """The file that appears where the launch is cancelled."""
        return cancel_file(self.folder)

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


@dataclass(frozen=True, slots=True)
class Job:
    """A SLURM job that has, or had, a cell."""

    id: str
    info: JobInfo
    launch: Launch


class Launches:
    """The launches of a runs folder; ask the same object again, it remembers what does not change."""

    def __init__(self, runs: Path) -> None:
        self._runs, self._queue = runs, SlurmQueue()
        self._known: dict[Path, Launch] = {}
        self._live: dict[str, Job] = {}
        self._next_look = float("-inf")
        self.queue_error = ""  # why SLURM could not be asked, "" if it could

    def of(self, sweep: str) -> list[Launch]:
        """Return the launches of one sweep, the newest first."""
        paths = (self._runs / "sweeps" / sweep).glob("*/launch.json")
        return [launch for path in sorted(paths, reverse=True) if (launch := self._read(path)) is not None]

    def live_jobs(self) -> dict[str, Job]:
        """Return {cell: its job} of all jobs that are queued or running; some seconds old if asked often."""
        if time.monotonic() >= self._next_look:
            self._live = self._look()
            self._next_look = time.monotonic() + _QUIET_SECONDS
        return self._live

    def _look(self) -> dict[str, Job]:
        launches = {launch: launch.jobs for launch in self._submitted()}
        self.queue_error = ""
        if not launches:
            return {}
        try:
            live = self._queue.live_now({job for jobs in launches.values() for job in jobs})
        except QueueError as error:
            self.queue_error = str(error)
            return {}
        return {
            cell: Job(job, live[job], launch)
            for launch, jobs in launches.items()
            for job, numbers in jobs.items()
            # A cluster that was set up anew counts from 1 again: such a job may be another user's.
            if job in live and belongs_to(live[job].command, launch.folder)
            for cell in launch.cells_at(numbers)
        }

    def ended_jobs(self, jobs: Collection[str]) -> dict[str, JobInfo]:
        """Return how jobs ended that are not alive any more, as far as SLURM knows."""
        infos: dict[str, JobInfo] = {}
        with suppress(QueueError):
            for _ in range(_LOOKS if jobs and not self.queue_error else 0):
                infos = self._queue.ask(jobs)
        return {job: info for job, info in infos.items() if info.phase is JobPhase.gone}

    def _submitted(self) -> Iterator[Launch]:
        for path in sorted(self._runs.glob("sweeps/*/*/jobs.json")):
            if (launch := self._read(path.with_name("launch.json"))) is not None:
                yield launch

    def _read(self, path: Path) -> Launch | None:
        folder = path.parent
        if folder not in self._known:
            launch = read_launch(folder)
            if launch is None:
                return None
            self._known[folder] = launch
        return self._known[folder]


def read_launch(folder: Path) -> Launch | None:
    """Return the launch that a folder belongs to; None while it is being written, or if it was deleted."""
    try:
        content = json.loads((folder / "launch.json").read_text(encoding="utf-8"))
        process = {name: content.get(name, "") for name in ("boot", "pid_started")}
        how = {"working_directory": content["folder"], "options": content.get("options", {})}
        return Launch(folder, **{name: content[name] for name in ("launcher", "host", "pid", "time")}, **process, **how)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_jobs(submission: Path) -> dict[str, list[int]]:
    """Return {job: places in tasks.jsonl} of a submission's SLURM jobs; empty until it has submitted.

    Raises OSError if the file is there and cannot be read.
    """
    try:
        content = json.loads((submission / "jobs.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {job: numbers for job, numbers in content.items() if re.fullmatch(r"\d+(_\d+)?", job)}


def belongs_to(command: str, submission: Path) -> bool:
    """Return whether a job's command, as SLURM shows it, may be one of this submission."""
    # Not every cluster shows the batch script; its path may be another one there.
    return submission.name in command or not command.startswith("/")
