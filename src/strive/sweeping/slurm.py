"""A sweep on a cluster: jobs through submitit, waiting by records first and the queue second. Imports no torch."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strive import records, stop
from strive.claim import ClaimedError, Owner, Silence, owner_of, surely_dead
from strive.records import RecordError, Status
from strive.sweeping.fate import Fate, fate_of
from strive.sweeping.joblog import starts
from strive.sweeping.obituary import write_failure
from strive.sweeping.queue import Kind, SlurmQueue, Verdict
from strive.sweeping.slurm_jobs import (
    Array,
    SlurmJobs,
    SubmitError,
    TooManyJobsError,
    continue_command,
    live_cells,
    record_hash,
    submissions,
)
from strive.sweeping.slurm_options import SlurmOptions
from strive.sweeping.task import Ended
from strive.sweeping.view import View

if TYPE_CHECKING:  # the module of the plan imports torch
    from strive.sweeping.submission import Submission

__all__ = ["SlurmOptions", "continue_command", "live_cells", "train_on_slurm"]

_SLICE_SECONDS = 0.2  # how soon a signal is heeded while waiting
_RARELY = 12  # looks between two at the records of cells whose jobs wait
_FREE_TRIES = 100  # how often a cell may come into a job that ends before the cell begins


def train_on_slurm(
    submission: "Submission",
    options: SlurmOptions,
    *,
    title: str,
    waiting: Mapping[str, str] | None = None,
    dependency: str = "",
) -> dict[str, Ended]:
    """Train the submission's cells in SLURM jobs and return how each one ended; None where that is not known yet.

    Cells that an earlier submission has in the queue are waited for, and submitted only if that job
    ends without them. With options.detach, or when the user leaves at Ctrl-C, the jobs go on; the
    same command comes back to them.

    waiting: {cell: job} of the cells in the queue, where the caller has asked (live_cells) already.
    dependency: sbatch's, such as afterok:12.

    Raises SubmitError or QueueError if SLURM takes no jobs, SnapshotError if the code cannot be frozen.
    """
    options.check()
    jobs = SlurmJobs(submission.folder, options, dependency=dependency)
    folders = {task.cell: task.folder for task in jobs.tasks}
    if waiting is None:
        waiting = {}
        for runs in {folder.parent for folder in folders.values()}:
            waiting = waiting | live_cells(runs)
    with_job = {cell: waiting[cell] for cell in folders if cell in waiting}
    view = View(folders, total=len(folders), done=0, title=title)
    watch = _Watch(jobs, options, with_job, view)
    with _signals_noted():
        watch.begin()
        while not watch.over:
            with view:
                watch.wait()
            if reason := stop.requested():
                stop.forget()
                _heed(reason, watch)
    return watch.ended


@contextmanager
def _signals_noted() -> Iterator[None]:
    """Heed Ctrl-C between two looks: anywhere else it would leave a cell that belongs to nobody."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    stop.listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.forget()


def _heed(reason: str, watch: "_Watch") -> None:
    """Do what the user wants after a signal: cancel the jobs, leave them, or go on waiting."""
    answer = _asked(watch.live_jobs()) if reason == "SIGINT" else "d"
    if answer == "c":
        watch.cancel()
    elif answer in ("d", ""):
        watch.detach()


def _asked(jobs: Collection[str]) -> str:
    if not sys.stdin.isatty():
        return "d"
    print(
        f"{len(jobs)} SLURM jobs are queued or running. c = cancel them, d = detach: leave them alone (default),"
        " anything else = go on waiting",
        file=sys.stderr,
    )
    noted = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input("> ").strip().lower()
    except (EOFError, KeyboardInterrupt):
        return "d"
    finally:
        signal.signal(signal.SIGINT, noted)


@dataclass(slots=True)
class _Elsewhere:
    """A cell that a process outside of this launch's jobs has claimed, and what follows if that one dies."""

    owner: Owner
    fate: Fate | None  # of the job that should have trained it; None: it was not submitted yet


