"""Poll loop over a launch's cells and SLURM jobs: records first, the queue second. Imports no torch."""

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from strive import signals
from strive.cells import records
from strive.cells.lease import live_owner, owner_of
from strive.cells.records import Record, Status
from strive.cells.task import CellOutcome, read_tasks
from strive.errors import LeasedError, RecordError, SubmitError
from strive.format import counted
from strive.launch.failure_record import write_failure
from strive.launch.launch_folder import cancel_file, read_jobs
from strive.launch.live_view import LiveView
from strive.launch.owned_cells import OwnedCells, ReleasedCell
from strive.options import SlurmOptions
from strive.slurm import squeue
from strive.slurm.bad_nodes import BadNodes
from strive.slurm.changed_options import option_changes
from strive.slurm.job_log import starts
from strive.slurm.job_outcome import LostCell, lost_cells
from strive.slurm.jobs import SlurmJobs, submissions
from strive.slurm.squeue import JobInfo, JobPhase, SlurmQueue
from strive.slurm.submit_queue import SubmitQueue
from strive.slurm.submit_rest import SubmitRest

_SLICE_SECONDS = 0.2  # how soon a signal is noticed while waiting
_RARELY = 12  # looks between two at the records of cells whose jobs wait
_SLOWER = 1.5  # so much longer each time until the queue is asked again, as long as nothing is in doubt
_SLOWEST = 6  # so many times hydra.launcher.poll_seconds at most: half a minute by default
_RELEASES = 3  # of a job that SLURM holds because its node did not start it
_DEPENDENCIES = 50  # jobs that a dependency names: the end of one is enough
_FREE_TRIES = 100  # how often a job of a cell may end before the cell begins


