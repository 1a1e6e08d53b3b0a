"""stdout and stderr that fail nothing: what people see may be lost, the work goes on. Imports no torch.

A pipe's reader leaves, a terminal is closed, a disk fills up, an encoding lacks a letter: none of that may end what
writes. Nor may what goes to stderr, as all progress does, wait for long: for a terminal that is held by Ctrl-S, a
laptop that sleeps at the other end of ssh, a pager that nobody scrolls. What goes to stdout was asked for, and waits.
"""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

_PATIENCE_SECONDS = 5.0  # for a reader that takes nothing; what comes meanwhile is lost until it does again
# Where poll says that there is room, so many bytes are taken without a wait: by a pipe, and by a terminal.
_CHUNK = getattr(select, "PIPE_BUF", 512)
_TERMINAL_CHUNK = 256
_READER_LEFT = (errno.EPIPE, errno.EIO)


def guard() -> None:
    """Make this process's stdout and stderr streams that cannot fail; to be called before anything is written.

    Streams that are not the process's own, such as a test's, are left as they are.
    """
    _occupy_closed()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # it was closed
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin" and stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _guarded(stream, patient=name == "stdout"))


def _occupy_closed() -> None:
    """Give descriptors 0, 1 and 2 to /dev/null where they are closed: else a file of ours would be taken for them."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _guarded(stream: io.TextIOWrapper, *, patient: bool) -> io.TextIOWrapper:
    with suppress(OSError):
        stream.flush()
    raw: Any = _Unfailing(stream.fileno(), patient=patient)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # as Python does it for -u
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Unfailing(io.RawIOBase):
    """Writes to a file descriptor what can be written, and says of everything that it was."""

    def __init__(self, fd: int, *, patient: bool) -> None:
        """patient: wait for a slow reader as long as it takes, as pipes do; otherwise it misses something."""
        self._fd, self._patient = fd, patient
        self._chunk = _TERMINAL_CHUNK if os.isatty(fd) else _CHUNK
        self._held = False  # the reader took nothing when it was last asked
        self._told = False

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether a terminal is at the other end."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        """Write the bytes, as far as anybody takes them; return their number."""
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while rest and self._has_room():
                with suppress(BlockingIOError):  # whoever shares the pipe has made it so
                    rest = rest[os.write(self._fd, rest[: size if self._patient else self._chunk]) :]
        except OSError as error:
            self._lost(error)
        return size

    def _has_room(self) -> bool:
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        seconds = None if self._patient else 0.0 if self._held else _PATIENCE_SECONDS
        self._held = not poll.poll(None if seconds is None else 1000 * seconds)
        return not self._held

    def _lost(self, error: OSError) -> None:
        """Say once that stdout is not whole; who has closed it knows."""
        if self._patient and not self._told and error.errno not in _READER_LEFT:
            self._told = True
            print(f"stdout cannot be written ({error.strerror}); what is there is not all", file=sys.stderr)
