"""Graceful shutdown: signal handlers take a note that training reads between two steps. Imports no torch."""

import os
import selectors
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, TracebackType
from typing import Self

# Ctrl-C, a scheduler's end, a terminal that was closed, the words of SLURM and others before a time limit, and a limit
# on processor seconds. Not SIGQUIT: Ctrl-\ ends the process at once.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))

_requested = ""


def _nothing() -> BaseException | None:
    return None


_error: Callable[[], BaseException | None] = _nothing


def listen() -> None:
    """Take note of the signals from now on; a second Ctrl-C interrupts at once.

    Under nohup SIGHUP stays ignored.
    """
    for number in SIGNALS:
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def request(reason: str) -> None:
    """Ask for a stop as a signal would."""
    global _requested
    _requested = _requested or reason
    main = threading.main_thread()
    # Only a signal reaches work in the main thread that does not read `requested` (raising).
    if threading.current_thread() is not main and main.ident and signal.getsignal(signal.SIGTERM) is _note and _error():
        signal.pthread_kill(main.ident, signal.SIGTERM)


def requested() -> str:
    """Return what asked for a stop, such as SIGTERM, "" if nothing did."""
    return _requested


def forget() -> None:
    """Forget the request, and go on."""
    global _requested
    _requested = ""


@contextmanager
def raising(error: Callable[[], BaseException | None]) -> Iterator[None]:
    """Let a signal that asks for a stop raise what `error` returns, if it returns anything, in the main thread.

    For work that does not read `requested`. Work in another thread is not reached by signals.
    """
    global _error
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _error = _error, error
    try:
        yield
    finally:
        _error = before


def _note(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _requested:
        raise KeyboardInterrupt
    request(signal.Signals(number).name)
    if (error := _error()) is not None:
        raise error


class CtrlC:
    """Counts the presses of Ctrl-C while it is entered, and lets any signal end the wait of a selector.

    KeyboardInterrupt may come between any two instructions, and a process that was started just then
    would be lost. The third press raises it all the same. A program that already listens to signals
    (`listen`) keeps its own handler, and so does one that waits in another thread.

    The selector's keys carry functions as their data; the one for signals has nothing to do.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.presses = 0
        self._selector = selector
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        """Begin to count."""
        if threading.current_thread() is not threading.main_thread():
            return self
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self._selector.register(reading, selectors.EVENT_READ, partial(os.read, reading, 1 << 16))
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._undo = [
            partial(signal.set_wakeup_fd, before),
            partial(self._selector.unregister, reading),
            partial(os.close, reading),
            partial(os.close, writing),
        ]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._count)
            self._undo.insert(0, partial(signal.signal, signal.SIGINT, signal.default_int_handler))
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leave signals as they were."""
        for undo in self._undo:
            undo()

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.presses += 1
        if self.presses > 2:
            raise KeyboardInterrupt
