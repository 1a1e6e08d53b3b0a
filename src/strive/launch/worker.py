"""A process that trains the cells it is given: one after the other, or several side by side.

`python -m strive.launch.worker FD THREADS GPU ROOM`: orders come on stdin, answers go to the file
descriptor FD; what a net prints goes to stdout and stderr, as everywhere. What is ordered while other
cells train joins them at the end of their epoch. When its stdin ends the worker leaves, also in the
middle of its cells, which then have checkpoints.
"""

import os
import queue
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from strive import signals, streams

# First of all: a signal during the seconds that torch takes to load is a wish too.
signals.listen()
streams.guard()

from strive import app  # noqa: E402
from strive.app import Pack  # noqa: E402
from strive.cells.lease import ClaimedError, LostClaimError  # noqa: E402
from strive.cells.records import Record, RecordError, Status  # noqa: E402
from strive.code.hash import code_hash  # noqa: E402
from strive.config import identity  # noqa: E402
from strive.errors import ConfigError, NoRoomError  # noqa: E402
from strive.launch.devices import MAX_ROOM  # noqa: E402
from strive.launch.protocol import Answer, Kind, Order  # noqa: E402

# Takes seconds where it imports torch.
_TRAINER = app.current().trainer()

# A net that hangs when the launcher has died must not stay for ever. Long enough for a test split.
_GRACE_SECONDS = 300.0

# What a pool orders in one go comes line by line, and cells that begin together are measured together.
_COMPANION_SECONDS = 0.2

_Orders = queue.SimpleQueue[Order | None]


def main(answers: int, threads: int, gpu: str, room: int) -> None:
    """Train what stdin orders until it ends.

    answers: file descriptor to answer on. threads: for cells that do not say how many they take.
    gpu: what CUDA_VISIBLE_DEVICES was set to for this process; "" is none. room: most cells side by
    side; 0: as many as are found to be fastest.
    """
    # What a net starts has nothing to say there.
    os.set_inheritable(answers, False)
    orders = _Orders()
    threading.Thread(target=_listen, args=(_own_stdin(), orders), name="orders", daemon=True).start()
    code_hash()  # of the code that was just imported; what is edited later does not count
    if gpu and (reason := _TRAINER.no_gpu(gpu)):
        sys.exit(reason)  # it would train its cells on the processor, in silence
    with open(answers, "wb") as pool:
        _say(pool, Answer(kind=Kind.ready))
        _Bench(orders, pool, threads, room).work()


def _own_stdin() -> int:
    """Return where orders come from, out of reach of a net that reads stdin."""
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return own


def _listen(source: int, orders: _Orders) -> None:
    try:
        with open(source, "rb") as lines:
            for line in lines:
                orders.put(Order.from_json(line))
    finally:
        signals.request("the end of its launcher")
        orders.put(None)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _say(pool: BinaryIO, answer: Answer) -> None:
    try:
        pool.write((answer.to_json() + "\n").encode())
        pool.flush()
    except OSError:  # nobody listens any more
        signals.request("the end of its launcher")


