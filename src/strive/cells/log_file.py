"""A cell's log.txt. Several cells may train in one process, each with its own log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strive.console import CONSOLE


@contextmanager
def log_file(cell: str, path: Path) -> Iterator[logging.Logger]:
    """Yield the logger that writes the cell's log.txt."""
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
