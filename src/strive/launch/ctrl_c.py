"""Ctrl-C as something to be heeded at a good moment. Imports no torch."""

import os
import selectors
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType, TracebackType
from typing import Self


class CtrlC:
    """Counts the presses of Ctrl-C while it is entered, and lets any signal end the wait of a selector.

    KeyboardInterrupt may come between any two instructions, and a process that was started just then
    would be lost. The third press raises it all the same. A program that already listens to signals
    (strive.signals) keeps its own handler, and so does one that waits in another thread.

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
