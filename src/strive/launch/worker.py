"""The program of a worker process: trains the cells it is given, one after the other or several side by side.

`python -m strive.launch.worker FD THREADS GPU ROOM` reads requests from stdin and writes events to the file
descriptor FD; what a net prints goes to stdout and stderr, as everywhere. A cell that is requested while
others train joins them at the end of their epoch. At the end of stdin the worker writes checkpoints of its
cells and exits.
"""

import os
import queue
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from strive import signals, streams
from strive.errors import StoppedError

# Before torch is imported, which takes seconds: an early signal also stops gracefully.
signals.listen()
streams.guard()

from strive import app  # noqa: E402
from strive.app import Pack, Trainer  # noqa: E402
from strive.cells.records import Record, Status  # noqa: E402
from strive.cells.surroundings import given  # noqa: E402
from strive.config import identity  # noqa: E402
from strive.errors import (  # noqa: E402
    ConfigError,
    LeasedError,
    LostLeaseError,
    NoRoomError,
    RecordError,
    first_line,
)
from strive.json_lines import from_line, to_line  # noqa: E402
from strive.launch.devices import MAX_ROOM  # noqa: E402
from strive.launch.protocol import EventKind, TrainRequest, WorkerEvent  # noqa: E402

# If the launcher has died, a net that hangs must not stay for ever. Long enough to evaluate a test split.
_GRACE_SECONDS = 300.0

# A pool sends its requests line by line, and cells that begin together are measured together.
_COMPANION_SECONDS = 0.2

_Requests = queue.SimpleQueue[TrainRequest | None]


def main(events: int, threads: int, gpu: str, room: int) -> None:
    """Train the requested cells until stdin ends.

    events: file descriptor to write events to. threads: for cells that do not say how many they take.
    gpu: what CUDA_VISIBLE_DEVICES was set to for this process; "" is none. room: most cells side by
    side; 0: as many as are found to be fastest.
    """
    # The processes that a net starts must not write there.
    os.set_inheritable(events, False)
    requests = _Requests()
    threading.Thread(target=_listen, args=(_own_stdin(), requests), name="requests", daemon=True).start()

    def work() -> None:
        app.in_use().code_of({})  # as it was imported: what is edited from now on does not count
        trainer = app.in_use().trainer()  # takes seconds where it imports torch
        if gpu and (reason := trainer.no_gpu(gpu)):
            sys.exit(reason)  # it would train its cells on the processor, in silence
        with open(events, "wb") as pool:
            _send(pool, WorkerEvent(kind=EventKind.ready))
            _WorkerLoop(trainer, requests, pool, threads, room).work()

    app.in_use().inside(work)


def _own_stdin() -> int:
    """Move stdin to a file descriptor that a net which reads stdin cannot reach, and return it."""
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return own


def _listen(source: int, requests: _Requests) -> None:
    try:
        with open(source, "rb") as lines:
            for line in lines:
                requests.put(from_line(TrainRequest, line))
    finally:
        signals.request("the end of its launcher")
        requests.put(None)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _send(pool: BinaryIO, event: WorkerEvent) -> None:
    try:
        pool.write(to_line(event))
        pool.flush()
    except OSError:  # the launcher is gone
        signals.request("the end of its launcher")


