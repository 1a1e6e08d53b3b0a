"""Brings cells, and the plans of sweeps, into a tracker: looks at their files and shows what has changed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from strive.errors import NoKeyError, RecordError, ServerError, StriveError
from strive.trackers.cell_files import cell_stamp, read_cell_files
from strive.trackers.tracker import CellTracker, Shown

_LOOK_SECONDS = 1.0  # between two looks at the files
_AGAIN_SECONDS = 30.0  # before what failed is tried again


@dataclass
class _Item:
    """A cell, or a plan, and how far the tracker is with it."""

    is_plan: bool
    stamp: tuple[int, ...] = ()  # of its files, when they were shown
    again_at: float = 0.0
    shown: Shown = Shown.waiting
    over: bool = False  # it has had its last look


class Mirror:
    """Cells and plans in a tracker."""

    def __init__(
        self,
        make: Callable[[], CellTracker],
        plans: Iterable[Path],
        *,
        on_shown: Callable[[Path], object],
        on_problem: Callable[[str], object],
    ) -> None:
        """make: returns the tracker. on_shown: gets each cell or plan whose `how` is another, or whose problem is over.

        on_problem: gets each problem once.
        """
        self._make, self._on_shown, self._on_problem = make, on_shown, on_problem
        self._tracker: CellTracker | None = None
        self._items = {folder: _Item(is_plan=True) for folder in plans}
        self.problems: dict[str, str] = {}  # {cell or plan, "" for all of them: what is wrong now}
        self._told = set[str]()
        self._again_at = 0.0  # when a tracker that did not answer is asked again
        self._closing = threading.Event()

    def add(self, cells: Iterable[Path]) -> None:
        """Show these cells, too; called by any thread."""
        for folder in cells:
            self._items.setdefault(folder, _Item(is_plan=False))

    def close(self) -> None:
        """From now on each look is the last; called by any thread."""
        self._closing.set()

    def run(self) -> None:
        """Show what there is, and what comes until `close`. Raises NoKeyError."""
        while True:
            self.look()
            if self.has_ended:
                break
            time.sleep(_LOOK_SECONDS) if self.is_closing else self._closing.wait(_LOOK_SECONDS)
        try:
            if self._tracker is not None:
                self._tracker.close()
        except Exception as error:
            self._problem("", error)

    @property
    def is_closing(self) -> bool:
        """Whether each look is the last."""
        return self._closing.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do, or nothing can be done for now."""
        return self.is_closing and (self._is_out or all(item.over for item in self._items.values()))

    @property
    def counts(self) -> Counter[Shown]:
        """How far the tracker is with the cells."""
        return Counter(item.shown for item in [*self._items.values()] if not item.is_plan)

    @property
    def lacks_plans(self) -> bool:
        """Whether a plan, or a sweep's table, is still to come."""
        return any(item.is_plan and not item.over for item in self._items.values())

    def how(self, folder: Path) -> Shown:
        """Return how far the tracker is with a cell or a plan."""
        return self._items[folder].shown

    def look(self) -> None:
        """Look once at every cell and plan, and show what is new. Raises NoKeyError."""
        if self._is_out:
            return
        last = self.is_closing
        try:
            if self._tracker is None:
                self._tracker = self._make()
            # At the end plans come last: a sweep's table is made of its cells.
            for folder, item in sorted([*self._items.items()], key=lambda each: last and each[1].is_plan):
                if not item.over:
                    self._look_at(self._tracker, folder, item, last=last)
        except NoKeyError:
            raise
        except Exception as error:  # a fault of ours, too: what is only shown must end no training
            self._again_at = time.monotonic() + _AGAIN_SECONDS
            self._problem("", error)

    @property
    def _is_out(self) -> bool:
        return time.monotonic() < self._again_at

    def _look_at(self, tracker: CellTracker, folder: Path, item: _Item, *, last: bool) -> None:
        stamp = cell_stamp(folder)
        if not last and (stamp == item.stamp or time.monotonic() < item.again_at):
            return
        is_back = False
        try:
            shown = _show(tracker, folder, item, last=last)
        except (ServerError, OSError):
            raise
        except Exception as error:  # must not cost the other cells
            item.again_at = time.monotonic() + _AGAIN_SECONDS
            shown = Shown.failed if last or isinstance(error, RecordError) else Shown.waiting
            self._problem(folder.name, error)
        else:
            item.stamp = () if shown is Shown.waiting else stamp
            is_back = any([self.problems.pop(what, "") for what in (folder.name, "")])
        item.over = last and shown is not Shown.waiting
        # What this process has uploaded it finds there at its next look.
        is_same = shown is item.shown or (item.shown, shown) == (Shown.whole, Shown.already)
        if not is_same:
            item.shown = shown
        if is_back or not is_same:
            self._on_shown(folder)

    def _problem(self, what: str, error: Exception) -> None:
        text = str(error) if isinstance(error, StriveError | OSError) else f"{type(error).__name__}: {error}"
        self.problems[what] = text = f"{what}: {text}" if what else text
        if text not in self._told:
            self._told.add(text)
            self._on_problem(text)


def _show(tracker: CellTracker, folder: Path, item: _Item, *, last: bool) -> Shown:
    if item.is_plan:
        return tracker.show_plan(folder, last=last)
    try:
        files = read_cell_files(folder)
    except OSError as error:
        raise RecordError(str(error)) from None
    return tracker.show(files, last=last) if files is not None else Shown.nothing
