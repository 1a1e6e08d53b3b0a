"""The process that shows cells on W&B: `python -m strive.trackers.daemon RUNS SCRATCH WISH`.

Orders come on stdin, news go to stdout, one JSON object a line (strive.trackers.protocol). It looks at
the cells that it was told of, again and again, until stdin ends; then it sends what is left, and
leaves. Whoever started it waits for nothing here, and may kill it at any time: what W&B has is asked
of W&B.
"""

import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from strive import streams
from strive.cells.lease import ClaimedError, LeaseMonitor
from strive.cells.records import RETRAINING, RecordError
from strive.json_lines import from_line, to_line
from strive.trackers.cell_files import Trail, read_trail
from strive.trackers.client import Client, NotUploadedError, ServiceGoneError
from strive.trackers.naming import Plans
from strive.trackers.protocol import Kind, News, Order
from strive.trackers.server import NoKeyError, ServerError, told
from strive.trackers.upload import LEASE_SECONDS, LOCK, CellUpload, Wish, upload_plan
from strive.trackers.upload_state import read_receipt

_LOOK_SECONDS = 1.0  # between two looks at the cells' files
_AGAIN_SECONDS = 30.0  # before a server that did not answer is asked again
_RESTARTS = 3  # of W&B's helper process


class Mirror:
    """Cells that W&B is to show."""

    def __init__(self, runs: Path, wish: Wish, out: TextIO) -> None:
        self._runs, self._wish, self._out = runs, wish, out
        self._plans = Plans(runs)
        self._client: Client | None = None
        self._cells: dict[str, CellUpload | None] = {}  # that are not done; None: not looked at yet
        self._plan_names: list[str] = []
        self._not_before = 0.0  # when the server is asked again
        self._asked = 0.0  # when it did not answer last
        self._restarts = 0
        self._again_at: dict[str, float] = {}  # when a cell, or a plan, that W&B did not take is tried again
        self._closing: float | None = None  # since when
        self._leases = LeaseMonitor()
        self._stamps: dict[str, tuple[int, ...]] = {}  # of the files that W&B has all of
        self._told: dict[str, str] = {}

    def take(self, order: Order) -> None:
        """Note what to show."""
        for cell in order.cells:
            self._cells.setdefault(cell, None)
        self._plan_names += [name for name in order.plans if name not in self._plan_names]

    def close(self) -> None:
        """From now on each look is the last: send what is there and end every W&B run."""
        now = time.monotonic()
        self._closing = now
        if self._not_before < float("inf") and now - self._asked >= _AGAIN_SECONDS:
            self._not_before = 0.0  # it may be back

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to do."""
        return not self._cells and not self._plan_names

    @property
    def is_out(self) -> bool:
        """Whether the server does not answer for now."""
        return time.monotonic() < self._not_before

    def look(self) -> None:
        """Look once at every cell, and send what is new."""
        if self.is_out or not self._connected():
            return
        for name in list(self._plan_names):
            if self.is_out or self._client is None:
                return
            self._send_plan(name)
        for cell in list(self._cells):
            if self.is_out or self._client is None:
                return
            self._look_at(cell)

    def leave(self) -> None:
        """End what is open."""
        for upload in self._cells.values():
            if upload is not None:
                upload.abandon()

    # --- one cell

    def _look_at(self, cell: str) -> None:
        stamp = _stamp(self._runs / cell)
        if self._closing is None and (self._stamps.get(cell) == stamp or self._waits(cell)):
            return
        try:
            trail = read_trail(self._runs / cell)
            if trail is None:
                if self._closing is not None:
                    self._end(cell, Kind.nothing, "nothing was trained yet")
            else:
                self._send(cell, trail)
            self._stamps[cell] = stamp
        except ClaimedError as error:
            self._elsewhere(cell, error)
        except RecordError as error:
            self._stamps[cell] = stamp  # until somebody mends it
            self._end(cell, Kind.failed, str(error))
        except ServerError as error:
            self._outage(str(error))
        except ServiceGoneError as error:
            self._restart(cell, str(error))
        except (NotUploadedError, OSError) as error:
            self._failed(cell, str(error))
        except Exception as error:
            # A fault of ours, or of W&B's client, must not cost the other cells.
            self._failed(cell, f"{type(error).__name__}: {told(error)}")

    def _send(self, cell: str, trail: Trail) -> None:
        assert self._client is not None
        upload = self._cells[cell] or CellUpload(self._runs / cell, self._client, self._plans, self._wish)
        self._cells[cell] = upload
        was_open = upload.open
        ends = self._closing is not None
        if not was_open and upload.is_whole(trail) and (trail.record or ends):
            self._end(cell, Kind.done, trail.state, url=upload.url)
            return
        if not (ends or was_open) and (trail.state == "stopped" or (_replaces(trail) and not trail.epochs)):
            return  # someone is about to go on with it, or to train other numbers
        upload.catch_up(trail)
        self._restarts = 0
        if not was_open:
            self._say(News(kind=Kind.shown, cell=cell, url=upload.url))
        if trail.owner is None or ends:
            # Nobody trains it now, or nobody will look again.
            upload.close(trail)
        if trail.record is not None:
            self._end(cell, Kind.uploaded, trail.state, url=upload.url)
        elif ends:
            self._end(cell, Kind.partly, f"{len(trail.epochs)} epochs, {trail.state}", url=upload.url)

    def _elsewhere(self, cell: str, error: ClaimedError) -> None:
        """Leave the cell to the process that shows it, or take it over if that one is dead."""
        upload = self._cells[cell]
        assert upload is not None
        fence = self._leases.fence(self._runs / cell / LOCK)
        if fence is not None:
            upload.fence = fence
        elif self._closing is not None and (
            error.owner.is_here() or time.monotonic() - self._closing > LEASE_SECONDS + _LOOK_SECONDS
        ):
            self._end(cell, Kind.elsewhere, f"{error.owner} shows it")

    def _restart(self, cell: str, why: str) -> None:
        """Start W&B's helper process again, and every W&B run with it; the server knows what arrived."""
        self._restarts += 1
        if self._restarts > _RESTARTS:
            self._failed(cell, why)
            return
        for other, upload in self._cells.items():
            if upload is not None:
                upload.drop()
                self._cells[other] = None
        self._stamps.clear()
        Client.forget_service()
        self._client = None

    def _failed(self, cell: str, why: str) -> None:
        upload = self._cells.get(cell)
        if upload is not None:
            upload.abandon()
        self._again_at[cell] = time.monotonic() + _AGAIN_SECONDS
        if self._client is not None and not self._client.answers():
            self._outage(why)
        elif self._closing is not None:
            self._end(cell, Kind.failed, why)
        elif self._told.get(cell) != why:
            self._told[cell] = why
            self._say(News(kind=Kind.trouble, cell=cell, text=why))

    def _waits(self, name: str) -> bool:
        return time.monotonic() < self._again_at.get(name, 0.0)

    def _end(self, cell: str, kind: Kind, text: str, *, url: str = "") -> None:
        """Say how far W&B is with a cell; as long as others train, it may yet be trained again."""
        if self._closing is not None:
            self._cells.pop(cell, None)
        self._say(News(kind=kind, cell=cell, text=text, url=url))

    # --- the server

    def _connected(self) -> bool:
        if self._client is not None:
            return True
        try:
            self._client = Client()
        except NoKeyError as error:
            self._not_before = float("inf")
            self._say(News(kind=Kind.offline, text=str(error)))
        except ServerError as error:
            self._outage(str(error))
        else:
            if self._told.get("server") == self._client.server:
                return True
            self._told["server"] = self._client.server
            target = self._wish.target("", "")
            where = f"{self._client.server}/{target.entity or self._client.entity}"
            self._say(News(kind=Kind.online, url=where))
        return self._client is not None

    def _outage(self, why: str) -> None:
        self._restarts = 0
        self._asked = time.monotonic()
        self._not_before = self._asked + _AGAIN_SECONDS
        if self._told.get("") != why:
            self._told[""] = why
            self._say(News(kind=Kind.trouble, text=why))

    def _send_plan(self, name: str) -> None:
        assert self._client is not None
        folder, subject = self._runs / "sweeps" / name, f"the plan of {name}"
        if self._waits(subject) and self._closing is None:
            return
        common = self._plans.common(name)
        where = str(common.get("tracker.entity", "")), str(common.get("tracker.project", ""))
        try:
            upload_plan(folder, self._client, self._wish.target(*where, read_receipt(folder)))
        except FileNotFoundError:
            pass  # it was deleted, and with it what there was to show
        except ServerError as error:
            self._outage(str(error))
            return
        except ServiceGoneError as error:
            self._restart(subject, str(error))
            return
        except Exception as error:
            self._failed(subject, told(error))
            if self._closing is None:
                return
        self._plan_names.remove(name)

    def _say(self, news: News) -> None:
        with suppress(OSError):  # nobody listens any more
            self._out.write(to_line(news).decode())
            self._out.flush()


