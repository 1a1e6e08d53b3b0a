"""The part of SLURM launches that runs in a job: trains cells side by side in one allocation. Imports no torch.

A JobPayload is pickled at submission and called in the job (slurm.job_main). SLURM signals every process of
a job, the workers too: each cell writes a checkpoint and stops. What follows depends on the signal.
- USR2 comes some time before the time limit, because the job has asked for it, and on some clusters
  before a preemption: the job's script puts it back into the queue.
- TERM comes before SLURM ends the job, for a preemption, a requeue or a cancel. The job waits for that:
  one that returned now would count as completed, and SLURM would not start it again.
"""

import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from strive import app, signals, streams
from strive.cells.checkpoints import newest_time
from strive.cells.lease import owner_of
from strive.cells.records import Status
from strive.cells.task import CellOutcome, Task
from strive.errors import LeasedError, RecordError
from strive.json_lines import from_line
from strive.launch.devices import Slot, slots
from strive.launch.failure_record import write_failure
from strive.launch.pool import WorkerPool
from strive.options import CellOptions, Retries
from strive.processes import slurm_job, slurm_restarts, slurm_task, usable_cores
from strive.slurm.job_log import JobLog, out_of_retries, start_name, starts
from strive.slurm.snapshot import check_code
from strive.trackers.session import Session, session_of

REQUEUE_CODE = 75  # the exit code after which a job's script puts it back into the queue; sysexits' EX_TEMPFAIL
WARNING = signal.SIGUSR2.name
_IDLE_SECONDS = 600.0  # how long an allocation is held for nothing but cells that other processes train
_ALL_OF_IT = 0.1  # of a start's time may pass before a cell begins that then counts as having had all of it
_END_SECONDS = 900.0  # how long to wait for SLURM to end a job that it has sent TERM


@dataclass(kw_only=True)
class JobPayload:
    """Cells for one job; called in it."""

    submission: Path  # its folder, with tasks.jsonl
    numbers: list[int]  # lines of tasks.jsonl
    code: Path | None = None  # folder of the frozen code; None: whatever is installed
    options: CellOptions = field(default_factory=CellOptions)
    retries: Retries = field(default_factory=Retries)
    timeout_min: int = 60  # of the job
    signal_delay_s: int = 90  # from the warning to the time limit

    def __call__(self) -> None:
        """Train the cells that have not ended; exits with 1 if one failed, so that SLURM shows it."""
        streams.guard()
        if self.code is not None:
            check_code(self.code)
        _JobRun(self, JobLog(self.logs, slurm_job(), slurm_restarts(), slurm_task()[0])).run()

    @property
    def logs(self) -> Path:
        """Where the job writes to."""
        return self.submission / "logs"

    @property
    def share(self) -> list[int]:
        """The lines of tasks.jsonl for this node of the job."""
        task, num_tasks = slurm_task()
        return self.numbers[task::num_tasks]

    def tasks(self) -> list[Task]:
        """Return the cells for this node of the job."""
        wanted = set(self.share)
        with (self.submission / "tasks.jsonl").open("rb") as lines:
            # The other jobs' lines need no parsing.
            return [from_line(Task, line) for number, line in enumerate(lines) if number in wanted]


