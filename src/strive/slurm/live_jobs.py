"""Jobs of a runs folder's launches that SLURM has queued or running, for who asks again and again. Imports no torch."""

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strive.errors import QueueError
from strive.launch.launch_folder import Launch, Launches
from strive.slurm.squeue import JobInfo, JobPhase, SlurmQueue

_LOOKS = 3  # at jobs that squeue does not know, for it to be sure that they are gone
_QUIET_SECONDS = 10.0  # between two questions to SLURM, which all users share


@dataclass(frozen=True, slots=True)
class Job:
    """A SLURM job that has, or had, a cell."""

    id: str
    info: JobInfo
    launch: Launch


class LiveJobs:
    """The jobs of launches, as SLURM knows them."""

    def __init__(self, launches: Launches) -> None:
        self._launches, self._queue = launches, SlurmQueue()
        self._live: dict[str, Job] = {}
        self._next_look = float("-inf")
        self.queue_error = ""  # why SLURM could not be asked, "" if it could

    def by_cell(self) -> dict[str, Job]:
        """Return {cell: its job} of all jobs that are queued or running; some seconds old if asked often."""
        if time.monotonic() >= self._next_look:
            self._live = self._look()
            self._next_look = time.monotonic() + _QUIET_SECONDS
        return self._live

    def _look(self) -> dict[str, Job]:
        launches = {launch: launch.jobs for launch in self._launches.submitted()}
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

    def ended(self, jobs: Collection[str]) -> dict[str, JobInfo]:
        """Return how jobs ended that are not alive any more, as far as SLURM knows."""
        infos: dict[str, JobInfo] = {}
        with suppress(QueueError):
            for _ in range(_LOOKS if jobs and not self.queue_error else 0):
                infos = self._queue.ask(jobs)
        return {job: info for job, info in infos.items() if info.phase is JobPhase.gone}


def belongs_to(command: str, folder: Path) -> bool:
    """Return whether a job's command, as SLURM shows it, may be one of the launch in this folder."""
    # Not every cluster shows the batch script; its path may be another one there.
    return folder.name in command or not command.startswith("/")
