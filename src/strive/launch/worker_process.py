"""Handle of a worker process: its pipes, the cells it has, its end. Imports no torch."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from strive import app
from strive.cells.log_file import tail
from strive.cells.ranks import LINK
from strive.cells.surroundings import GIVEN
from strive.cells.task import Task
from strive.json_lines import from_line, to_line
from strive.launch.devices import Slot
from strive.launch.exit_cause import oom_kills
from strive.launch.protocol import EventKind, TrainRequest, WorkerEvent
from strive.processes import own_source_first

# What libraries of numbers read at their start; torch reads the first two.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerProcess:
    """One process `python -m strive.launch.worker`, its pipes, and the cells it has."""

    def __init__(
        self,
        number: int,
        slot: Slot,
        *,
        log: Path,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.number = number
        self.log = log
        self.ready = False  # it can train
        self.exits = False  # it will exit
        self.fault = ""  # why it exits, if any of several cells may be the cause
        self.requests: dict[str, TrainRequest] = {}  # the cells it has
        self.began: dict[str, WorkerEvent] = {}  # its event for each of them that it has begun
        self.since: dict[str, float] = {}  # and when that came, monotonic seconds
        self.overdue: list[str] = []  # cells because of which it was asked to leave: they ran for too long
        self.leaves_until = math.inf  # when it is killed, monotonic seconds
        self.has_reported = False  # it has reported the end of a cell
        self.closed = False  # it has closed its end of the pipe
        self.oom_kills = oom_kills()
        self._part = b""
        # -P: do not import a file select.py or random.py in the current directory.
        program = [python, "-P", "-X", "faulthandler", "-m", "strive.launch.worker"]
        with log.open("ab") as output:
            self._log_start = output.seek(0, os.SEEK_END)
            reading, writing = os.pipe()
            try:
                self._process = subprocess.Popen(
                    [*program, str(writing), str(slot.threads), slot.gpus or "", str(slot.room)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    bufsize=0,
                    pass_fds=(writing,),
                    env=_environment(slot) | dict(environment or {}),
                    # A terminal's Ctrl-C is for the pool, which then stops its workers one by one.
                    start_new_session=True,
                )
            except BaseException:
                os.close(reading)
                raise
            finally:
                os.close(writing)
        os.set_blocking(reading, False)
        self.events_fd = reading
        # Readable when the process has ended; not on every system.
        self.end_fd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    @property
    def pid(self) -> int:
        """Its process id, which is that of its process group too."""
        return self._process.pid

    def give(self, request: TrainRequest) -> None:
        """Give it a cell; it may have others."""
        self.requests[request.task.cell] = request
        self.oom_kills = oom_kills()
        assert self._process.stdin is not None
        # If it has just died, has_ended finds out.
        with suppress(BrokenPipeError):
            self._process.stdin.write(to_line(request))

    def take_back(self, cell: str) -> tuple[TrainRequest, WorkerEvent | None]:
        """Return the request of a cell that it has no more, and its event when it began with it."""
        self.since.pop(cell, None)
        return self.requests.pop(cell), self.began.pop(cell, None)

    def events(self) -> list[WorkerEvent]:
        """Return the events since the last call."""
        with suppress(BlockingIOError):
            while not self.closed:
                content = os.read(self.events_fd, 1 << 16)
                self._part += content
                self.closed = not content
        *lines, self._part = self._part.split(b"\n")
        events = [from_line(WorkerEvent, line) for line in lines]
        for event in events:
            self.ready |= event.kind is EventKind.ready
            self.exits |= event.exits
            if event.exits and event.companions:
                self.fault = self.fault or event.cause
            if event.kind is EventKind.began:
                self.began[event.cell] = event
                self.since[event.cell] = time.monotonic()
        return events

    def has_ended(self) -> bool:
        """Return whether the process is gone; it stays a zombie until `reap`."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def stop(self) -> None:
        """Ask it to write checkpoints of its cells and exit."""
        self._terminate()
        self.dismiss()

    def end_overdue(self, seconds: float, grace: float) -> list[str]:
        """Ask it to leave if cells have run for so many seconds, and return these, once; after the grace kill it."""
        now = time.monotonic()
        if self.overdue:
            self.dismiss()  # if they have ended meanwhile, it waits for others
            if now >= self.leaves_until:
                self.kill()
            return []
        self.overdue = [cell for cell, since in self.since.items() if now - since >= seconds]
        if self.overdue:
            self.leaves_until, self.exits = now + grace, True
            self._terminate()
        return self.overdue

    def _terminate(self) -> None:
        # Not Popen.send_signal, which may reap it unnoticed.
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def dismiss(self) -> None:
        """Let it exit: there are no more cells."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """End it and what it has started at once."""
        # Until it is reaped, no other process group can get its number.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Wait for its end, end what it has started, and return its exit code; minus the signal that killed it."""
        if self._process.returncode is None:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self.kill()
            self._process.wait()
            self.dismiss()
            for fd in (self.events_fd, self.end_fd):
                if fd is not None:
                    os.close(fd)
        return self._process.returncode

    def log_of(self, task: Task) -> Path:
        """Return the file with what a cell has printed here: its own, if it is an app's that prints there."""
        own = task.folder / "log.txt"
        return own if self.log_tail().rstrip().endswith(f"--- {task.cell}") and own.exists() else self.log

    def log_tail(self) -> str:
        """Return the end of what this process wrote to its log."""
        return tail(self.log, offset=self._log_start)


def _environment(slot: Slot) -> dict[str, str]:
    environment = own_source_first(os.environ, app.sources())
    environment.pop(LINK, None)  # where a cell starts a sweep of its own
    threads = str(slot.threads)
    environment |= dict.fromkeys(_THREADS, threads) | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", threads)
    environment[GIVEN] = json.dumps({"threads": slot.threads, "gpus": slot.gpus or ""})
    if slot.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.gpus
    if not slot.gpus:
        # As the study does by mallopt, but before torch has allocated anything.
        environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))
        environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**31 - 1))
        environment.setdefault("MALLOC_TOP_PAD_", str(2**26))
    return environment