def _replaces(trail: Trail) -> bool:
    """Return whether the training is to replace a result."""
    return trail.folder.name == RETRAINING


def _give_way() -> None:
    """Take processor time only where training leaves some; W&B's helper process inherits this."""
    os.nice(10)
    # A session of its own is a scheduling group of its own on Linux, within which alone niceness counts.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes when a cell has something new to show."""
    found = []
    for name in ("record.json", "epochs.jsonl", f"{RETRAINING}/epochs.jsonl", "claim"):
        try:
            status = (folder / name).stat()
            found += [status.st_mtime_ns, status.st_ino]
        except OSError:
            found += [0, 0]
    return tuple(found)


def main(runs: Path, wish: Wish) -> None:
    """Show what stdin orders until it ends."""
    # SLURM signals every process of a job. The cells then have something more to say, so who started this
    # process says when it ends.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _give_way()
    # W&B's client prints; news must not be mixed with that.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    streams.guard()  # a full disk that takes no word of W&B's client is no reason to upload nothing
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, orders), name="orders", daemon=True).start()
    mirror = Mirror(runs, wish, out)
    ends = False
    while not (ends and (mirror.is_empty or mirror.is_out)):
        for order in _waiting(orders):
            if order is None:
                ends = True
                mirror.close()
            else:
                mirror.take(order)
        mirror.look()
    mirror.leave()


def _listen(source: TextIO, orders: "queue.SimpleQueue[Order | None]") -> None:
    try:
        for line in source:
            orders.put(from_line(Order, line))
    finally:
        orders.put(None)


def _waiting(orders: "queue.SimpleQueue[Order | None]") -> Iterable[Order | None]:
    """Yield the orders that have come; waits a moment for the first, so that a look is taken each second."""
    with suppress(queue.Empty):
        yield orders.get(timeout=_LOOK_SECONDS)
        while True:
            yield orders.get_nowait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Wish(**json.loads(sys.argv[3])))
    # Nobody else does, if who started this process is gone.
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    # Threads of W&B's client may still wait for a server that is gone.
    os._exit(0)
