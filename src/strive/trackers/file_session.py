"""Session of a tracker that writes files: csv or tensorboard. Imports no torch."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from strive.errors import RecordError
from strive.sweeps.plan import StoredPlan
from strive.trackers.cell_files import CellFiles, cell_stamp, read_cell_files

_LOOK_SECONDS = 1.0  # between two looks at the cells' files


class FileTracker(Protocol):
    """Another form of what cells have on disk, written while they train."""

    def show(self, files: CellFiles) -> None:
        """Take in a cell's files, at first and whenever they have changed. Raises OSError."""

    def close(self) -> None:
        """Write what is left. Raises OSError."""


def plan_in(folder: Path) -> StoredPlan | None:
    """Return the plan in a folder, None in that of a cell alone. Raises RecordError."""
    try:
        return StoredPlan.read(folder)
    except FileNotFoundError:
        return None


class FileSession:
    """Cells of a launch in the files of a tracker; use as a context manager.

    It looks in a thread of its own, and whatever goes wrong is one line.
    """

    def __init__(self, runs: Path, make: Callable[[], FileTracker], *, name: str, say: Callable[[str], object]) -> None:
        """Nothing starts before `with`. make: returns the tracker; may raise OSError. name: of the tracker."""
        self._runs, self._make, self._name, self._say = runs, make, name, say
        self._cells: dict[str, tuple[int, ...]] = {}  # {cell: of its files when it was last shown}
        self._lock, self._leaves = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Look once more, and write what is left."""
        self._leaves.set()
        self._thread.join()

    def show(self, cells: Iterable[str]) -> None:
        """Show these cells from now on."""
        with self._lock:
            for cell in cells:
                self._cells.setdefault(cell, ())

    def _work(self) -> None:
        try:
            tracker = self._make()
            while True:
                leaves = self._leaves.wait(_LOOK_SECONDS)
                self._look(tracker)
                if leaves:
                    break
            tracker.close()
        except Exception as error:  # only for people's eyes: it must end no training
            self._say(f"tracker={self._name}: {error}; the cells train on, and their histories stay in their folders")

    def _look(self, tracker: FileTracker) -> None:
        with self._lock:
            cells = list(self._cells.items())
        for cell, before in cells:
            stamp = cell_stamp(self._runs / cell)
            if stamp == before:
                continue
            try:
                files = read_cell_files(self._runs / cell)
            except RecordError:
                files = None  # status and tables name it
            if files is not None:
                tracker.show(files)
            self._cells[cell] = stamp
