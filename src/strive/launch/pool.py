"""The pool of worker processes that train cells on this machine, and whose crashes it survives.

Imports no torch: it starts at once, and no cell can crash it.
"""

import math
import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from strive import signals
from strive.cells.checkpoints import newest_time
from strive.cells.lease import Owner, live_owner
from strive.cells.records import Record, Status
from strive.cells.task import CellOutcome, Task
from strive.errors import LeasedError, RecordError
from strive.launch.cell_queue import CellQueue
from strive.launch.devices import Slot, slots
from strive.launch.exit_cause import exit_status, oom_kills
from strive.launch.failure_record import write_failure
from strive.launch.owned_cells import OwnedCells
from strive.launch.protocol import EventKind, TrainRequest, WorkerEvent
from strive.launch.worker_process import WorkerProcess
from strive.options import Retries

__all__ = ["Slot", "WorkerPool", "slots"]

STOP_SECONDS = 30.0  # for a step and a checkpoint, before a worker that was asked to leave is killed
_LOOK_SECONDS = 1.0  # between two looks at other processes' cells: an owner's end sends no message
_TICK_SECONDS = 1.0  # between two looks at other processes' claims and at signals
# Seconds before a slot's next worker starts after one, two, ... in a row ended before they began with a cell: the
# cause may last for a minute. After the last pause the slot is given up, but tried again while others train.
_PAUSES = (1.0, 5.0, 15.0, 30.0, 60.0)


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _cause(record: Record) -> str:
    return record.failure.cause if record.failure else ""


