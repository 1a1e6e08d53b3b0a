"""A process of a cell that is not its rank 0: it does what rank 0 decides, and writes nothing of the cell's."""

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from strive.cells.ranks import LINK, CellStart
from strive.cells.returned import returned_metrics
from strive.errors import Diverged, Stopped, first_line, is_out_of_memory

_PATIENCE_SECONDS = 60.0  # before it says that it waits for rank 0


class RankLink:
    """Connection of a rank to rank 0, without which it ends."""

    def __init__(self) -> None:
        """Connect. What this process starts is no rank."""
        port, _, token = os.environ.pop(LINK).partition(":")
        self.rank = int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or os.getpid())
        self._socket = socket.create_connection(("127.0.0.1", int(port)))
        self._lines, self._lock = self._socket.makefile("rb"), threading.Lock()
        self._changed = threading.Condition()
        self._told: dict[str, Mapping[str, Any]] = {}
        self._stops: dict[str, int] = {}  # {call: the number at which all leave}
        self.send(token=token, rank=self.rank)
        threading.Thread(target=self._listen, name="rank 0", daemon=True).start()

    def send(self, **message: Any) -> None:
        """Send a message to rank 0."""
        with self._lock, suppress(OSError):  # it has ended
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def start(self) -> CellStart:
        """Return the cell, as soon as there is one."""
        with self._changed:
            self._changed.wait_for(lambda: "start" in self._told)
            return msgspec.convert(self._told["start"]["start"], CellStart)

    def stops(self, call: str, number: int) -> bool:
        """Return whether all ranks leave at this call of strive.save or strive.stop_requested, the number-th."""
        self._await(call, lambda: self._number(call) >= number)
        return self._stops.get(call, sys.maxsize) <= number

    def path_to_write(self, number: int) -> str:
        """Return where all ranks write at this call of strive.save, "" if nothing is due."""
        self._await("save", lambda: max(self._number("write"), self._number("save")) >= number)
        return str(self._told["write"]["path"]) if self._number("write") == number else ""

    def path_to_load(self) -> Path | None:
        """Return what strive.load has returned on rank 0."""
        self._await("load", lambda: "load" in self._told)
        path = self._told["load"]["path"]
        return path and Path(path)

    def _number(self, call: str) -> int:
        return int(self._told[call]["number"]) if call in self._told else 0

    def _await(self, call: str, decided: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(decided, _PATIENCE_SECONDS):
                print(
                    f"rank {self.rank} waits for rank 0 to call strive.{call}: all ranks must call it equally often",
                    file=sys.stderr,
                    flush=True,
                )
                self._changed.wait_for(decided)

    def _listen(self) -> None:
        with suppress(OSError, ValueError):
            for line in self._lines:
                message = json.loads(line)
                if message["call"] == "end":
                    os._exit(0)
                with self._changed:
                    self._told[message["call"]] = message
                    if message.get("stop"):
                        self._stops.setdefault(message["call"], message["number"])
                    self._changed.notify_all()
        os._exit(1)


class RankRun:
    """The run of a cell as strive.log and the others have it on a rank other than 0."""

    def __init__(self, link: RankLink, cell: str, folder: Path) -> None:
        self.cell, self.folder, self.pid = cell, folder, os.getpid()
        self._link, self._saves, self._asked = link, 0, 0

    def log(self, step: int, /, **metrics: Any) -> None:
        """Do nothing: rank 0 logs."""

    def fingerprint(self, name: str, text: str) -> None:
        """Do nothing: rank 0 says what the cell has read."""

    def save(self, write: Callable[[Path], object], *, all_ranks: bool = False) -> None:
        """Leave if rank 0 leaves at this call, and write if it is a checkpoint of all ranks; see `strive.save`.

        Raises Stopped with rank 0.
        """
        self._saves += 1
        if all_ranks and (path := self._link.path_to_write(self._saves)):
            write(Path(path))
            self._link.send(wrote=self._saves)
        if self._link.stops("save", self._saves):
            raise Stopped(f"{self.cell}: rank {self._link.rank} stopped with rank 0")

    def load(self) -> Path | None:
        """Return what rank 0 loads; see `strive.load`."""
        return self._link.path_to_load()

    def stop_requested(self) -> bool:
        """Return what rank 0 was answered; see `strive.stop_requested`."""
        self._asked += 1
        return self._link.stops("stop_requested", self._asked)


def report(link: RankLink, error: BaseException | None, log: Path) -> None:
    """Tell rank 0 how this rank's function has ended. log: where it wrote to."""
    content: dict[str, Any] = {"ended": "returned", "at": time.monotonic(), "log": str(log)}
    if isinstance(error, Diverged):
        metrics, _ = returned_metrics(error.metrics)
        content |= {"ended": "diverged", "cause": first_line(error), "metrics": metrics}
    elif error is not None and not isinstance(error, Stopped) and not _is_success(error):
        kind = "out_of_memory" if is_out_of_memory(error) else "error"
        content |= {"ended": kind, "cause": f"{type(error).__name__}: {first_line(error)}"}
        content["traceback"] = "".join(traceback.format_exception(error))
    link.send(**content)


def _is_success(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and error.code in (None, 0)
