"""A wish from outside to stop: noted when the signal comes, obeyed between two steps."""

import signal
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR2")  # Ctrl-C, a scheduler's end, SLURM's word before the time limit

_requested = ""


class StoppedError(Exception):
    """A cell was left between two steps, with a checkpoint, because someone asked for it."""


def listen() -> None:
    """Take note of the signals from now on; a second Ctrl-C interrupts at once."""
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _note)


def request(reason: str) -> None:
    """Ask for a stop as a signal would."""
    global _requested
    _requested = _requested or reason


def requested() -> str:
    """Return who asked for a stop, such as SIGTERM, or "" if nobody did."""
    return _requested


def forget() -> None:
    """Go on as if nobody had asked."""
    global _requested
    _requested = ""


def _note(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _requested:
        raise KeyboardInterrupt
    request(signal.Signals(number).name)
