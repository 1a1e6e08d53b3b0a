"""The processes of one cell: rank 0 has the lease, writes and decides; the others do as it says.

Rank 0 listens on a socket of this machine, which what it starts finds in its environment (LINK). Another rank connects,
learns of which cell it is a part, and gets each of rank 0's decisions with the number of the call that it belongs to,
so that all leave at the same call of strive.save. Messages are lines of JSON.
"""

import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from strive import signals
from strive.cells.log_file import rank_log, tail
from strive.errors import Diverged, RankError, Stopped

LINK = "STRIVE_RANK_0"  # port and password of rank 0, in the environment of what it starts
_LAST_SECONDS = 60.0  # for ranks that are still at work when rank 0's function has returned
_STOP_SECONDS = 5.0  # for those that leave by a stop, if they have asked for one
_CAUSE_SECONDS = 1.0  # after an error, for a rank that may have been the cause
_GRACE_SECONDS = 3.0  # after a rank's error, for rank 0's function; a library may wait for that rank for ever


class CellStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank has to know of its cell."""

    cell: str
    folder: str  # to train in
    frozen: dict[str, str] = {}  # what the app makes its config of
    goes_on: bool = False  # whether there was a process before this one


def _nothing(error: BaseException) -> None: ...


class Ranks:
    """The other processes of the cell in which this process is rank 0. No cell has any until one connects."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._token = secrets.token_hex(16)
        self.address = f"{self._server.getsockname()[1]}:{self._token}"
        self._own: dict[int, subprocess.Popen[bytes]] = {}  # those that strive has started, by rank
        self._connected: dict[int, socket.socket] = {}
        self._changed = threading.Condition()
        self._messages = os.dup(2)  # a cell's own output goes into its folder
        self._clear()
        threading.Thread(target=self._accept, name="ranks", daemon=True).start()

    def _clear(self) -> None:
        self._start: CellStart | None = None
        self._on_hang: Callable[[BaseException], object] = _nothing
        self._told: dict[str, Mapping[str, Any]] = {}  # the last decision for each call
        self._counts = Counter[str]()
        self._wrote: dict[int, int] = {}  # {rank: the last call of save in which it has written}
        self._ended = set[int]()
        self._errors: list[tuple[float, BaseException]] = []  # of ranks, with the time by the clock of all processes
        self._failed = False  # whether some rank, or rank 0, has had an error
        self._left = self._hangs = False  # whether rank 0's function has ended, or waits for a rank that has failed
        self._ending = False  # whether the ranks' ends are ours

    def add(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Take a rank that was started for the next cell, and end with it."""
        self._own[rank] = process
        threading.Thread(target=self._watch, args=(rank, process), name=f"rank {rank}", daemon=True).start()

    # -- what rank 0 does

    @contextmanager
    def cell(self, start: CellStart, on_hang: Callable[[BaseException], object] = _nothing) -> Iterator[None]:
        """Run the block as rank 0 of a cell, and end the other ranks with it.

        An error that a rank had before the block had one is raised in its place. on_hang: called with it in another
        thread where the block does not end by it; then this process ends.
        """
        with self._changed:
            self._start, self._on_hang = start, on_hang
            self._send_all({"call": "start", "start": msgspec.to_builtins(start)})
        os.environ[LINK] = self.address
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
        finally:
            del os.environ[LINK]
        first = self._leave(error)
        if first is not None:
            raise first from (error if first is not error else None)

    def decide(self, call: str, *, stop: bool) -> bool:
        """Tell all ranks whether they leave at this call of strive.save or strive.stop_requested; return stop."""
        with self._changed:
            self._counts[call] += 1
            self._tell(call, number=self._counts[call], stop=stop)
        return stop

    def loaded(self, path: Path | None) -> None:
        """Tell all ranks what strive.load has returned."""
        with self._changed:
            self._tell("load", number=1, path=path and str(path))

    def everywhere(self, write: Callable[[Path], object]) -> Callable[[Path], object]:
        """Return a function that lets every rank write to one path, for strive.save."""

        def write_everywhere(path: Path) -> None:
            with self._changed:
                number = self._counts["save"] + 1
                self._tell("write", number=number, path=str(path))
            write(path)
            with self._changed:
                self._changed.wait_for(
                    lambda: self._errors or all(self._wrote.get(rank, 0) >= number for rank in self._alive())
                )
                if self._errors:
                    raise self._errors[0][1]

        return write_everywhere

    def _leave(self, error: BaseException | None) -> BaseException | None:
        """End the other ranks and return the error that came first."""
        at = time.monotonic()
        with self._changed:
            seconds = self._patience(error)
            while self._hangs:  # the other thread ends this process
                self._changed.wait()
            self._left, self._ending = True, isinstance(error, Stopped)
            self._failed |= error is not None and not self._ending
            self._changed.wait_for(lambda: self._errors or not self._alive(), seconds)
            if self._errors:
                self._await_cause()
            first = min(self._errors, key=lambda each: each[0], default=(at, error))
            if (late := sorted(self._alive())) and not self._failed:
                self._say(f"rank {late[0]} had not ended {seconds:g} s after rank 0, and was ended")
            self._ending = True
            self._send_all({"call": "end"})
        self._kill()
        for process in self._own.values():
            process.wait()
        with self._changed:
            self._own, self._connected = {}, {}
            self._clear()
        return first[1] if error is None or first[0] < at else error

    def _patience(self, error: BaseException | None) -> float:
        """Return how many seconds the other ranks have to end by themselves."""
        if error is None:
            return _LAST_SECONDS
        if isinstance(error, Stopped):
            return _STOP_SECONDS if any(message.get("stop") for message in self._told.values()) else 0.0
        return _CAUSE_SECONDS

    # -- what the ranks do

    def _accept(self) -> None:
        while True:
            connection, _ = self._server.accept()
            threading.Thread(target=self._serve, args=(connection,), name="rank", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Read what a rank says until it closes its connection."""
        rank = -1
        with suppress(OSError, ValueError, KeyError), connection, connection.makefile("rb") as lines:
            hello = json.loads(next(lines, b"{}"))
            if not hmac.compare_digest(str(hello["token"]), self._token):
                return
            rank = int(hello["rank"])
            with self._changed:
                self._connected[rank] = connection
                if self._start is not None:
                    self._send(connection, {"call": "start", "start": msgspec.to_builtins(self._start)})
                for message in self._told.values():
                    is_over = message["call"] == "write" and message["number"] <= self._counts["save"]
                    if not is_over:
                        self._send(connection, message)
            for line in lines:
                self._hear(rank, json.loads(line))
        if rank in self._connected and rank not in self._own:
            self._gone(rank, -signal.SIGKILL)

    def _hear(self, rank: int, message: Mapping[str, Any]) -> None:
        if "signal" in message:
            signals.request(message["signal"])
        elif "wrote" in message:
            with self._changed:
                self._wrote[rank] = message["wrote"]
                self._changed.notify_all()
        else:
            self._end_of(rank, message)

    def _end_of(self, rank: int, report: Mapping[str, Any]) -> None:
        error = _error_of(rank, report)
        with self._changed:
            self._ended.add(rank)
            if error is not None:
                self._errors.append((report["at"], error))
                self._failed = True
            self._changed.notify_all()
            if error is None or self._left:
                return
            self._await_cause()
            if self._left:
                return
            self._ending = True
        self._kill()  # then what waits for them in rank 0 ends
        with self._changed:
            if self._changed.wait_for(lambda: self._left, _GRACE_SECONDS):
                return
            self._hangs = True
        self._on_hang(error)
        os._exit(1)

    def _await_cause(self) -> None:
        """Wait, after an error, for a rank that was killed: the others have errors by it, often before it is reaped."""
        self._changed.wait_for(lambda: self._ending or not self._alive(), _CAUSE_SECONDS)

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self._changed:
            if self._own.get(rank) is process:  # else its cell has ended
                self._gone(rank, code)

    def _gone(self, rank: int, code: int) -> None:
        """Note the end of a rank's process; if that was no end of its function, end in the same way.

        What follows an error is a consequence of it, but for a death by a signal of a process that is strive's own: its
        death is the cause of the others' errors.
        """
        with self._changed:
            follows = self._failed and (code > 0 or rank not in self._own)
            if rank in self._ended or self._ending or follows or not code:
                self._ended.add(rank)
                self._changed.notify_all()
                return
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            log = rank_log(Path(self._start.folder), rank) if self._start else Path()
            self._say(
                f"{tail(log)}\nthe process of rank {rank} ended by {how}, and so the cell's others end, too; see {log}"
            )
            # What the pool records of a process that dies so, and whether it tries the cell again, holds for any rank.
            if code < 0:
                os.kill(os.getpid(), signal.SIGKILL if -code in signals.SIGNALS else -code)
                time.sleep(_GRACE_SECONDS)
            os._exit(code & 0xFF or 1)

    def _alive(self) -> set[int]:
        return {*self._own, *self._connected} - self._ended

    def _kill(self) -> None:
        for process in list(self._own.values()):
            process.kill()

    def _tell(self, call: str, **content: Any) -> None:
        self._told[call] = {"call": call, **content}
        self._send_all(self._told[call])

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for rank, connection in self._connected.items():
            if rank not in self._ended:
                self._send(connection, message)

    def _send(self, connection: socket.socket, message: Mapping[str, Any]) -> None:
        with suppress(OSError):  # it has ended
            connection.sendall(json.dumps(message).encode() + b"\n")

    def _say(self, message: str) -> None:
        os.write(self._messages, f"{message}\n".encode())


def _error_of(rank: int, report: Mapping[str, Any]) -> BaseException | None:
    """Return the error in a rank's last message, None for one that returned or was stopped."""
    cause, kind = f"rank {rank}: {report.get('cause', '')}", report["ended"]
    if kind == "diverged":
        return Diverged(cause, **report["metrics"])
    if kind not in ("error", "out_of_memory"):
        return None
    error = MemoryError(cause) if kind == "out_of_memory" else RankError(cause)
    error.add_note(f"On rank {rank}, which wrote {report['log']}:\n{report['traceback']}")
    return error