class _Watch:
    """The cells of a launch until each one has ended."""

    def __init__(self, jobs: SlurmJobs, options: SlurmOptions, with_job: dict[str, str], view: View) -> None:
        self.ended: dict[str, Ended] = {}
        self.over = False
        self._jobs, self._options, self._view = jobs, options, view
        self._numbers = {task.cell: number for number, task in enumerate(jobs.tasks)}
        self._open = {task.cell: task for task in jobs.tasks}
        self._before = {task.cell: record_hash(task) for task in jobs.tasks}
        self._with_job = with_job
        self._elsewhere: dict[str, _Elsewhere] = {}
        self._to_submit: list[str] = []
        self._backlog = deque[Array]()  # what the cluster did not take yet
        self._queue, self._silence = SlurmQueue(), Silence()
        self._tries = Counter[tuple[str, Status | None]]()
        self._verdicts: dict[str, Verdict] = {}
        self._announced = set[str]()
        self._earlier: dict[str, Path] | None = None  # {job of an earlier submission: its folder}
        self._looks = 0

    def begin(self) -> None:
        """Submit what nobody trains yet."""
        if self._with_job:
            self._view.say(f"waits for {_cells(self._with_job)} of earlier submissions: SLURM {self._ids()}")
        for cell, task in self._open.items():
            if cell in self._with_job:
                continue
            owner = owner_of(task.folder)
            # Detached, nobody is there to see such an owner die; then its job waits for it.
            if owner is not None and not surely_dead(owner) and not self._options.detach:
                self._elsewhere[cell] = _Elsewhere(owner, None)
                self._view.say(f"{cell} waits: it is being trained by {owner}")
            else:
                self._to_submit.append(cell)
        self._submit()
        if self._options.detach:
            self.detach()

    def wait(self) -> None:
        """Look at records and the queue until every cell has ended, or a signal comes."""
        while not self._is_over() and not stop.requested():
            self._look()
            self._show()
            end = time.monotonic() + (0 if self._is_over() else self._options.poll_seconds)
            while time.monotonic() < end and not stop.requested():
                time.sleep(_SLICE_SECONDS)

    def _is_over(self) -> bool:
        self.over |= not self._open
        return self.over

    def live_jobs(self) -> list[str]:
        """Return the jobs that still have cells to train."""
        return sorted(set(self._with_job.values()), key=_job_order)

    def cancel(self) -> None:
        """Cancel the jobs of this launch, and end."""
        ids = self._arrays()
        result = subprocess.run(["scancel", *ids], capture_output=True, text=True)
        said = result.stderr.strip()
        self._view.say(f"cancelled SLURM {' '.join(ids)}{': ' + said if said else ''}; the same command goes on")
        self._leave_open("cancelled", to_jobs=False)

    def detach(self) -> None:
        """Leave the jobs alone, and end."""
        ids = self._arrays()
        if ids:
            self._view.say(
                f"detached from {_cells(self._with_job)}; the same command waits for them again."
                f" To cancel: scancel {' '.join(ids)}"
            )
        if self._backlog:
            count = sum(len(pack) for array in self._backlog for pack in array.packs)
            self._view.say(f"{count} cells are not submitted: SLURM takes no more jobs now; the same command does it")
        self._leave_open("in the queue", to_jobs=True)

    def _leave_open(self, cause: str, *, to_jobs: bool) -> None:
        for cell in list(self._open):
            job = self._with_job.get(cell, "")
            why = f"SLURM job {job}: {cause}" if job else "not submitted"
            self._end(Ended(cell=cell, status=None, cause=why, job=job if to_jobs else ""))
        self.over = True

    def _arrays(self) -> list[str]:
        return sorted({job.partition("_")[0] for job in self._with_job.values()}, key=int)

    def _ids(self) -> str:
        ids = self._arrays()
        return f"{'jobs' if len(ids) > 1 else 'job'} {', '.join(ids)}"

    # -- into the queue

    def _submit(self) -> None:
        """Hand the cells that nobody has to SLURM, one array after the other."""
        if self._to_submit:
            numbers = sorted(self._numbers[cell] for cell in self._to_submit)
            self._to_submit.clear()
            self._backlog.extend(self._jobs.arrays(numbers))
        while self._backlog:
            array = self._backlog.popleft()
            try:
                ids = self._jobs.submit(array)
            except TooManyJobsError as error:
                if not self._make_smaller(array, error):
                    return
                continue
            for job, numbers in zip(ids, array.packs, strict=True):
                for number in numbers:
                    cell = self._jobs.tasks[number].cell
                    self._with_job[cell] = job
                    self._before[cell] = record_hash(self._jobs.tasks[number])
            self._view.say(
                f"SLURM job {ids[0].partition('_')[0]}: {len(ids)} {'jobs' if len(ids) > 1 else 'job'} with"
                f" {sum(map(len, array.packs))} cells; logs in {self._jobs.logs}"
            )

    def _make_smaller(self, array: Array, error: SubmitError) -> bool:
        """Split an array that is more than the queue takes; False: nothing goes in now."""
        if len(array.packs) > 1:
            half = len(array.packs) // 2
            self._backlog.extendleft([Array(array.needs, array.packs[half:]), Array(array.needs, array.packs[:half])])
            return True
        self._backlog.appendleft(array)
        if not self._with_job:
            # Nothing of ours will ever make room.
            raise error
        if str(error) not in self._announced:
            self._announced.add(str(error))
            self._view.say(f"{error}; the other cells are submitted when jobs have ended")
        return False

    # -- out of it

    def _look(self) -> None:
        # The queue first: a job that is gone then has written its last record before we look for it.
        self._verdicts = self._queue.ask(set(self._with_job.values()))
        self._looks += 1
        for cell in list(self._open):
            job = self._with_job.get(cell)
            # What is still in the queue has no record, unless somebody else trains it.
            if job is None or self._verdicts[job].kind is not Kind.pending or self._looks % _RARELY == 0:
                self._look_for_record(cell)
        for job, verdict in self._verdicts.items():
            if verdict.kind is Kind.gone:
                self._job_is_gone(job, verdict)
        for cell, waiting in list(self._elsewhere.items()):
            self._look_at_owner(cell, waiting)
        if self._to_submit or self._backlog:
            self._submit()

    def _look_for_record(self, cell: str, *, any_failure: bool = False) -> None:
        """Note how the cell ended if it has.

        any_failure: take a record of a failure for the end. Otherwise its job must have said so: it
        may be about to try the cell again.
        """
        task = self._open[cell]
        name = record_hash(task)
        if name in ("", task.replaces):
            return
        try:
            record = records.read_record(records.record_path(task.folder.parent, cell))
        except FileNotFoundError:
            return
        except RecordError as error:
            if name != self._before[cell]:
                self._end(Ended(cell=cell, status=Status.error, cause=str(error), log=str(task.folder / "log.txt")))
            return
        if record.status.finished:
            self._end(Ended(cell=cell, status=record.status))
        elif name != self._before[cell]:
            cause = record.failure.cause if record.failure else ""
            ended = Ended(cell=cell, status=record.status, cause=cause, log=str(task.folder / "log.txt"))
            if any_failure or self._said_of(cell) is not None:
                self._end(ended)

    def _said_of(self, cell: str) -> Ended | None:
        """Return how the cell's job has said that it ended."""
        job = self._with_job.get(cell, "")
        folder = self._folder_of(job)
        past = starts(folder / "logs", job) if folder else []
        return next((start.ended[cell] for start in past if cell in start.ended), None)

    def _folder_of(self, job: str) -> Path | None:
        """Return the folder of the submission that a job belongs to."""
        if job in self._jobs.jobs:
            return self._jobs.folder
        if self._earlier is None:
            self._earlier = submissions(self._jobs.tasks[0].folder.parent)
        return self._earlier.get(job)

    def _job_is_gone(self, job: str, verdict: Verdict) -> None:
        cells = [cell for cell, its_job in self._with_job.items() if its_job == job]
        for cell in cells:
            with suppress(OSError):
                os.listdir(self._open[cell].folder)  # a network file system then asks its server what is new
            self._look_for_record(cell)
            # A cell that was to be trained anew, and failed, has kept its old record.
            if cell in self._open and (said := self._said_of(cell)) is not None:
                self._end(said)
        cells = [cell for cell in cells if cell in self._open]
        if not cells:
            return
        fates = fate_of(job, verdict, cells, self._folder_of(job))
        for cell in cells:
            del self._with_job[cell]
            owner = owner_of(self._open[cell].folder)
            if owner is not None and not surely_dead(owner):
                # A process on a node that SLURM has lost may go on and finish the cell.
                self._elsewhere[cell] = _Elsewhere(owner, fates[cell])
            else:
                self._meet(cell, fates[cell])

    def _look_at_owner(self, cell: str, waiting: _Elsewhere) -> None:
        if cell not in self._open:
            del self._elsewhere[cell]
            return
        folder = self._open[cell].folder
        dead = self._silence.stale(folder)
        if dead is None and owner_of(folder) is not None:
            return
        # Its owner wrote a record before it gave the cell back.
        self._look_for_record(cell, any_failure=True)
        del self._elsewhere[cell]
        if cell not in self._open:
            return
        if waiting.fate is None:
            self._to_submit.append(cell)
        else:
            self._meet(cell, waiting.fate, fence=dead.token if dead else "")

    def _meet(self, cell: str, fate: Fate, fence: str = "") -> None:
        """Try the cell again, or record that it failed."""
        task = self._open[cell]
        tries = self._tries[cell, fate.status]
        again = tries < _FREE_TRIES if fate.status is None else self._options.retries.allow(fate.status, tries)
        if again and fate.again:
            self._tries[cell, fate.status] += 1
            if fate.status is not None:
                self._view.say(f"{cell}: {fate.status.value}: {fate.cause}; submitted again")
            self._to_submit.append(cell)
            return
        if fate.status is None:
            self._end(Ended(cell=cell, status=None, cause=fate.cause, log=fate.log))
            return
        cause = fate.cause
        try:
            record = write_failure(task, fate.status, cause, fate.log, fence=fence)
        except ClaimedError as error:
            self._elsewhere[cell] = _Elsewhere(error.owner, fate)
            return
        except (RecordError, OSError) as error:
            cause = f"{cause}; this could not be recorded: {error}"
            self._end(Ended(cell=cell, status=fate.status, cause=cause, log=fate.log))
            return
        finished = record.status.finished
        self._end(Ended(cell=cell, status=record.status, cause="" if finished else cause, log=fate.log))

    def _end(self, ended: Ended) -> None:
        self.ended[ended.cell] = ended
        del self._open[ended.cell]
        self._with_job.pop(ended.cell, None)
        self._view.ended(ended)

    # -- what the user sees

    def _show(self) -> None:
        kinds = Counter(self._verdicts[job].kind for job in set(self._with_job.values()) if job in self._verdicts)
        running = {}
        for cell, job in self._with_job.items():
            verdict = self._verdicts.get(job)
            if verdict and verdict.kind in (Kind.running, Kind.suspended) and owner_of(self._open[cell].folder):
                suspended = " suspended" if verdict.kind is Kind.suspended else ""
                running[cell] = f"{verdict.node} {job}{suspended}"
        reasons = Counter(
            self._verdicts[job].reason
            for job in set(self._with_job.values())
            if job in self._verdicts and self._verdicts[job].kind is Kind.pending
        )
        parts = [f"{count} {kind.value}" for kind in Kind if (count := kinds[kind])]
        why = ", ".join(reason for reason, _ in reasons.most_common(2))
        extra = f"SLURM {self._ids()}: {', '.join(parts)}{f' ({why})' if why else ''}" if self._with_job else ""
        self._view.refresh(running, len(self._open) - len(running), extra)


def _cells(cells: Collection[str]) -> str:
    return f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}"


def _job_order(job: str) -> tuple[int, int]:
    array, _, index = job.partition("_")
    return int(array), int(index or 0)
