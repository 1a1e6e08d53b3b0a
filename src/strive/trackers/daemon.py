"""The process that shows cells on W&B: `python -m strive.trackers.daemon RUNS SCRATCH TARGET`.

Requests come on stdin and events go to stdout, one JSON object a line (strive.trackers.protocol). It polls the
requested cells' files until stdin ends, then sends what is left and exits. The parent never blocks on this process
and may kill it at any time: what has been uploaded is read again from W&B.
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
from strive.cells.lease import LeaseMonitor
from strive.cells.records import RETRAINING
from strive.errors import LeasedError, NoKeyError, NotUploadedError, RecordError, ServerError, ServiceGoneError
from strive.json_lines import from_line, to_line
from strive.trackers.cell_files import CellFiles, cell_stamp, read_cell_files
from strive.trackers.client import Client
from strive.trackers.naming import Plans
from strive.trackers.protocol import ShowRequest, UploadEvent, UploadEventKind
from strive.trackers.server import error_line
from strive.trackers.upload import LEASE_SECONDS, LOCK, CellUpload, TargetOverrides, upload_plan
from strive.trackers.upload_state import read_upload_state

_LOOK_SECONDS = 1.0  # between two looks at the cells' files
_AGAIN_SECONDS = 30.0  # before a server that did not answer is asked again
_RESTARTS = 3  # of W&B's helper process


class Daemon:
    """The cells that W&B is to show, and how far each upload is."""

    def __init__(self, runs: Path, overrides: TargetOverrides, out: TextIO) -> None:
        self._runs, self._overrides, self._out = runs, overrides, out
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
        self._reported: dict[str, str] = {}

    def take(self, order: ShowRequest) -> None:
        """Add cells and plans to those that are shown."""
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
        stamp = cell_stamp(self._runs / cell)
        if self._closing is None and (self._stamps.get(cell) == stamp or self._waits(cell)):
            return
        try:
            files = read_cell_files(self._runs / cell)
            if files is None or files.is_offline:
                if self._closing is not None:
                    why = "its own W&B run is offline" if files else "nothing was trained yet"
                    self._end(cell, UploadEventKind.nothing, why)
            else:
                self._send(cell, files)
            self._stamps[cell] = stamp
        except LeasedError as error:
            self._leave_to_other_process(cell, error)
        except RecordError as error:
            self._stamps[cell] = stamp  # until the file changes
            self._end(cell, UploadEventKind.failed, str(error))
        except ServerError as error:
            self._outage(str(error))
        except ServiceGoneError as error:
            self._restart(cell, str(error))
        except (NotUploadedError, OSError) as error:
            self._failed(cell, str(error))
        except Exception as error:
            # A fault of ours, or of W&B's client, must not cost the other cells.
            self._failed(cell, f"{type(error).__name__}: {error_line(error)}")

    def _send(self, cell: str, files: CellFiles) -> None:
        assert self._client is not None
        upload = self._cells[cell] or CellUpload(self._runs / cell, self._client, self._plans, self._overrides)
        self._cells[cell] = upload
        was_open = upload.open
        ends = self._closing is not None
        if not was_open and upload.is_whole(files) and (files.record or ends):
            self._end(cell, UploadEventKind.done, files.state, url=upload.url)
            return
        if not (ends or was_open) and (files.state == "stopped" or (_replaces(files) and not files.epochs)):
            return  # someone is about to go on with it, or to train other numbers
        upload.catch_up(files)
        self._restarts = 0
        if not was_open:
            self._say(UploadEvent(kind=UploadEventKind.shown, cell=cell, url=upload.url))
        if files.owner is None or ends:
            # No process trains it, or this is the last look.
            upload.close(files)
        if files.record is not None:
            self._end(cell, UploadEventKind.uploaded, files.state, url=upload.url)
        elif ends:
            self._end(cell, UploadEventKind.partly, f"{len(files.epochs)} epochs, {files.state}", url=upload.url)

    def _leave_to_other_process(self, cell: str, error: LeasedError) -> None:
        """Leave the cell to the process that shows it, or take it over if that one is dead."""
        upload = self._cells[cell]
        assert upload is not None
        fence = self._leases.fence(self._runs / cell / LOCK)
        if fence is not None:
            upload.fence = fence
        elif self._closing is not None and (
            error.owner.is_here() or time.monotonic() - self._closing > LEASE_SECONDS + _LOOK_SECONDS
        ):
            self._end(cell, UploadEventKind.other_process, f"{error.owner} shows it")

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
            self._end(cell, UploadEventKind.failed, why)
        elif self._reported.get(cell) != why:
            self._reported[cell] = why
            self._say(UploadEvent(kind=UploadEventKind.retrying, cell=cell, text=why))

    def _waits(self, name: str) -> bool:
        return time.monotonic() < self._again_at.get(name, 0.0)

    def _end(self, cell: str, kind: UploadEventKind, text: str, *, url: str = "") -> None:
        """Say how far W&B is with a cell; as long as others train, it may yet be trained again."""
        if self._closing is not None:
            self._cells.pop(cell, None)
        self._say(UploadEvent(kind=kind, cell=cell, text=text, url=url))

    # --- the server

    def _connected(self) -> bool:
        if self._client is not None:
            return True
        try:
            self._client = Client()
        except NoKeyError as error:
            self._not_before = float("inf")
            self._say(UploadEvent(kind=UploadEventKind.offline, text=str(error)))
        except ServerError as error:
            self._outage(str(error))
        else:
            if self._reported.get("server") == self._client.server:
                return True
            self._reported["server"] = self._client.server
            target = self._overrides.target("", "")
            where = f"{self._client.server}/{target.entity or self._client.entity}"
            self._say(UploadEvent(kind=UploadEventKind.online, url=where))
        return self._client is not None

    def _outage(self, why: str) -> None:
        self._restarts = 0
        self._asked = time.monotonic()
        self._not_before = self._asked + _AGAIN_SECONDS
        if self._reported.get("") != why:
            self._reported[""] = why
            self._say(UploadEvent(kind=UploadEventKind.retrying, text=why))

    def _send_plan(self, name: str) -> None:
        assert self._client is not None
        folder, subject = self._runs / "sweeps" / name, f"the plan of {name}"
        if self._waits(subject) and self._closing is None:
            return
        common = self._plans.common(name)
        where = str(common.get("tracker.entity", "")), str(common.get("tracker.project", ""))
        try:
            upload_plan(folder, self._client, self._overrides.target(*where, read_upload_state(folder)))
        except FileNotFoundError:
            pass  # it was deleted, and with it what there was to show
        except ServerError as error:
            self._outage(str(error))
            return
        except ServiceGoneError as error:
            self._restart(subject, str(error))
            return
        except Exception as error:
            self._failed(subject, error_line(error))
            if self._closing is None:
                return
        self._plan_names.remove(name)

    def _say(self, event: UploadEvent) -> None:
        with suppress(OSError):  # the parent is gone
            self._out.write(to_line(event).decode())
            self._out.flush()


def _replaces(files: CellFiles) -> bool:
    """Return whether the training is to replace a result."""
    return files.folder.name == RETRAINING


def _give_way() -> None:
    """Take processor time only where training leaves some; W&B's helper process inherits this."""
    os.nice(10)
    # A session of its own is a scheduling group of its own on Linux, within which alone niceness counts.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


