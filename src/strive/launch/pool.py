"""Trains many cells on this machine in processes of their own, and outlives whatever happens to them.

Imports no torch: it starts at once, and has nothing that a cell could break.
"""

import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from strive import signals
from strive.cells.lease import ClaimedError, Owner
from strive.cells.records import Record, RecordError, Status
from strive.launch.ctrl_c import CtrlC
from strive.launch.devices import Slot, slots
from strive.launch.exit_cause import oom_kills, verdict
from strive.launch.failure_record import write_failure
from strive.launch.owned_cells import OwnedCells
from strive.launch.protocol import Answer, Kind, Order
from strive.launch.retries import Retries
from strive.launch.task import Ended, Task
from strive.launch.waiting_cells import Offer
from strive.launch.worker_process import Worker

__all__ = ["Pool", "Slot", "slots"]

STOP_SECONDS = 30.0  # for a step and a checkpoint, before a worker that was asked to leave is killed
_TICK_SECONDS = 1.0  # between two looks at what sends no word: other processes' claims, signals
# Seconds before a slot's next worker starts where one, two, ... in a row ended before they began with a cell: what
# kills them may last for a minute. After the last one the slot is given up, but tried on while others train.
_PAUSES = (1.0, 5.0, 15.0, 30.0, 60.0)


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _cause(record: Record) -> str:
    return record.failure.cause if record.failure else ""


