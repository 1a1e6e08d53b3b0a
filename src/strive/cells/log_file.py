"""Logs of a cell: log.txt, those of its further processes, and the end of any of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strive.console import CONSOLE

LOG = "log.txt"
_TAIL_LINES = 50


@contextmanager
def log_file(cell: str, path: Path) -> Iterator[logging.Logger]:
    """Yield the logger that writes the cell's log.txt. Several cells may train in one process, each with its own."""
    log = logging.getLogger(f"strive.cell.{cell}")
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()


def rank_log(folder: Path, rank: int) -> Path:
    """Return where a process of the cell writes to; rank 0 writes log.txt."""
    return folder / (f"log-rank-{rank}.txt" if rank else LOG)


def tail(log: Path, *, offset: int = 0, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log from so many bytes on; "" if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class _LogFile(logging.Handler):
    """Appends to log.txt. If a line cannot be written, it is lost; the first such error is printed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._said = path, False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self.format(record) + "\n")
        except Exception as error:  # like logging's own handlers
            if not self._said:
                self._said = True
                CONSOLE.print(
                    f"{self._path.parent.name}: log.txt could not be written ({error}); lines are missing there"
                )
