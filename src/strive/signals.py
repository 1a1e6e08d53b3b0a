"""A wish from outside to stop: noted when the signal comes, obeyed between two steps."""

import signal
from types import FrameType

# Ctrl-C, a scheduler's end, a terminal that was closed, the words of SLURM and others before a time limit, and a limit
# on processor seconds. Not SIGQUIT: Ctrl-\ is for whoever wants an end at once.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))

_requested = ""


class StoppedError(Exception):
    """A cell was left between two steps, with a checkpoint, because someone asked for it."""


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
