"""Cells in training, here or on a cluster: how far each is, and its last numbers. Read from disk. Imports no torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from strive.cells.history import Step, read_lines, step_in
from strive.cells.lease import owner_of
from strive.cells.metrics import better_of, value_text
from strive.format import duration, shortened
from strive.plain_text import printable

_READ_SECONDS = 2.0  # between two looks at one cell's files: its owner writes no oftener
_READS = 50  # cells read at a time: a cluster may train hundreds, on a slow file system
# Columns around those of the logged numbers.
_BEFORE, _AFTER = ("epoch", "step"), ("images/s", "left", "worker")
_OPTIONAL = ("epoch", "step", "images/s")  # shown only if a cell has them
# Names of the study's numbers in a narrow table; others are shown under their own.
_SHORT = {"train_loss": "loss", "val_error": "val"}
_MOST_NUMBERS = 3  # logged numbers of a cell
_CURVE = "curve"
_LEVELS = "▁▂▃▄▅▆▇█"
_POINTS = 8  # of a curve
_LEAST_NAME = 12  # columns for a cell's name


@dataclass(slots=True)
class RunningCell:
    """Progress of one cell in training."""

    since: float  # seconds, the clock of who looks
    read: float = float("-inf")  # when its files were last read
    noted: bool = False  # whether its owner has said how far it is
    share: float = 0.0  # of its steps
    first: tuple[float, float] | None = None  # (when, share) of its first note
    columns: dict[str, str] = field(default_factory=dict)

    def note(self, now: float, note: Mapping[str, Any]) -> None:
        """Take in the progress that the cell's owner has written."""
        step, steps = note["step"], note.get("steps", 0)
        self.noted, self.share = True, step / steps if steps else 0.0
        self.first = self.first or (now, self.share)
        self.columns |= {"left": duration(self._left(now)) if steps else ""}
        if "epoch" in note:
            self.columns["epoch"] = f"{note['epoch']}/{note['epochs']}"
        else:
            self.columns["step"] = f"{step:,}/{steps:,}" if steps else f"{step:,}"
        if "images_per_second" in note:
            self.columns["images/s"] = f"{note['images_per_second']:,.0f}"

    def _left(self, now: float) -> float | None:
        if self.first is None or self.share <= self.first[1]:
            return None
        return (1 - self.share) * (now - self.first[0]) / (self.share - self.first[1])

    @property
    def gain(self) -> float:
        """How much of the cell was trained since it was first seen; a resumed cell starts in its middle."""
        return self.share - self.first[1] if self.first else 0.0


class RunningCells(dict[str, RunningCell]):
    """{cell: its progress} of those that train now."""

    def see(self, cells: Iterable[str], now: float) -> None:
        """Note which cells train now; the others are forgotten."""
        kept = {cell: self.get(cell) or RunningCell(now) for cell in cells}
        self.clear()
        self.update(kept)

    def read(self, folders: Mapping[str, Path], now: float) -> None:
        """Read the files of some cells, those first that were not read for the longest time."""
        for cell in sorted(self, key=lambda cell: self[cell].read)[:_READS]:
            if now - self[cell].read >= _READ_SECONDS:
                _read(self[cell], folders[cell], now)

    def table(
        self, names: Mapping[str, str], *, width: int | None, room: int, more: Mapping[str, Mapping[str, str]]
    ) -> list[Text]:
        """Return the lines of a table.

        names: {cell: what to call it}. width: columns of the terminal; None cuts nothing. room: the most lines. more:
        {cell: {column: text}}, over what was read.
        """
        if not self:
            return []
        shown = list(self.items())
        if len(shown) > room:
            shown = shown[: room - 1]
        rows = {cell: running.columns | dict(more.get(cell, {})) for cell, running in shown}
        columns, first = _layout(rows, [len(names[cell]) for cell in rows], width)
        head = "cell".ljust(first) + "".join(f"  {name:>{size}}" for name, size in columns.items())
        lines = [Text(head, style="dim")]
        for cell, row in rows.items():
            numbers = "".join(f"  {row.get(name, ''):>{size}}" for name, size in columns.items())
            lines.append(Text(printable(shortened(names[cell], first).ljust(first) + numbers)))
        if left_out := len(self) - len(rows):
            lines.append(Text(f"and {left_out} more", style="dim"))
        return lines


def _layout(
    rows: Mapping[str, Mapping[str, str]], lengths: Sequence[int], width: int | None
) -> tuple[dict[str, int], int]:
    """Return {column: its width}, and the width of the names; a curve has its column where the names leave room."""
    longest = max(len("cell"), *lengths)
    columns = {
        name: max(len(name), *(len(row.get(name, "")) for row in rows.values())) for name in _names(rows.values())
    }
    if width is None:
        columns.pop(_CURVE, None)  # for files and programs it says nothing
        return columns, longest
    room = width - sum(columns.values()) - 2 * len(columns)
    if _CURVE in columns and room < longest:
        room += columns.pop(_CURVE) + 2
    return columns, max(_LEAST_NAME, min(longest, room))


def _names(rows: Collection[Mapping[str, str]]) -> list[str]:
    """Return the columns to show, those of the logged numbers in the middle."""
    around = (*_BEFORE, *_AFTER)
    logged = dict.fromkeys(name for row in rows for name in row if name not in around and row[name])
    shown = [name for name in around if name not in _OPTIONAL or any(row.get(name) for row in rows)]
    return [*(name for name in shown if name in _BEFORE), *logged, *(name for name in shown if name in _AFTER)]


def _read(running: RunningCell, folder: Path, now: float) -> None:
    running.read = now
    owner = owner_of(folder)
    if owner is not None:
        running.columns["worker"] = owner.job or owner.host
        if owner.note:
            running.note(now, owner.note)
    if (lines := read_lines(folder)) and (last := step_in(lines[-1])) is not None:
        running.columns |= _numbers(last) | {_CURVE: _curve(lines, _shown(last)[0])}
        if not (owner and owner.note):
            running.columns["step"] = f"{last.step:,}"


def _shown(step: Step) -> list[str]:
    """Return the logged numbers to show: of the study training loss and held-out error, else those with a direction."""
    if set(_SHORT) <= step.values.keys():
        return list(_SHORT)
    return ([name for name in step.values if better_of(name) is not None] or list(step.values) or [""])[:_MOST_NUMBERS]


def _numbers(step: Step) -> dict[str, str]:
    """Return the columns of the last logged numbers."""
    if set(_SHORT) <= step.values.keys():
        loss, error = (step.values[name] for name in _SHORT)
        return {"loss": "not finite" if loss is None else f"{loss:.3f}", "val": "" if error is None else f"{error:.2%}"}
    return {name: value_text(name, step.values[name]) for name in _shown(step) if name}


def _curve(lines: Sequence[bytes], name: str) -> str:
    """Return the course of a logged number as a small curve, from its least to its largest value; "" for too few."""
    count = min(_POINTS, len(lines))
    picked = [step_in(lines[round(number * (len(lines) - 1) / max(1, count - 1))]) for number in range(count)]
    values = [value for step in picked if step is not None and (value := step.values.get(name)) is not None]
    if len(values) < 3:
        return ""
    low, high = min(values), max(values)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (value - low) / (high - low)) if high > low else 0] for value in values)