class JobWatcher:
    """Follows the cells of a launch until each one has ended, or is left to its job."""

    def __init__(self, jobs: SlurmJobs, options: SlurmOptions, with_job: dict[str, str], view: LiveView) -> None:
        """Nothing is submitted before `begin`. with_job: {cell: job} of cells that are in the queue already."""
        self.ended: dict[str, CellOutcome] = {}
        self.over = False
        self._jobs, self._options, self._view = jobs, options, view
        self._open = {task.cell: task for task in jobs.tasks}
        self._numbers = {task.cell: number for number, task in enumerate(jobs.tasks)}
        self._before = {task.cell: task.record_hash() for task in jobs.tasks}
        self._with_job = with_job
        # With each cell what its job left of it; None: it was not submitted yet.
        self._owned = OwnedCells[LostCell | None](view.say)
        self._submitter = ""  # the job that submits what a full queue has not taken, once nobody waits here
        self._submit_queue = SubmitQueue(jobs, view.say, *([self._reserve] if options.detach else []))
        self._queue = SlurmQueue()
        self._tries = Counter[tuple[str, Status | None]]()
        self._infos: dict[str, JobInfo] = {}
        self._earlier: dict[str, Path] | None = None  # {job of an earlier submission: its folder}
        self._looks = 0
        self._bad_nodes, self._releases = BadNodes(), Counter[str]()
        self._ask_after, self._ask_at = options.poll_seconds, 0.0  # seconds; monotonic seconds

    def begin(self) -> None:
        """Submit the cells that no process trains yet."""
        if self._with_job:
            cells = counted(len(self._with_job), "cell")
            self._view.say(f"waits for {cells} of earlier submissions: SLURM {self._ids()}")
            for line in option_changes(self._jobs, self._with_job, self._folder_of):
                self._view.say(line)
        for cell, task in self._open.items():
            if cell in self._with_job:
                continue
            # With detach no launcher is left to see that an owner is gone: a job is submitted that waits for the claim.
            if not self._options.detach and live_owner(task.folder) is not None:
                self._owned.add(task, None)
            else:
                self._submit_queue.add(self._numbers[cell])
        self._submit()
        if self._options.detach:
            # Jobs that SLURM has not answered for may be in the queue: no later command would find them.
            while self._submit_queue.unanswered and not signals.requested():
                time.sleep(_SLICE_SECONDS)
                self._submit()
            self.detach()

    def wait(self) -> None:
        """Look at records and the queue until every cell has ended, or a signal comes."""
        while not self.over and not signals.requested():
            if cancel_file(self._jobs.folder).exists():
                self.cancel()
                return
            self._look()
            self._show()
            self.over = not self._open
            end = time.monotonic() + (0 if self.over else self._options.poll_seconds)
            while time.monotonic() < end and not signals.requested():
                time.sleep(_SLICE_SECONDS)

    def num_jobs(self) -> int:
        """Return how many jobs still have cells to train."""
        return len(set(self._with_job.values()))

    def cancel(self) -> None:
        """Cancel the jobs that have cells of this launch, and end."""
        self._scancel()
        self._leave_open("cancelled", to_jobs=False)

    def _scancel(self) -> None:
        if ids := self._ids_to_cancel():
            said = squeue.cancel(ids)
            self._view.say(f"cancelled SLURM {' '.join(ids)}{f': {said}' if said else ''}; the same command goes on")

    def _give_up(self, why: str) -> None:
        """Cancel the jobs and end, because no job can train here."""
        self._scancel()
        for cell in list(self._open):
            self._end(CellOutcome(cell=cell, status=None, cause=f"not trained: {why}"))

    def detach(self) -> None:
        """Leave the jobs alone, and end."""
        self._leave_rest_to_a_job()
        if ids := self._ids_to_cancel():
            self._view.say(
                f"detached from {counted(len(self._with_job), 'cell')}; the same command waits for them again."
                f" To cancel: scancel {' '.join(ids)}"
            )
        if held_back := self._submit_queue.held_back:
            self._view.say(
                f"{counted(len(held_back), 'cell')} not submitted: SLURM takes no more jobs now;"
                " the same command does it"
            )
        self._leave_open("in the queue", to_jobs=True)

    def _reserve(self) -> None:
        """Take a place in the queue, before it is full, for the job that submits the rest."""
        if self._submitter:
            return
        function = SubmitRest(submission=self._jobs.folder, options=self._options, code=self._jobs.code)
        with suppress(SubmitError):
            self._submitter = self._jobs.reserve(function)

    def _leave_rest_to_a_job(self) -> None:
        """Let a job submit what the queue has not taken."""
        if self._submitter and not (self._submit_queue.held_back and self._with_job):
            # There is no rest, or this was the only place in the queue.
            self._jobs.give_up(self._submitter)
            self._submit_queue.try_now()
            self._submit()
            return
        if not self._submit_queue.held_back or self._submit_queue.unanswered:
            return
        if not self._submitter:
            self._make_room()
        if self._submitter:
            mine = [job for job in dict.fromkeys(self._with_job.values()) if job in self._jobs.jobs]
            rest = self._submit_queue.take_all()
            self._jobs.let_go(self._submitter, rest, mine[:_DEPENDENCIES])
            self._with_job |= {self._jobs.tasks[number].cell: self._submitter for number in rest}
            self._view.say(f"SLURM job {self._submitter} submits {counted(len(rest), 'cell')} more as others end")

    def _make_room(self) -> None:
        """Give the last of our jobs that wait up for the one that submits the rest."""
        mine = [job for job in dict.fromkeys(self._with_job.values()) if job in self._jobs.jobs]
        infos = self._queue.ask(mine)
        waiting = [job for job in mine if infos[job].phase is JobPhase.pending]
        if not waiting or len(mine) < 2:
            return
        for number in self._jobs.give_up(waiting[-1]):
            del self._with_job[self._jobs.tasks[number].cell]
            self._submit_queue.add(number)
        self._reserve()

    def _leave_open(self, cause: str, *, to_jobs: bool) -> None:
        for cell in list(self._open):
            job = self._with_job.get(cell, "")
            why = f"SLURM job {job}: {cause}" if job else "not submitted"
            self._end(CellOutcome(cell=cell, status=None, cause=why, job=job if to_jobs else ""))
        self.over = True

    def _ids_to_cancel(self) -> list[str]:
        """Return what scancel takes: our own arrays as a whole, of others' the jobs that have cells of this launch."""
        jobs = set(self._with_job.values())
        return sorted({job.partition("_")[0] if job in self._jobs.jobs else job for job in jobs}, key=_job_order)

    def _ids(self) -> str:
        ids = sorted({job.partition("_")[0] for job in self._with_job.values()}, key=int)
        return f"{'jobs' if len(ids) > 1 else 'job'} {', '.join(ids)}"

    def _submit(self) -> None:
        try:
            taken = self._submit_queue.submit(self._with_job.values())
        except SubmitError as error:
            if not self._bad_nodes.names:
                raise
            self._give_up(f"{self._bad_nodes.why()}; without them {error}")
            return
        if taken:
            self._ask_soon()
        for number, job in taken.items():
            task = self._jobs.tasks[number]
            self._with_job[task.cell] = job
            self._before[task.cell] = task.record_hash()

    # --- looking

    def _look(self) -> None:
        # The queue first: a job that is gone then has written its last record before we look for it.
        if time.monotonic() >= self._ask_at:
            self._infos = self._queue.ask(set(self._with_job.values()))
            self._release()
            self._ask_at = time.monotonic() + self._ask_after
            self._ask_after = min(_SLOWER * self._ask_after, _SLOWEST * self._options.poll_seconds)
        self._looks += 1
        for cell in list(self._open):
            job = self._with_job.get(cell, "")
            # A cell whose job is pending has no record, unless another process trains it.
            waits = job in self._infos and self._infos[job].phase is JobPhase.pending
            if not waits or self._looks % _RARELY == 0:
                self._look_for_record(cell)
        for job, info in self._infos.items():
            if info.phase is JobPhase.gone:
                self._job_is_gone(job, info)
        for freed in self._owned.freed():
            self._take_freed(freed)
        if why := self._bad_nodes.all_bad():
            self._give_up(why)
            return
        self._submit()
        mine = set(self._with_job.values())
        # Only three answers in a row make a job's end sure; without an answer SLURM has enough to do.
        doubt = any(info.phase is JobPhase.unknown for job, info in self._infos.items() if job in mine)
        if doubt and self._queue.answers:
            self._ask_soon()

    def _release(self) -> None:
        """Release jobs that SLURM holds because a node, which it has drained, did not start them."""
        held = [job for job, info in self._infos.items() if info.could_not_start]
        if new := [job for job in held if not self._releases[job]]:
            self._view.say(f"held by SLURM because a node did not start them: {counted(len(new), 'job')}; released")
        if again := [job for job in held if self._releases[job] < _RELEASES]:
            self._releases.update(again)
            squeue.release(again)

    def _ask_soon(self) -> None:
        self._ask_after, self._ask_at = self._options.poll_seconds, 0.0

    def _look_for_record(self, cell: str) -> None:
        """Note how the cell ended if it has. A failure is its end once its job says so: it may try the cell again."""
        task = self._open[cell]
        log = str(task.folder / "log.txt")
        name = task.record_hash()
        if name in ("", task.replaces):
            return
        try:
            record = records.read_record(records.record_path(task.folder.parent, cell))
        except FileNotFoundError:
            return
        except RecordError as error:
            if name != self._before[cell]:
                self._end(CellOutcome(cell=cell, status=Status.error, cause=str(error), log=log))
            return
        if record.status.finished or (name != self._before[cell] and self._logged_outcome(cell) is not None):
            self._end_as(cell, record)

    def _end_as(self, cell: str, record: Record) -> None:
        cause, log = (record.failure.cause, str(self._open[cell].folder / "log.txt")) if record.failure else ("", "")
        self._end(CellOutcome(cell=cell, status=record.status, cause=cause, log=log))

    def _logged_outcome(self, cell: str) -> CellOutcome | None:
        """Return how the cell ended according to its job's log."""
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

    def _job_is_gone(self, job: str, info: JobInfo) -> None:
        if job not in self._with_job.values():
            return  # seen before
        for cell in [cell for cell, its_job in self._with_job.items() if its_job == job]:
            with suppress(OSError):
                os.listdir(self._open[cell].folder)  # a network file system then asks its server what is new
            self._look_for_record(cell)
            # A cell that was to be trained anew, and failed, has kept its old record.
            if cell in self._open and (said := self._logged_outcome(cell)) is not None:
                self._end(said)
        self._follow(job)
        cells = [cell for cell, its_job in self._with_job.items() if its_job == job]
        for cell, lost in lost_cells(job, info, cells, self._folder_of(job)).items():
            del self._with_job[cell]
            if live_owner(self._open[cell].folder) is not None:
                # A process on a node that SLURM has lost may go on and finish the cell.
                self._owned.add(self._open[cell], lost)
            else:
                self._retry_or_record(cell, lost)
        if self._bad_nodes.names != self._jobs.bad_nodes:
            self._jobs.bad_nodes = list(self._bad_nodes.names)
            squeue.exclude(self._with_job.values(), self._jobs.excluded)

    def _follow(self, job: str) -> None:
        """Go over to the jobs that a job of SubmitRest has submitted for its cells."""
        folder = self._folder_of(job)
        if folder is None or starts(folder / "logs", job):
            return  # it trains cells
        jobs = read_jobs(folder)
        kept = set(jobs.get(job, ()))
        tasks = {task.cell: number for number, task in enumerate(read_tasks(folder / "tasks.jsonl"))}
        for cell in [cell for cell, its_job in self._with_job.items() if its_job == job and tasks[cell] not in kept]:
            others = [other for other, numbers in jobs.items() if tasks[cell] in numbers]
            if others:
                self._with_job[cell], self._earlier = others[-1], None
                self._ask_soon()

    def _take_freed(self, freed: ReleasedCell[LostCell | None]) -> None:
        cell = freed.task.cell
        if freed.record is not None:
            self._end_as(cell, freed.record)
        elif freed.purpose is None:
            self._submit_queue.add(self._numbers[cell])
        else:
            self._retry_or_record(cell, freed.purpose, fence=freed.fence)

    # --- cells whose jobs are gone

    def _retry_or_record(self, cell: str, lost: LostCell, fence: str = "") -> None:
        """Try the cell again, or record that it failed."""
        if lost.bad_node:
            self._avoid_node(cell, lost)
            return
        rule = Status.error if lost.stuck else lost.status
        tries = self._tries[cell, rule]
        allowed = tries < _FREE_TRIES if rule is None else self._options.retries.allow(rule, tries)
        if lost.again and allowed:
            self._tries[cell, rule] += 1
            if lost.status is not None:
                self._view.say(f"{cell}: {lost.status.value}: {lost.cause}; submitted again")
            self._submit_queue.add(self._numbers[cell])
        elif lost.status is None:
            self._end(CellOutcome(cell=cell, status=None, cause=lost.cause, log=lost.log))
        else:
            self._record(cell, lost, lost.status, fence)

    def _avoid_node(self, cell: str, lost: LostCell) -> None:
        """Submit a cell again whose job ended before it began, and avoid the node that was the cause."""
        if self._bad_nodes.note(lost.bad_node, cell, lost.cause):
            self._view.say(f"{lost.bad_node} is avoided from now on: {lost.cause}, before any cell began")
        if why := self._bad_nodes.bad_for(cell):
            self._end(CellOutcome(cell=cell, status=None, cause=f"not trained: {why}", log=lost.log))
        else:
            self._submit_queue.add(self._numbers[cell])

    def _record(self, cell: str, lost: LostCell, status: Status, fence: str) -> None:
        try:
            record = write_failure(self._open[cell], status, lost.cause, lost.log, fence=fence)
        except LeasedError:
            self._owned.add(self._open[cell], lost)
        except (RecordError, OSError) as error:
            cause = f"{lost.cause}; this could not be recorded: {error}"
            self._end(CellOutcome(cell=cell, status=status, cause=cause, log=lost.log))
        else:
            cause = record.failure.cause if record.failure else ""
            self._end(CellOutcome(cell=cell, status=record.status, cause=cause, log=lost.log))

    def _end(self, ended: CellOutcome) -> None:
        if ended.status is not None:
            self._bad_nodes.forget_row()
        self.ended[ended.cell] = ended
        del self._open[ended.cell]
        self._owned.discard(ended.cell)
        self._with_job.pop(ended.cell, None)
        self._view.ended(ended)

    # --- the view

    def _show(self) -> None:
        infos = {job: self._infos[job] for job in set(self._with_job.values()) if job in self._infos}
        running = {}
        for cell, job in self._with_job.items():
            if job not in infos or infos[job].phase not in (JobPhase.running, JobPhase.suspended):
                continue
            if owner_of(self._open[cell].folder) is not None:
                suspended = " suspended" if infos[job].phase is JobPhase.suspended else ""
                running[cell] = f"{infos[job].node} {job}{suspended}"
        if running:
            self._bad_nodes.forget_row()
        self._view.refresh(running, len(self._open) - len(running), self._summary(infos))

    def _summary(self, infos: dict[str, JobInfo]) -> str:
        if not self._with_job:
            return ""
        phases = Counter(info.phase for info in infos.values())
        reasons = Counter(info.reason for info in infos.values() if info.phase is JobPhase.pending)
        parts = ", ".join(f"{count} {phase.value}" for phase in JobPhase if (count := phases[phase]))
        why = ", ".join(reason for reason, _ in reasons.most_common(2))
        return f"SLURM {self._ids()}: {parts}{f' ({why})' if why else ''}"


def _job_order(job: str) -> tuple[int, int]:
    array, _, index = job.partition("_")
    return int(array), int(index or 0)