def main(runs: Path, overrides: TargetOverrides) -> None:
    """Show what stdin requests until it ends."""
    # SLURM signals every process of a job. The cells then have something more to say, so who started this
    # process says when it ends.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _give_way()
    # W&B's client prints; events must not be mixed with that.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    streams.guard()  # a full disk that takes no word of W&B's client is no reason to upload nothing
    requests: queue.SimpleQueue[ShowRequest | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), name="requests", daemon=True).start()
    daemon = Daemon(runs, overrides, out)
    ends = False
    while not (ends and (daemon.is_empty or daemon.is_out)):
        for order in _waiting(requests):
            if order is None:
                ends = True
                daemon.close()
            else:
                daemon.take(order)
        daemon.look()
    daemon.leave()


def _listen(source: TextIO, requests: "queue.SimpleQueue[ShowRequest | None]") -> None:
    try:
        for line in source:
            requests.put(from_line(ShowRequest, line))
    finally:
        requests.put(None)


def _waiting(requests: "queue.SimpleQueue[ShowRequest | None]") -> Iterable[ShowRequest | None]:
    """Yield the requests that have come; wait a moment for the first, so that the cells are looked at each second."""
    with suppress(queue.Empty):
        yield requests.get(timeout=_LOOK_SECONDS)
        while True:
            yield requests.get_nowait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), TargetOverrides(**json.loads(sys.argv[3])))
    # Nobody else does, if who started this process is gone.
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    # Threads of W&B's client may still wait for a server that is gone.
    os._exit(0)