class Pool:
    """Trains tasks in one worker process per slot."""

    def __init__(
        self,
        tasks: Sequence[Task],
        slots: Sequence[Slot],
        *,
        logs: Path,
        retries: Retries,
        on_ended: Callable[[Ended], object] = lambda ended: None,
        on_tick: Callable[["Pool"], object] = lambda pool: None,
        say: Callable[[str], object] = _print,
        python: str = sys.executable,
    ) -> None:
        """Nothing starts before `run`.

        logs: folder for the workers' output. on_ended: called once per cell. on_tick: called at
        least each second. say: shows a line to the user. python: what runs the workers.
        """
        assert slots or not tasks
        logs.mkdir(parents=True, exist_ok=True)
        self.ended: dict[str, Ended] = {}
        self.interrupted = ""  # the signal that ended `run` before all cells had ended; "" if none did
        self._tasks, self._slots, self._logs, self._python = list(tasks), list(slots), logs, python
        self._retries, self._on_ended, self._on_tick, self._say = retries, on_ended, on_tick, say
        self._offer = Offer(tasks, slots)
        self._owned = OwnedCells[None](say)
        self._tries = Counter[tuple[str, Status]]()
        self._workers: dict[int, Worker] = {}
        self._strikes = Counter[int]()
        self._not_before: dict[int, float] = {}  # when a slot's next worker may start, monotonic seconds
        self._given_up: dict[int, str] = {}  # slots whose workers do not start, whatever is tried, and why
        self._said = set[tuple[str, str]]()  # why workers did not start: once, not for each slot and try
        self._deadline: float | None = None  # for the workers to leave, once they were asked to
        self._selector = selectors.DefaultSelector()
        self._ctrl_c = CtrlC(self._selector)

    def running(self) -> dict[str, int]:
        """Return the slot number of each cell that is in training here."""
        return {cell: number for number, worker in self._workers.items() for cell in worker.orders}

    def owned(self) -> dict[str, Owner | None]:
        """Return the cells that wait for another process, and whom for."""
        return self._owned.owners()

    @property
    def broken(self) -> str:
        """Why no worker starts at all, "" if one does."""
        return "; ".join(self._given_up.values()) if len(self._given_up) == len(self._slots) else ""

    def waiting(self) -> int:
        """Return how many cells have neither begun here nor ended."""
        return len(self._tasks) - len(self.ended) - len(self.running())

    def run(self) -> dict[str, Ended]:
        """Train all cells and return how each one ended.

        After a signal to this process (strive.signals) or to its workers the cells are left with
        checkpoints and `interrupted` names the signal. On KeyboardInterrupt the same is done, a
        second one kills, and KeyboardInterrupt is raised again.
        """
        try:
            with self._ctrl_c:
                self._work()
        except KeyboardInterrupt:  # the third press, or one that a callback raised
            if self._deadline is not None:
                self._deadline = 0.0
            raise
        finally:
            self._clear_up()
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
            self._heed_signals()
            if self._deadline is None:
                self._take_freed()
                self._end_refused()
                self._start_workers()
                self._give_orders()
                if self.broken:
                    return
            elif not self._workers:
                return
            for key, _ in self._selector.select(_TICK_SECONDS):
                key.data()
            for worker in [worker for worker in self._workers.values() if worker.has_ended()]:
                self._bury(worker)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                for worker in self._workers.values():
                    worker.kill()
            self._on_tick(self)

    def _take_freed(self) -> None:
        for freed in self._owned.freed():
            if freed.record is None:
                self._offer.put_back([Order(task=freed.task, fence=freed.fence)])
            else:
                self._tried(freed.task, freed.record.status, _cause(freed.record), freed.task.folder / "log.txt")

    def _heed_signals(self) -> None:
        if self._ctrl_c.presses > 1:
            self._deadline = 0.0
        elif self._deadline is not None:
            return
        elif self._ctrl_c.presses:
            self._say("stopping: each cell writes a checkpoint first; Ctrl-C again does not wait for that")
            self.stop(STOP_SECONDS)
        elif signals.requested():
            self._interrupt(signals.requested())

    def _interrupt(self, signal_name: str) -> None:
        self.interrupted = signal_name
        self._say(f"stopped by {signal_name}: each cell writes a checkpoint")
        self.stop(STOP_SECONDS)

    def _start_workers(self) -> None:
        idle = [number for number, worker in self._workers.items() if not worker.orders and not worker.leaves]
        needed = len(self._offer) - sum(self._offer.has_order_for(number) for number in idle)
        for number, slot in enumerate(self._slots):
            if needed <= 0:
                return
            if number in self._workers or time.monotonic() < self._not_before.get(number, 0.0):
                continue
            if not self._offer.has_order_for(number):
                continue
            try:
                worker = Worker(number, slot, log=self._log(number), python=self._python)
            except OSError as error:  # too many processes, no memory for one more
                self._strike(number, str(error), "")
                continue
            self._workers[number] = worker
            self._offer.forget_images(number)
            listen = partial(self._listen, worker)
            self._selector.register(worker.answers_fd, selectors.EVENT_READ, listen)
            if worker.end_fd is not None:
                self._selector.register(worker.end_fd, selectors.EVENT_READ, listen)
            needed -= 1

    def _give_orders(self) -> None:
        """Fill the workers in turns; what those that still start will take is kept for them."""
        takers, kept = [worker for worker in self._workers.values() if not worker.leaves], Counter[int]()
        while takers and len(self._offer) > kept.total():
            worker = min(takers, key=lambda each: (len(each.orders) + kept[each.number], not each.ready))
            order = self._offer.order_for(worker.number, list(worker.orders.values()))
            if order is None or kept[worker.number] == self._offer.room(worker.number, order):
                takers.remove(worker)
            elif worker.ready:
                self._offer.take(worker.number, order)
                worker.give(order)
            else:
                kept[worker.number] += 1

    # --- what workers say

    def _listen(self, worker: Worker) -> None:
        for answer in worker.answers():
            if answer.kind not in (Kind.ready, Kind.began):
                self._note(worker, answer)
        if worker.silent:
            with suppress(KeyError):
                self._selector.unregister(worker.answers_fd)

    def _note(self, worker: Worker, answer: Answer) -> None:
        worker.answered = True
        self._starts_again(worker.number)
        if answer.leaves and answer.beside:
            return  # judged when the process is gone, with the cells that trained beside this one
        order, began = worker.take_back(answer.cell)
        task = order.task
        match answer.kind:
            case Kind.ended if answer.status is Status.out_of_memory and answer.beside:
                self._offer.limit(worker.number, order, answer.beside)
                self._try_alone(worker, [order], f"{answer.cause}, beside {answer.beside} more")
            case Kind.ended:
                assert answer.status is not None
                self._tried(task, answer.status, answer.cause, task.folder / "log.txt")
            case Kind.crashed:
                self._record_failure(worker, order, began, Status.error, answer.cause, answer.traceback)
            case Kind.owned:
                self._owned.add(order.task, None)
            case Kind.refused:
                self._offer.refuse(worker.number, order, answer.cause)
            case Kind.returned:
                self._offer.limit(worker.number, order, answer.room)
                self._offer.put_back([order])
            case Kind.stopped:
                self._offer.put_back([order])
                if self._deadline is None:
                    self._interrupt(answer.cause)

    def _end_refused(self) -> None:
        for cell, number, cause in self._offer.pop_refused(self._given_up):
            self._end(Ended(cell=cell, status=None, cause=cause, log=str(self._log(number))))

    def _try_alone(self, worker: Worker, orders: Sequence[Order], cause: str) -> None:
        """Try cells again of which any may have brought the others down: at most once, nothing is beside them then."""
        self._offer.keep_alone(orders)
        self._offer.put_back(orders)
        cells = ", ".join(order.task.cell for order in orders)
        self._say(f"{cells}: {cause} in worker {worker.number}; whose fault that was is not known: tried again alone")

    def _tried(self, task: Task, status: Status, cause: str, log: Path) -> None:
        tries = self._tries[task.cell, status]
        # When stopping, what is tried again is tried by the next launch.
        if self._deadline is not None or not self._retries.allow(status, tries):
            self._end(Ended(cell=task.cell, status=status, cause=cause, log=str(log)))
            return
        self._tries[task.cell, status] += 1
        self._say(f"{task.cell}: {status.value}: {cause}; tried again, {tries + 1} of {self._most(status)} times")
        self._offer.put(Order(task=task))

    def _most(self, status: Status) -> int:
        return int(getattr(self._retries, status.value))

    def _end(self, ended: Ended) -> None:
        self.ended[ended.cell] = ended
        self._on_ended(ended)

    # --- what happens to workers

    def _bury(self, worker: Worker) -> None:
        self._listen(worker)
        for fd in (worker.answers_fd, worker.end_fd):
            if fd is not None:
                with suppress(KeyError):
                    self._selector.unregister(fd)
        returncode = worker.bury()
        del self._workers[worker.number]
        held = [worker.take_back(cell) for cell in list(worker.orders)]
        if self._deadline is not None or signals.requested():
            held = [(order, None) for order, _ in held]  # left as they were asked to
        # What had not begun is not to blame.
        self._offer.put_back([order for order, began in held if began is None])
        begun = [(order, began) for order, began in held if began is not None]
        if begun:
            self._starts_again(worker.number)
            self._judge(worker, begun, returncode)
        elif not worker.answered and self._deadline is None:
            _, cause = verdict(returncode, out_of_memory=self._out_of_memory(worker))
            self._strike(worker.number, cause, worker.last_words().strip())

    def _judge(self, worker: Worker, begun: Sequence[tuple[Order, Answer]], returncode: int) -> None:
        """Say what ended these cells with their process, as far as that can be known."""
        status, cause = verdict(returncode, out_of_memory=self._out_of_memory(worker))
        order, began = begun[0]
        if worker.fault:
            cause = worker.fault
        elif len(begun) == 1:
            self._record_failure(worker, order, began, status, cause)
            return
        elif status is Status.out_of_memory:
            self._offer.limit(worker.number, order, len(begun) - 1)
        self._try_alone(worker, [order for order, _ in begun], cause)

    def _out_of_memory(self, worker: Worker) -> bool:
        if oom_kills() <= worker.oom_kills:
            return False
        for other in self._workers.values():
            other.oom_kills += 1  # this kill was not theirs
        return True

    def _strike(self, number: int, cause: str, last_words: str) -> None:
        """Note that a slot's worker ended before it began with a cell; the next one starts after a pause."""
        last = last_words.splitlines()[-1].strip() if last_words else ""
        more = f"{last}; see {self._log(number)}" if last else "it wrote nothing"
        why = f"worker {number} does not start: {cause}: {more}"
        self._strikes[number] += 1
        given_up = self._strikes[number] > len(_PAUSES)
        pause = _PAUSES[-1] if given_up else _PAUSES[self._strikes[number] - 1]
        self._not_before[number] = time.monotonic() + pause
        if given_up and number not in self._given_up:
            self._given_up[number] = why
            self._say(why + (f"\n{last_words}" if last_words else ""))
        elif (cause, last) not in self._said:
            self._said.add((cause, last))
            self._say(f"{why}; tried again, with pauses")

    def _starts_again(self, number: int) -> None:
        self._strikes[number] = 0
        self._given_up.pop(number, None)

    def _log(self, number: int) -> Path:
        return self._logs / f"worker-{number}.log"

    def _record_failure(
        self, worker: Worker, order: Order, began: Answer | None, status: Status, cause: str, traceback: str = ""
    ) -> None:
        task = order.task
        seen = began.seen if began else {}
        try:
            record = write_failure(task, status, cause, worker.log, traceback=traceback, seen=seen)
        except ClaimedError:
            self._owned.add(order.task, None)
            return
        except (RecordError, OSError) as error:
            self._tried(task, status, f"{cause}; this could not be recorded: {error}", worker.log)
            return
        self._tried(task, record.status, _cause(record), worker.log)

    # --- the end

    def _clear_up(self) -> None:
        """Leave no process and no cell without a word, whatever ended `run`."""
        deadline = time.monotonic() + STOP_SECONDS if self._deadline is None else self._deadline
        try:
            for worker in self._workers.values():
                worker.dismiss()
            while any(not worker.has_ended() for worker in self._workers.values()) and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            for worker in self._workers.values():
                worker.kill()
                worker.bury()
            self._workers.clear()
            self._selector.close()
        why = self.broken or "stopped before it ended"
        for task in self._tasks:
            if task.cell not in self.ended:
                self._end(Ended(cell=task.cell, status=None, cause=why))
