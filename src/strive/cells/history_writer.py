"""A cell's history while it trains: one line a step, merged from any number of calls."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from strive.cells.history import step_line
from strive.cells.returned import check_name, number
from strive.errors import ContractError

_SHARE = 20  # after a write, no other one for so many times as long: per-batch metrics cost 5% at most


class HistoryWriter:
    """Collects numbers and writes the whole file again and again, as an appended line could come from a process that
    has lost the cell. The thread of the heartbeat writes, too, so that the last line is never late.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Start with an empty history. write: writes the file's content; it raises nothing."""
        self._write = write
        self._lines: list[str] = []  # of the steps before the last
        self._last: dict[str, int | float | None] = {}
        self.step: int | None = None  # the last
        self._lock = threading.Lock()
        self._dirty, self._next_write = False, 0.0

    def restore(self, content: bytes) -> None:
        """Go on with the history of a checkpoint."""
        lines = content.decode().splitlines(keepends=True)
        with self._lock:
            last: dict[str, Any] = json.loads(lines.pop()) if lines else {}
            self.step, self._last = last.pop("step", None), last
            self._lines, self._dirty = lines, True

    def log(self, step: Any, values: Mapping[str, Any]) -> Mapping[str, int | float | None]:
        """Add numbers to a step, and return them as they are written; one that is not finite is None.

        Raises ContractError for a step before the last one, a name that the step has already, and what is no number.
        """
        step = _whole(step)
        found = {}
        for name, value in values.items():
            check_name(name)
            if name == "step":
                raise ContractError("strive.log: step is the first argument, no metric has that name; choose another")
            found[name] = number(name, value)
        with self._lock:
            self._add(step, found)
            self._dirty = True
        self.write_soon()
        return found

    def content(self) -> bytes:
        """Return the whole file."""
        with self._lock:
            return self._content()

    def write_soon(self) -> None:
        """Write the file if there is news, the last write was long enough ago, and no other thread is at it."""
        if time.monotonic() >= self._next_write and self._lock.acquire(blocking=False):
            try:
                self._write_news()
            finally:
                self._lock.release()

    def write_now(self) -> None:
        """Write the file if there is news."""
        with self._lock:
            self._write_news()

    def _write_news(self) -> None:
        if not self._dirty:
            return
        self._dirty, before = False, time.monotonic()
        self._write(self._content())
        now = time.monotonic()
        self._next_write = now + _SHARE * (now - before)

    def _add(self, step: int, values: Mapping[str, int | float | None]) -> None:
        if self.step is not None and step < self.step:
            raise ContractError(
                f"strive.log({step}, ...) after step {self.step}: steps must not go back. A training that goes on calls"
                " strive.load() first and counts on from its checkpoint"
            )
        if step == self.step:
            if again := sorted(self._last.keys() & values.keys()):
                name, value = again[0], self._last[again[0]]
                raise ContractError(
                    f"strive.log({step}, {name}=...): step {step} has {name}={value} already; a step has one value of"
                    " each name"
                )
        elif self.step is not None:
            self._lines.append(step_line(self.step, self._last))
            self._last = {}
        self.step = step
        self._last |= values

    def _content(self) -> bytes:
        last = [] if self.step is None else [step_line(self.step, self._last)]
        return "".join((*self._lines, *last)).encode()


def _whole(step: Any) -> int:
    found = number("the step", step)
    if isinstance(step, bool) or found is None or found != int(found) or found < 0:
        raise ContractError(f"strive.log({step!r}, ...): the step must be a whole number, 0 or more")
    return int(found)