class _JobRun:
    """One start of a job."""

    def __init__(self, payload: JobPayload, log: JobLog) -> None:
        self.payload, self.log = payload, log
        self._started = time.monotonic()
        self._began: dict[str, tuple[float, int]] = {}  # {cell: seconds after the start, time of its checkpoint}
        self._folders: dict[str, Path] = {}
        self._session: Session | None = None
        self._pool: WorkerPool | None = None
        self._failed = self._has_left = self._at_limit = False

    def run(self) -> None:
        signals.listen()
        payload = self.payload
        job, restart = slurm_job(), slurm_restarts()
        earlier = [start for start in starts(payload.logs, job) if start.restart < restart]
        ended = {cell for start in earlier for cell in start.ended}
        tasks = [task for task in payload.tasks() if task.cell not in ended and task.result() is None]
        self.log.write("start", job=job, restart=restart, node=_node(), host=socket.gethostname(), cells=len(tasks))
        given_up = out_of_retries(earlier, payload.retries)
        tasks = [task for task in tasks if task.cell not in given_up or not self._give_up(task, *given_up[task.cell])]
        if tasks:
            self._train(tasks, job)
        if self._failed:
            sys.exit(1)

    def _train(self, tasks: list[Task], job: str) -> None:
        self._folders = {task.cell: task.folder for task in tasks}
        logs = self.payload.logs / start_name(job, slurm_restarts(), slurm_task()[0])
        session = session_of(
            tasks,
            sweep=self.payload.submission.parent.name,
            log=logs / "wandb.log",
            say=_print,
            # One of hundreds of jobs is enough to upload the plan.
            shows_plan=0 in self.payload.share,
            # The launch has checked what W&B needs; if it is missing in the job, cells train all the same.
            strict=False,
            # After a warning there must be time to put the job back into the queue.
            leave_seconds=self.payload.signal_delay_s / 5,
        )
        with session as self._session:
            self._pool = WorkerPool(
                tasks,
                allocated_slots(self.payload.options, tasks),
                logs=logs,
                retries=self.payload.retries,
                on_ended=self._ended,
                on_tick=self._tick,
                idle_seconds=_IDLE_SECONDS,
            )
            ended = self._pool.run()
        signal_name = self._pool.interrupted or signals.requested()
        if not signal_name or all(end.status is not None for end in ended.values()):
            return
        self._leave(signal_name)
        if signal_name == WARNING:
            self._put_back()
        else:
            await_end()

    def _ended(self, ended: CellOutcome) -> None:
        if self._session is not None:
            self._session.show([ended.cell])
        if ended.status is not None:
            self._failed |= not ended.status.finished
            self.log.write("ended", cell=ended.cell, status=ended.status.value, cause=ended.cause, log=ended.log)
            print(f"{ended.cell}: {ended.status.value}{': ' + ended.cause if ended.cause else ''}", flush=True)
        elif self._pool is not None and self._pool.yields:
            self.log.write("elsewhere", cell=ended.cell)
            print(f"{ended.cell}: left to the process that is training it", flush=True)
        elif not signals.requested() and self._pool is not None and self._pool.broken:
            # The node's fault, not the cell's.
            self._failed = True
            self.log.write("unfit", cause=ended.cause)
            print(f"{ended.cell}: not trained: {ended.cause}", flush=True)
        elif not signals.requested():
            self._failed = True
            self.log.write("refused", cell=ended.cell, cause=ended.cause)
            print(f"{ended.cell}: not trained: {ended.cause}", flush=True)

    def _tick(self, pool: WorkerPool) -> None:
        for cell in self.log.running(pool.running()):
            self._began[cell] = time.monotonic() - self._started, newest_time(self._folders[cell])
        if self._session is not None:
            self._session.show(pool.running())
        if pool.interrupted:
            # At once: SLURM may end this process before the cells have written their checkpoints.
            self._leave(pool.interrupted)
            if pool.interrupted == WARNING:
                # Time must be left to put the job back into the queue.
                pool.stop(max(1.0, min(60.0, self.payload.signal_delay_s / 2)))

    def _give_up(self, task: Task, status: Status, cause: str) -> bool:
        """Record that the cell failed in this job's earlier starts; False if another process trains it."""
        before = owner_of(task.folder)
        # SLURM has ended the job's earlier start before it began this one.
        own = before is not None and before.job == slurm_job() and before.restart < slurm_restarts()
        try:
            write_failure(task, status, cause, "", fence=before.token if before and own else "")
        except LeasedError:
            return False
        except (RecordError, OSError) as error:
            cause = f"{cause}; this could not be recorded: {error}"
        self._ended(CellOutcome(cell=task.cell, status=status, cause=cause))
        return True

    def _put_back(self) -> None:
        """End so that this job goes back into the queue, after the warning before its end."""
        self.log.write("requeued", stuck=self._stuck() if self._at_limit else [])
        print("the job goes back into the queue", flush=True)
        os._exit(REQUEUE_CODE)

    def _stuck(self) -> list[str]:
        """Return the cells that had all of this start's time and wrote no checkpoint in it."""
        late = _ALL_OF_IT * (time.monotonic() - self._started)
        return sorted(
            cell
            for cell, (began, checkpoint) in self._began.items()
            if began <= late and newest_time(self._folders[cell]) <= checkpoint
        )

    def _leave(self, signal_name: str) -> None:
        """Log, once, why this start ends before its cells."""
        if self._has_left:
            return
        self._has_left = True
        ran = time.monotonic() - self._started
        # SLURM warns up to a minute earlier than it was asked to.
        self._at_limit = ran >= 60 * self.payload.timeout_min - self.payload.signal_delay_s - 75
        status, cause = Status.preempted, f"SLURM took its node ({signal_name})"
        if self._at_limit:
            status, cause = Status.timeout, f"the time limit of {self.payload.timeout_min} min"
        self.log.write("left", status=status.value, cause=cause, seconds=round(ran, 1))
        print(f"left after {ran:.0f} s: {cause}", flush=True)


def await_end() -> None:
    """Wait until SLURM ends this job, after it has said that it will."""
    end = time.monotonic() + _END_SECONDS
    while time.monotonic() < end:
        time.sleep(1)
    os._exit(1)


def allocated_slots(options: CellOptions, tasks: list[Task]) -> list[Slot]:
    """Return where to train in this job's allocation."""
    device = tasks[0].settings.device
    # Without SLURM's affinity plugin a process may use cores that belong to other jobs.
    cores = min(usable_cores(), int(os.environ.get("SLURM_CPUS_ON_NODE") or sys.maxsize))
    return slots(options, len(tasks), side_by_side=app.in_use().side_by_side, device=device, cores=cores)


def _print(message: str) -> None:
    print(message, flush=True)


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME", "")
