"""Live table of a sweep in training, here or on a cluster: read from disk, so it serves both."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from strive.cells import records
from strive.cells.evidence import remark
from strive.cells.metrics import result_text
from strive.cells.records import Record, Status
from strive.cells.task import CellOutcome
from strive.console import CONSOLE, OUTPUT, only_shown
from strive.errors import RecordError
from strive.format import counted, duration, short_names
from strive.launch.notify import notify
from strive.launch.running_cells import RunningCells
from strive.plain_text import printable

_REDRAW_SECONDS = 0.25  # at least, between two frames
_QUIET_SECONDS = 30.0  # at least, between two lines on progress where there is no terminal
_SEEN_SECONDS = 6.0  # of training, before it says how much time is left: the first steps are slow


class LiveView:
    """A live table on stderr; plain lines if that is no terminal. Use as a context manager.

    cells: what this launch trains, {id: its folder}. total, done: cells of the sweep, and how many
    of them had a result before. work: {id: how much there is to train}, in any unit; without it all
    cells count alike in the time that is left.
    """

    def __init__(
        self,
        cells: Mapping[str, Path],
        total: int,
        done: int,
        title: str,
        *,
        work: Mapping[str, float] | None = None,
        console: Console | None = None,
    ) -> None:
        self._console = console or CONSOLE
        self._cells, self._total, self._done, self._title = cells, total, done, title
        self._failed, self._waiting, self._extra = 0, len(cells), ""
        self._diverged = self._dead = 0
        self._names, self._common = short_names(cells)
        self._running = RunningCells()
        self._places: Mapping[str, object] = {}
        self._work = _shares(cells, work or {})
        self._gained = 0.0  # work that ended cells have done since the start
        self._open = set(cells)  # that have not ended
        self._began: float | None = None  # when the first cell was seen to train; starting workers is not training
        self._last: deque[Text] = deque(maxlen=2)
        self._failures: deque[Text] = deque(maxlen=2 * 3)  # two lines each
        self._left_over = Counter[str]()
        self._started = self._drawn = self._spoke = time.monotonic()
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=OUTPUT.is_terminal, get_renderable=self.frame
        )

    def __enter__(self) -> Self:
        """Show the table."""
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leave the last state on the screen."""
        self._running.clear()
        self._extra = ""  # it was of a moment
        if self._console.is_terminal:
            with only_shown():
                self._live.refresh()
            self._live.stop()
        for cause, count in self._left_over.items():
            self.say(f"{counted(count, 'cell')} not trained: {cause}")

    def say(self, message: str) -> None:
        """Print a line that stays."""
        self._console.print(Text("\n".join(map(printable, message.splitlines()))), soft_wrap=True)

    def ended(self, ended: CellOutcome) -> None:
        """Note how a cell ended."""
        running = self._running.pop(ended.cell, None)
        self._open.discard(ended.cell)
        if ended.status is None:
            self._left_over[printable(ended.cause)] += 1
            return
        if ended.status.finished:
            if ended.status is Status.diverged:
                self._diverged += 1
            else:
                self._done += 1
                record = self._record(ended)
                self._dead += record is not None and remark(record) != ""
            # Of a resumed cell only what was trained here says how fast things go.
            self._gained += self._work[ended.cell] * (1 - (running.first[1] if running and running.first else 0.0))
            self._began = self._began or (running.since if running else self._started)
        else:
            self._failed += 1
            if self._failed == 1:
                notify(f"{self._title}: {ended.cell}: {ended.status.value}: {ended.cause}", wait=False)
        self._show_ended(ended)

    @only_shown()
    def refresh(self, running: Iterable[str] | Mapping[str, object], waiting: int, extra: str = "") -> None:
        """Show what trains now: cells, or {cell: where it trains}; a call that comes too soon is left out."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn, self._waiting, self._extra = now, waiting, extra
        self._places = running if isinstance(running, Mapping) else {}
        self._running.see(running, now)
        if not self._console.is_terminal and now - self._spoke < _QUIET_SECONDS:
            return
        self._running.read(self._cells, now)
        if self._began is None and any(each.noted for each in self._running.values()):
            self._began = now
        if self._console.is_terminal:
            self._live.refresh()
        else:
            self._spoke = now
            self.say(self._counts() + (f"; {extra}" if extra else ""))

    def frame(self) -> Group:
        """Return the table as it stands now."""
        width = self._console.width
        lines = [
            Text(f"{self._title}  {self._common}", style="bold"),
            Text(self._counts(), style="red" if self._failed + self._diverged + self._dead else ""),
        ]
        if self._extra:
            lines.append(Text(self._extra))
        below = [*self._last, *self._failures]
        room = max(1, self._console.height - len(lines) - len(below) - 3)
        places = {cell: {"worker": str(place)} for cell, place in self._places.items()}
        lines += [*self._running.table(self._names, width=width, room=room, more=places), *below]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Group(*lines)

    def _counts(self) -> str:
        elapsed = time.monotonic() - self._started
        parts = [f"{self._done} of {self._total} done" + (f" ({self._dead} dead)" if self._dead else "")]
        parts += [f"{self._diverged} diverged"] if self._diverged else []
        parts += [f"{self._failed} failed"] if self._failed else []
        parts += [f"{len(self._running)} running", f"{self._waiting} waiting"]
        left = self._seconds_left()
        ahead = f", about {duration(left)} left" if left else ""
        return f"{', '.join(parts)}; {duration(elapsed)} so far{ahead}"

    def _seconds_left(self) -> float | None:
        seconds = time.monotonic() - self._began if self._began is not None else 0.0
        gained = self._gained + sum(self._work[cell] * each.gain for cell, each in self._running.items())
        if gained <= 0 or seconds < _SEEN_SECONDS:
            return None
        waiting = [self._work[cell] for cell in self._open if cell not in self._running] or [1.0]
        missing = self._waiting * fmean(waiting)
        missing += sum(self._work[cell] * (1 - each.share) for cell, each in self._running.items())
        return missing * seconds / gained

    @only_shown()
    def _show_ended(self, ended: CellOutcome) -> None:
        assert ended.status is not None
        outcome = f"{ended.status.value}: {ended.cause}" if ended.cause else _outcome(self._record(ended), ended)
        if not self._console.is_terminal:
            number = self._done + self._diverged + self._failed
            where = f"; see {ended.log}" if ended.log and not ended.status.finished else ""
            self.say(f"[{number}/{self._total}] {ended.cell}: {outcome}{where}")
        elif ended.status.finished:
            self._last.append(Text(f"{self._names[ended.cell]}: {outcome}", style="dim"))
        else:
            # On two lines: next to a cell's id little room is left for the cause.
            lines = (f"{self._names[ended.cell]}: {ended.status.value}", f"  {ended.cause}")
            self._failures.extend(Text(line, style="red") for line in lines)

    def _record(self, ended: CellOutcome) -> Record | None:
        try:
            return records.read_record(self._cells[ended.cell] / "record.json")
        except (OSError, RecordError):
            return None


def _outcome(record: Record | None, ended: CellOutcome) -> str:
    assert ended.status is not None
    if record is None or record.failure is not None:
        return ended.status.value
    why = remark(record)
    texts = [ended.status.value, result_text(record.metrics), duration(record.provenance.seconds)]
    return ", ".join(texts) + (f": {why}" if why else "")


def _shares(cells: Iterable[str], work: Mapping[str, float]) -> dict[str, float]:
    """Return the work of each cell, in units of their mean."""
    known = [work[cell] for cell in cells if work.get(cell)]
    mean = fmean(known) if known else 1.0
    return {cell: (work.get(cell) or mean) / mean for cell in cells}