class _WorkerLoop:
    """Trains cells in this process and reports what happens to each."""

    def __init__(self, trainer: Trainer, requests: _Requests, pool: BinaryIO, threads: int, room: int) -> None:
        self._trainer, self._requests, self._pool = trainer, requests, pool
        self._threads, self._room = threads, room
        self._pack: Pack = trainer.pack(self._end, room=room)
        self._pack_key = ""  # of the cells in it
        self._found: dict[str, int] = {}  # how many cells of a kind at once are fastest, measured once
        self._companions = 0  # how many others train with a cell that ends now
        self._exits = self._has_garbage = False

    def work(self) -> None:
        """Train the requested cells until no more come, or until another process must replace this one."""
        while not self._exits and (requests := self._new_requests()) is not None:
            for request in requests:
                self._begin(request)
                if self._exits:
                    break
            # After a signal there are checkpoints to write; after an error the GPU cannot be used any more.
            if len(self._pack) and (signals.requested() or not self._exits):
                self._run_epoch()
            if self._has_garbage and not self._exits:
                self._trainer.free_memory()
            self._has_garbage = False

    def _new_requests(self) -> list[TrainRequest] | None:
        """Return the requests that have come in; wait for one if nothing trains. None: no more will come."""
        requests, end = list[TrainRequest](), time.monotonic()
        if not len(self._pack):
            first = self._requests.get()
            if first is None:
                return None
            requests.append(first)
            # The next cells may have another net, for which another number is fastest.
            self._pack_key = app.in_use().pack_key(first.task.flat)
            self._pack = self._trainer.pack(self._end, room=self._room or self._found.get(self._pack_key, 0))
            end = time.monotonic() + _COMPANION_SECONDS
        while len(self._pack) + len(requests) < (self._pack.room or MAX_ROOM):
            try:
                request = self._requests.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if request is None:
                self._requests.put(None)  # for when nothing trains any more
                break
            requests.append(request)
        return requests

    def _run_epoch(self) -> None:
        """Train all cells that have begun for an epoch."""
        self._companions = len(self._pack) - 1
        self._pack.run_epoch()
        if self._pack.room or self._pack.measured == MAX_ROOM:
            self._found[self._pack_key] = self._pack.room or MAX_ROOM

    def _begin(self, request: TrainRequest) -> None:
        cell, self._companions = request.task.cell, len(self._pack)
        try:
            if signals.requested():
                raise StoppedError(signals.requested())
            config = _config(request, self._threads)
            code = app.in_use().code_of(request.task.config).hash
            seen = self._trainer.seen(config) | {"code_hash": code, "given": given()}
        except BaseException as error:
            self._end(cell, error)
            return
        _send(self._pool, WorkerEvent(kind=EventKind.began, cell=cell, seen=seen))
        print(f"--- {cell}", flush=True)
        if not len(self._pack):
            _forget_peak_memory()
        self._pack.add(config, replaces=request.task.replaces, fence=request.fence)

    def _end(self, cell: str, end: Record | BaseException) -> None:
        """Report how a cell has ended, or why it was not trained to its end here."""
        event = (
            _event_of_record(end, self._companions, self._trainer)
            if isinstance(end, Record)
            else _event_of_error(cell, end, self._companions, self._trainer)
        )
        if self._trainer.fresh_process:
            event = replace(event, exits=True)
        self._exits |= event.exits
        self._has_garbage = True
        _send(self._pool, event)


def _event_of_record(record: Record, companions: int, trainer: Trainer) -> WorkerEvent:
    """Return the event of a cell that left a record."""
    if record.failure is None:
        return WorkerEvent(kind=EventKind.ended, cell=record.cell, status=record.status, companions=companions)
    exits = trainer.is_spoilt(alone=not companions) or (record.status is Status.out_of_memory and not companions)
    cause = record.failure.cause
    return WorkerEvent(
        kind=EventKind.ended, cell=record.cell, status=record.status, cause=cause, exits=exits, companions=companions
    )


def _event_of_error(cell: str, error: BaseException, companions: int, trainer: Trainer) -> WorkerEvent:
    """Return the event of a cell that left no record."""
    if isinstance(error, _RefusedError | RecordError):
        return WorkerEvent(kind=EventKind.refused, cell=cell, cause=first_line(error))
    if isinstance(error, LeasedError | LostLeaseError):
        return WorkerEvent(kind=EventKind.owned, cell=cell, cause=first_line(error))
    if isinstance(error, NoRoomError):
        room, cause = error.room, first_line(error)
        return WorkerEvent(
            kind=EventKind.returned, cell=cell, cause=cause, exits=error.spoilt, companions=companions, room=room
        )
    if isinstance(error, StoppedError | KeyboardInterrupt):
        cause = signals.requested() or first_line(error)
        return WorkerEvent(kind=EventKind.stopped, cell=cell, cause=cause, exits=True)
    # An error of one cell, even a sys.exit or a bug of ours, must not end the others.
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr, flush=True)
    exits = trainer.is_spoilt(alone=not companions)
    cause = first_line(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {first_line(error)}"
    return WorkerEvent(
        kind=EventKind.crashed, cell=cell, cause=cause, traceback=text, exits=exits, companions=companions
    )


class _RefusedError(Exception):
    """This process cannot train the cell as it was launched."""


def _config(request: TrainRequest, threads: int) -> Any:
    """Return the cell's config, or raise _RefusedError if what would be trained is not what was launched."""
    task = request.task
    try:
        config = app.in_use().of_task(task, threads)
    except ConfigError as error:
        raise _RefusedError(f"its frozen config cannot be trained here: {first_line(error)}") from None
    if (cell := identity.cell_id(config)) != task.cell:
        raise _RefusedError(
            f"its frozen config is that of {cell} in this version of strive; launch the sweep again with this version"
        )
    here = app.in_use().code_of(task.config).hash
    if task.code and here and here != task.code:
        raise _RefusedError(
            f"it was launched with code {task.code}, but this process has imported code {here} from"
            f" {Path(identity.__file__).parent}; launch the sweep again to train with that"
        )
    return config


def _forget_peak_memory() -> None:
    # Otherwise a small cell's record would show the memory of a large one trained before it here.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    # By its name: a foreign app's program becomes this process's __main__.
    from strive.launch.worker import main

    main(events=int(sys.argv[1]), threads=int(sys.argv[2]), gpu=sys.argv[3], room=int(sys.argv[4]))