class WorkerPool:
    """Trains tasks in one worker process per slot."""

    def __init__(
        self,
        tasks: Sequence[Task],
        slots: Sequence[Slot],
        *,
        logs: Path,
        retries: Retries,
        on_ended: Callable[[CellOutcome], object] = lambda ended: None,
        on_tick: Callable[["WorkerPool"], object] = lambda pool: None,
        say: Callable[[str], object] = _print,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        idle_seconds: float = math.inf,
        cancel_file: Path | None = None,
        timeout_min: float = 0.0,
    ) -> None:
        """Nothing starts before `run`.

        logs: folder for the workers' output. on_ended: called once per cell. on_tick: called at
        least each second. say: shows a line to the user. python: the interpreter that runs the workers.
        environment: variables for them besides those of this process. idle_seconds: how long to wait where
        other processes train all cells that are left; these cells have not ended then. cancel_file: appears where
        the user cancels the launch (strive cancel). timeout_min: hydra.launcher.timeout_min.
        """
        assert slots or not tasks
        logs.mkdir(parents=True, exist_ok=True)
        self.ended: dict[str, CellOutcome] = {}
        self.interrupted = ""  # the signal that ended `run` before all cells had ended; "" if none did
        self._tasks, self._slots, self._logs, self._python = list(tasks), list(slots), logs, python
        self._environment, self._timeout_min = environment or {}, timeout_min
        self._checkpoints: dict[str, int] = {}  # time of each cell's newest checkpoint when a worker got it
        self._retries, self._on_ended, self._on_tick, self._say = retries, on_ended, on_tick, say
        self._idle_seconds, self._cancel_file = idle_seconds, cancel_file
        self._idle_since: float | None = None  # monotonic seconds; None: there is work
        self.yields = False  # whether `run` left cells to the other processes that train them
        self._queue = CellQueue(tasks, slots)
        self._owned = OwnedCells[None](say)
        self._next_look = 0.0  # at them, monotonic seconds
        self._tries = Counter[tuple[str, Status]]()
        self._workers: dict[int, WorkerProcess] = {}
        self._failed_starts = Counter[int]()
        self._not_before: dict[int, float] = {}  # when a slot's next worker may start, monotonic seconds
        self._given_up: dict[int, str] = {}  # slots whose workers do not start, whatever is tried, and why
        self._said = set[tuple[str, str]]()  # why workers did not start: once, not for each slot and try
        self._deadline: float | None = None  # for the workers to leave, once they were asked to
        self._selector = selectors.DefaultSelector()
        self._ctrl_c = signals.CtrlC(self._selector)

    def running(self) -> dict[str, int]:
        """Return the slot number of each cell that is in training here."""
        return {cell: number for number, worker in self._workers.items() for cell in worker.requests}

    def owned(self) -> dict[str, Owner | None]:
        """Return the cells that wait for another process, and on whom."""
        return self._owned.owners()

    @property
    def broken(self) -> str:
        """Why no worker starts at all, "" if one does."""
        return "; ".join(self._given_up.values()) if len(self._given_up) == len(self._slots) else ""

    def waiting(self) -> int:
        """Return how many cells have neither begun here nor ended."""
        return len(self._tasks) - len(self.ended) - len(self.running())

    def run(self) -> dict[str, CellOutcome]:
        """Train all cells and return how each one ended.

        After a signal to this process (strive.signals) or to its workers the cells are left with
        checkpoints and `interrupted` names the signal. On KeyboardInterrupt the same is done, a
        second one kills, and KeyboardInterrupt is raised again.
        """
        try:
            with self._ctrl_c:
                self._work()
        except KeyboardInterrupt:  # the third press, or raised by a callback
            if self._deadline is not None:
                self._deadline = 0.0
            raise
        finally:
            self._shut_down()
        if self._ctrl_c.presses:
            raise KeyboardInterrupt
        return self.ended

    def stop(self, seconds: float) -> None:
        """Let the workers write checkpoints and leave, and kill those that are still there after so many seconds.

        `run` then returns; cells that have not ended have status None.
        """
        deadline = time.monotonic() + seconds
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
        for worker in list(self._workers.values()):
            worker.stop()

    # --- the loop

    def _work(self) -> None:
        while len(self.ended) < len(self._tasks):
            self._handle_signals()
            if self._deadline is None:
                self._take_freed()
                self._end_refused()
                self._start_workers()
                self._hand_out()
                if self.broken:
                    return
            elif not self._workers:
                return
            self._yield_if_idle()
            for key, _ in self._selector.select(_TICK_SECONDS):
                key.data()
            for worker in [worker for worker in self._workers.values() if worker.has_ended()]:
                self._reap(worker)
            if self._deadline is None and self._timeout_min:
                self._end_overdue()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                for worker in self._workers.values():
                    worker.kill()
            self._on_tick(self)

    def _end_overdue(self) -> None:
        for worker in self._workers.values():
            for cell in worker.end_overdue(60 * self._timeout_min, STOP_SECONDS):
                self._say(f"{cell}: runs for {self._timeout_min:g} min already; it is to write a checkpoint and leave")

    def _take_freed(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        for freed in self._owned.freed():
            if freed.record is None:
                self._queue.put_back([TrainRequest(task=freed.task, fence=freed.fence)])
            else:
                self._retry_or_end(freed.task, freed.record.status, _cause(freed.record), freed.task.folder / "log.txt")

    def _handle_signals(self) -> None:
        if self._ctrl_c.presses > 1:
            self._deadline = 0.0
        elif self._deadline is not None:
            return
        elif self._ctrl_c.presses:
            self._say("stopping: each cell writes a checkpoint first; Ctrl-C again does not wait for that")
            self.stop(STOP_SECONDS)
        elif self._cancel_file is not None and self._cancel_file.exists():
            signals.request("strive cancel")
            self._interrupt(signals.requested())
        elif signals.requested():
            self._interrupt(signals.requested())

    def _yield_if_idle(self) -> None:
        """Leave the cells that other processes train, after some time with nothing else to do."""
        if self.running() or self.waiting() > len(self._owned.owners()):
            self._idle_since = None
            return
        now = time.monotonic()
        self._idle_since = now if self._idle_since is None else self._idle_since
        if now - self._idle_since >= self._idle_seconds:
            self.yields = True
            self.stop(0)

    def _interrupt(self, signal_name: str) -> None:
        self.interrupted = signal_name
        self._say(f"stopped by {signal_name}: each cell writes a checkpoint")
        self.stop(STOP_SECONDS)

    def _start_workers(self) -> None:
        idle = [number for number, worker in self._workers.items() if not worker.requests and not worker.exits]
        needed = len(self._queue) - sum(self._queue.has_request_for(number) for number in idle)
        for number, slot in enumerate(self._slots):
            if needed <= 0:
                return
            if number in self._workers or time.monotonic() < self._not_before.get(number, 0.0):
                continue
            if not self._queue.has_request_for(number):
                continue
            try:
                worker = WorkerProcess(
                    number, slot, log=self._log(number), python=self._python, environment=self._environment
                )
            except OSError as error:  # too many processes, no memory for one more
                self._note_failed_start(number, str(error), "")
                continue
            self._workers[number] = worker
            self._queue.forget_images(number)
            listen = partial(self._listen, worker)
            self._selector.register(worker.events_fd, selectors.EVENT_READ, listen)
            if worker.end_fd is not None:
                self._selector.register(worker.end_fd, selectors.EVENT_READ, listen)
            needed -= 1

    def _hand_out(self) -> None:
        """Give requests to the workers in turns; workers that are still starting have theirs kept for them."""
        takers, kept = [worker for worker in self._workers.values() if not worker.exits], Counter[int]()
        while takers and len(self._queue) > kept.total():
            worker = min(takers, key=lambda each: (len(each.requests) + kept[each.number], not each.ready))
            request = self._queue.request_for(worker.number, list(worker.requests.values()))
            if request is None or kept[worker.number] == self._queue.room(worker.number, request):
                takers.remove(worker)
            elif worker.ready:
                self._queue.take(worker.number, request)
                if not self._is_of_others(request):
                    self._checkpoints[request.task.cell] = newest_time(request.task.folder)
                    worker.give(request)
            else:
                kept[worker.number] += 1

    def _is_of_others(self, request: TrainRequest) -> bool:
        """Return whether another process has trained the cell meanwhile, or trains it: that needs no worker to see."""
        task = request.task
        if request.fence:
            return False  # it is taken over
        if (record := task.result()) is not None:
            self._end(CellOutcome(cell=task.cell, status=record.status))
            return True
        if live_owner(task.folder) is None:
            return False
        self._owned.add(task, None)
        return True

    # --- events of workers

    def _listen(self, worker: WorkerProcess) -> None:
        for event in worker.events():
            if event.kind not in (EventKind.ready, EventKind.began):
                self._note(worker, event)
        if worker.closed:
            with suppress(KeyError):
                self._selector.unregister(worker.events_fd)

    def _note(self, worker: WorkerProcess, event: WorkerEvent) -> None:
        worker.has_reported = True
        self._starts_again(worker.number)
        if event.exits and event.companions:
            return  # handled when the process is gone, together with the cells that trained along with this one
        if worker.overdue and event.kind is EventKind.stopped:
            return  # handled when the process is gone, and has given up its lease
        request, began = worker.take_back(event.cell)
        task = request.task
        match event.kind:
            case EventKind.ended if event.status is Status.out_of_memory and event.companions:
                self._queue.limit(worker.number, request, event.companions)
                self._try_alone(worker, [request], f"{event.cause}, with {event.companions} more in the process")
            case EventKind.ended:
                assert event.status is not None
                self._retry_or_end(task, event.status, event.cause, task.folder / "log.txt")
            case EventKind.crashed:
                self._record_failure(worker, request, began, Status.error, event.cause, event.traceback)
            case EventKind.owned:
                self._owned.add(request.task, None)
            case EventKind.refused:
                self._queue.refuse(worker.number, request, event.cause)
            case EventKind.returned:
                self._queue.limit(worker.number, request, event.room)
                self._queue.put_back([request])
            case EventKind.stopped:
                self._queue.put_back([request])
                if self._deadline is None:
                    self._interrupt(event.cause)

    def _end_refused(self) -> None:
        for cell, number, cause in self._queue.pop_refused(self._given_up):
            self._end(CellOutcome(cell=cell, status=None, cause=cause, log=str(self._log(number))))

    def _try_alone(self, worker: WorkerProcess, requests: Sequence[TrainRequest], cause: str) -> None:
        """Try each of these cells again alone, at most once: any of them may have crashed the others."""
        self._queue.keep_alone(requests)
        self._queue.put_back(requests)
        cells = ", ".join(request.task.cell for request in requests)
        self._say(
            f"{cells}: {cause} in worker {worker.number}; the cause may be any of them: each is tried again alone"
        )

    def _retry_or_end(self, task: Task, status: Status, cause: str, log: Path, *, rule: Status | None = None) -> None:
        """End a cell, or try it again. rule: whose number of retries holds, if it is not that of its status."""
        rule = rule or status
        tries = self._tries[task.cell, rule]
        # When stopping, what is tried again is tried by the next launch.
        if self._deadline is not None or not self._retries.allow(rule, tries):
            self._end(CellOutcome(cell=task.cell, status=status, cause=cause, log=str(log)))
            return
        self._tries[task.cell, rule] += 1
        most = int(getattr(self._retries, rule.value))
        self._say(f"{task.cell}: {status.value}: {cause}; tried again, {tries + 1} of {most} times")
        self._queue.put(TrainRequest(task=task))

    def _end(self, ended: CellOutcome) -> None:
        self.ended[ended.cell] = ended
        self._on_ended(ended)

    # --- ends of workers

    def _reap(self, worker: WorkerProcess) -> None:
        self._listen(worker)
        for fd in (worker.events_fd, worker.end_fd):
            if fd is not None:
                with suppress(KeyError):
                    self._selector.unregister(fd)
        returncode = worker.reap()
        del self._workers[worker.number]
        held = [worker.take_back(cell) for cell in list(worker.requests)]
        if self._deadline is not None or signals.requested():
            held = [(request, None) for request, _ in held]  # they were asked to stop
        # A cell that had not begun is not the cause.
        self._queue.put_back([request for request, began in held if began is None])
        begun = [(request, began) for request, began in held if began is not None]
        if worker.overdue:
            self._record_timeouts(worker, begun, killed=returncode < 0)
        elif begun:
            self._starts_again(worker.number)
            self._record_crash(worker, begun, returncode)
        elif not worker.has_reported and self._deadline is None:
            _, cause = exit_status(returncode, out_of_memory=self._out_of_memory(worker))
            self._note_failed_start(worker.number, cause, worker.log_tail().strip())

    def _record_timeouts(
        self, worker: WorkerProcess, begun: Sequence[tuple[TrainRequest, WorkerEvent]], *, killed: bool
    ) -> None:
        """Record which cells ran for too long; the others in the process go on from their checkpoints."""
        self._queue.put_back([request for request, _ in begun if request.task.cell not in worker.overdue])
        how = f", and was killed {STOP_SECONDS:g} s after SIGTERM" if killed else ""
        for request, began in begun:
            cell = request.task.cell
            if cell in worker.overdue:
                goes_on = newest_time(request.task.folder) > self._checkpoints[cell]
                cause = (
                    f"ran for {self._timeout_min:g} min, the limit of hydra.launcher.timeout_min,"
                    f" {'and wrote a checkpoint' if goes_on else 'without a new checkpoint to go on from'}{how}"
                )
                # What comes no further in its time would hang as often as it is tried.
                rule = Status.timeout if goes_on else Status.error
                self._record_failure(worker, request, began, Status.timeout, cause, rule=rule)

    def _record_crash(
        self, worker: WorkerProcess, begun: Sequence[tuple[TrainRequest, WorkerEvent]], returncode: int
    ) -> None:
        """Record why these cells ended with their process; if it may be any of several, try each again alone."""
        status, cause = exit_status(returncode, out_of_memory=self._out_of_memory(worker))
        request, began = begun[0]
        if worker.fault:
            cause = worker.fault
        elif len(begun) == 1:
            self._record_failure(worker, request, began, status, cause)
            return
        elif status is Status.out_of_memory:
            self._queue.limit(worker.number, request, len(begun) - 1)
        self._try_alone(worker, [request for request, _ in begun], cause)

    def _out_of_memory(self, worker: WorkerProcess) -> bool:
        if oom_kills() <= worker.oom_kills:
            return False
        for other in self._workers.values():
            other.oom_kills += 1  # this kill was not theirs
        return True

    def _note_failed_start(self, number: int, cause: str, log_tail: str) -> None:
        """Note that a slot's worker ended before it began with a cell; the next one starts after a pause."""
        last = log_tail.splitlines()[-1].strip() if log_tail else ""
        more = f"{last}; see {self._log(number)}" if last else "it wrote nothing"
        why = f"worker {number} does not start: {cause}: {more}"
        self._failed_starts[number] += 1
        given_up = self._failed_starts[number] > len(_PAUSES)
        pause = _PAUSES[-1] if given_up else _PAUSES[self._failed_starts[number] - 1]
        self._not_before[number] = time.monotonic() + pause
        if given_up and number not in self._given_up:
            self._given_up[number] = why
            self._say(why + (f"\n{log_tail}" if log_tail else ""))
        elif (cause, last) not in self._said:
            self._said.add((cause, last))
            self._say(f"{why}; tried again, with pauses")

    def _starts_again(self, number: int) -> None:
        self._failed_starts[number] = 0
        self._given_up.pop(number, None)

    def _log(self, number: int) -> Path:
        return self._logs / f"worker-{number}.log"

    def _record_failure(
        self,
        worker: WorkerProcess,
        request: TrainRequest,
        began: WorkerEvent | None,
        status: Status,
        cause: str,
        traceback: str = "",
        *,
        rule: Status | None = None,
    ) -> None:
        task = request.task
        seen = began.seen if began else {}
        log = worker.log_of(task)
        try:
            record = write_failure(task, status, cause, log, traceback=traceback, seen=seen)
        except LeasedError:
            self._owned.add(request.task, None)
            return
        except (RecordError, OSError) as error:
            self._retry_or_end(task, status, f"{cause}; this could not be recorded: {error}", log, rule=rule)
            return
        self._retry_or_end(task, record.status, _cause(record), log, rule=None if record.status.finished else rule)

    # --- the end

    def _shut_down(self) -> None:
        """Terminate all workers and report every unfinished cell, however `run` ended."""
        deadline = time.monotonic() + STOP_SECONDS if self._deadline is None else self._deadline
        try:
            for worker in self._workers.values():
                worker.dismiss()
            while any(not worker.has_ended() for worker in self._workers.values()) and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            for worker in self._workers.values():
                worker.kill()
                worker.reap()
            self._workers.clear()
            self._selector.close()
        why = self.broken or "stopped before it ended"
        for task in self._tasks:
            if task.cell not in self.ended:
                self._end(CellOutcome(cell=task.cell, status=None, cause=why))
