"""The job that submits what a full queue did not take, after its launch has detached. Imports no torch."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from strive import signals, streams
from strive.launch.launch_folder import cancel_file
from strive.options import SlurmOptions
from strive.processes import slurm_job
from strive.slurm.job import REQUEUE_CODE, WARNING, await_end
from strive.slurm.jobs import FrozenCode, SlurmJobs
from strive.slurm.submit_queue import SubmitQueue


@dataclass(kw_only=True)
class SubmitRest:
    """Cells that this job submits as others end, frozen as they were at the launch; called in the job.

    Until it has submitted them jobs.json names them as its own, so that no other launch submits them, too.
    """

    submission: Path
    options: SlurmOptions
    code: FrozenCode

    def __call__(self) -> None:
        """Submit the cells that jobs.json gives to this job."""
        streams.guard()
        signals.listen()
        jobs = SlurmJobs(self.submission, self.options, code=self.code)
        queue, own = SubmitQueue(jobs, _print), slurm_job()
        for number in jobs.jobs[own]:
            queue.add(number)
        while queue.held_back and not signals.requested():
            if cancel_file(self.submission).exists():
                return
            if taken := queue.submit([own]):
                jobs.take_from(own, taken)
            else:
                time.sleep(1)
        if queue.held_back and signals.requested() == WARNING:
            os._exit(REQUEUE_CODE)
        if queue.held_back:
            await_end()


def _print(message: str) -> None:
    print(message, flush=True)