class _Bench:
    """The cells that train in this process, and what is said of each."""

    def __init__(self, orders: _Orders, pool: BinaryIO, threads: int, room: int) -> None:
        self._orders, self._pool, self._threads, self._room = orders, pool, threads, room
        self._pack: Pack = _TRAINER.Pack(self._end, room=room)
        self._kind = ""  # of the cells in it
        self._found: dict[str, int] = {}  # how many cells of a kind at once are fastest, measured once
        self._beside = 0  # how many others train with a cell that ends now
        self._leaves = self._untidy = False

    def work(self) -> None:
        """Train what is ordered until no more comes, or another process must take this one's place."""
        while not self._leaves and (orders := self._new_orders()) is not None:
            self._train(orders)
            if self._untidy and not self._leaves:
                _TRAINER.free_memory()
            self._untidy = False

    def _new_orders(self) -> list[Order] | None:
        """Return what has been ordered meanwhile; where nothing trains wait for it. None: nothing will be."""
        orders, end = list[Order](), time.monotonic()
        if not len(self._pack):
            first = self._orders.get()
            if first is None:
                return None
            orders.append(first)
            # What comes now may be of another net, of which another number is fastest.
            self._kind = app.current().pack_key(first.task.config)
            self._pack = _TRAINER.Pack(self._end, room=self._room or self._found.get(self._kind, 0))
            end = time.monotonic() + _COMPANION_SECONDS
        while len(self._pack) + len(orders) < (self._pack.room or MAX_ROOM):
            try:
                order = self._orders.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if order is None:
                self._orders.put(None)  # for when nothing trains any more
                break
            orders.append(order)
        return orders

    def _train(self, orders: list[Order]) -> None:
        """Begin with these cells, and train all that have begun for an epoch."""
        for order in orders:
            self._begin(order)
            if self._leaves:
                break
        # After a signal there are checkpoints to write; after an error there is nothing more to be had from the GPU.
        if len(self._pack) and (signals.requested() or not self._leaves):
            self._beside = len(self._pack) - 1
            self._pack.run_epoch()
            if self._pack.room or self._pack.measured == MAX_ROOM:
                self._found[self._kind] = self._pack.room or MAX_ROOM

    def _begin(self, order: Order) -> None:
        cell, self._beside = order.task.cell, len(self._pack)
        try:
            if signals.requested():
                raise signals.StoppedError(signals.requested())
            config = _config(order, self._threads)
            seen = _TRAINER.seen(config) | {"code_hash": code_hash(app.current().builder(config))}
        except BaseException as error:
            self._end(cell, error)
            return
        _say(self._pool, Answer(kind=Kind.began, cell=cell, seen=seen))
        print(f"--- {cell}", flush=True)
        if not len(self._pack):
            _forget_peak_memory()
        self._pack.add(config, replaces=order.task.replaces, fence=order.fence)

    def _end(self, cell: str, end: Record | BaseException) -> None:
        """Say how a cell has ended, or why it has no end here."""
        answer = _ended(end, self._beside) if isinstance(end, Record) else _left(cell, end, self._beside)
        self._leaves |= answer.leaves
        self._untidy = True
        _say(self._pool, answer)


def _ended(record: Record, beside: int) -> Answer:
    """Return what to say of a cell that left a record."""
    if record.failure is None:
        return Answer(kind=Kind.ended, cell=record.cell, status=record.status, beside=beside)
    leaves = _TRAINER.is_spoilt(alone=not beside) or (record.status is Status.out_of_memory and not beside)
    cause = record.failure.cause
    return Answer(kind=Kind.ended, cell=record.cell, status=record.status, cause=cause, leaves=leaves, beside=beside)


def _left(cell: str, error: BaseException, beside: int) -> Answer:
    """Return what to say of a cell that left no record."""
    if isinstance(error, _RefusedError | RecordError):
        return Answer(kind=Kind.refused, cell=cell, cause=_line(error))
    if isinstance(error, ClaimedError | LostClaimError):
        return Answer(kind=Kind.owned, cell=cell, cause=_line(error))
    if isinstance(error, NoRoomError):
        room, cause = error.room, _line(error)
        return Answer(kind=Kind.returned, cell=cell, cause=cause, leaves=error.spoilt, beside=beside, room=room)
    if isinstance(error, signals.StoppedError | KeyboardInterrupt):
        return Answer(kind=Kind.stopped, cell=cell, cause=signals.requested() or _line(error), leaves=True)
    # One cell's trouble, even a sys.exit or a fault of ours, must not cost the others.
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr, flush=True)
    leaves = _TRAINER.is_spoilt(alone=not beside)
    cause = _line(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {_line(error)}"
    return Answer(
        kind=Kind.crashed,
        cell=cell,
        cause=cause,
        traceback=text,
        leaves=leaves,
        beside=beside,
    )


class _RefusedError(Exception):
    """This process is not the one to train the cell."""


def _config(order: Order, threads: int) -> Any:
    """Return the cell's config, or raise _RefusedError if what would be trained is not what was launched."""
    task = order.task
    try:
        config = app.current().as_called(identity.config_of(task.config))
    except ConfigError as error:
        raise _RefusedError(f"its frozen config is not one of this version of strive: {_line(error)}") from None
    if (cell := identity.cell_id(config)) != task.cell:
        raise _RefusedError(
            f"its frozen config is that of {cell} in this version of strive; launch the sweep again with this version"
        )
    here = code_hash(app.current().builder(config))
    if task.code and here and here != task.code:
        raise _RefusedError(
            f"it was launched with code {task.code}, but this process has imported code {here} from"
            f" {Path(identity.__file__).parent}; launch the sweep again to train with that"
        )
    config.trainer.threads = config.trainer.threads or threads
    config.trainer.progress = False  # the launcher shows all cells together
    return config


def _forget_peak_memory() -> None:
    # Otherwise a small cell's record would show the memory of a large one trained before it here.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _line(error: BaseException) -> str:
    return (str(error) or "no message").splitlines()[0]


if __name__ == "__main__":
    main(answers=int(sys.argv[1]), threads=int(sys.argv[2]), gpu=sys.argv[3], room=int(sys.argv[4]))
