"""The matrix of a sweep as a heat map: each mean with its interval and its verdict. Lengths are in inches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from strive.figures import style
from strive.figures.curves import subtitle
from strive.figures.forest import span
from strive.results.conditions import Condition
from strive.sweeps.table_spec import Value
from strive.tables.condition_lines import heading, marks_note, verdict_mark
from strive.tables.matrix import matrix_keys
from strive.tables.summary import SweepSummary

_SIDE, _ROW, _MOST_CELL = 0.05, 0.36, 1.1
_SHADES = LinearSegmentedColormap.from_list("shades", ["#f7fafd", style.COLOURS[0]])  # one hue, so grey shows the same
_DARK = 0.6  # of the shades; from here on text is white


@dataclass(frozen=True, kw_only=True, slots=True)
class _MatrixGrid:
    """Where the places of the matrix are."""

    rows: Sequence[str]
    columns: Sequence[str]
    left: float
    bottom: float
    cell: float  # width of a place

    @property
    def top(self) -> float:
        """Return the height of the upper edge."""
        return self.bottom + len(self.rows) * _ROW

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Return the lower left corner of a place."""
        return self.left + column * self.cell, self.top - (row + 1) * _ROW


@style.house_style()
def heat_map(sweep: SweepSummary, form: style.FigureForm = style.PAGE) -> list[Figure]:
    """Return the matrix as one figure; none if the sweep has no matrix, or none of its places has a mean."""
    keys = matrix_keys(sweep.conditions, sweep.layout)
    means = [condition.summary.mean for condition in sweep.conditions if condition.summary is not None]
    if keys is None or not means:
        return []
    rows, columns = (list(dict.fromkeys(heading(each, side) for each in sweep.conditions)) for side in keys)
    left = max(style.text_width(row, style.TEXT) for row in rows) + 2 * _SIDE
    cell = min((form.width - left - _SIDE) / len(columns), _MOST_CELL)
    room, words = form.width - 2 * _SIDE, _caption(sweep)
    title = style.wrapped(f"{sweep.title}: {sweep.layout.value.title}", room, style.TITLE) if form.titles else []
    question = style.paragraphs(subtitle(sweep), room) if form.titles else []
    caption = style.wrapped(words, room, style.SMALL) if form.titles else []
    grid = _MatrixGrid(rows=rows, columns=columns, left=left, bottom=_below(caption), cell=cell)
    heads = [style.wrapped(text, cell - 0.04, style.TEXT, lines=3) for text in columns]
    above = len(title) * style.line_height(style.TITLE) + len(question) * style.line_height(style.TEXT)
    height = grid.top + max(map(len, heads)) * style.line_height(style.TEXT) + 0.08 + above
    figure, page = style.new_page(form.width if form.titles else left + len(columns) * cell + _SIDE, height)
    figure.set_label(words)
    under = style.write(page, (_SIDE, height), title, style.TITLE, weight="bold")
    style.write(page, (_SIDE, under), question, style.TEXT)
    style.write(page, (_SIDE, grid.bottom - _SIDE), caption, style.SMALL, color=style.FAINT)
    _name_places(page, grid, heads)
    norm = Normalize(*span(means))
    for condition in sweep.conditions:
        row, column = (side.index(heading(condition, key)) for side, key in zip((rows, columns), keys, strict=True))
        shade = 0.0 if condition.summary is None else float(np.clip(norm(condition.summary.mean), 0, 1))
        _draw_place(page, grid.corner(row, column), cell, condition, shade, sweep.layout.value)
    return [figure]


def _below(caption: Sequence[str]) -> float:
    return len(caption) * style.line_height(style.SMALL) + _SIDE


def _name_places(page: Axes, grid: _MatrixGrid, heads: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(grid.rows):
        _, bottom = grid.corner(number, 0)
        style.write_middle(page, (_SIDE, bottom + _ROW / 2), [row], style.TEXT)
    for number, lines in enumerate(heads):
        x, _ = grid.corner(0, number)
        top = grid.top + 0.04 + len(lines) * style.line_height(style.TEXT)
        style.write(page, (x + grid.cell / 2, top), lines, style.TEXT, ha="center")


def _draw_place(
    page: Axes, corner: tuple[float, float], width: float, condition: Condition, shade: float, value: Value
) -> None:
    """Draw a place: its colour, its mean and interval; a hole is white and says why."""
    (x, y), gid, hole = corner, style.condition_gid(condition.ref), condition.summary is None
    colour = "white" if hole else _SHADES(shade)
    page.fill_between([x + 0.01, x + width - 0.01], y + 0.01, y + _ROW - 0.01, color=colour, linewidth=0, gid=gid)
    lines, size = (_why(condition, width), style.SMALL) if hole else (_lines(condition, value), style.TEXT)
    ink = "white" if shade > _DARK else style.FOREGROUND
    style.write_middle(page, (x + width / 2, y + _ROW / 2), lines, size, ha="center", color=ink, gid=gid)


def _lines(condition: Condition, value: Value) -> list[str]:
    """Return the mean with its verdict, and half of its 95% interval; both ends where it was cut."""
    own = condition.summary
    if own is None:
        return []
    lines = [style.number(own.mean, value.digits) + verdict_mark(condition, value)]
    if own.low is None or own.high is None:
        return lines
    ends = [style.number(end, value.digits) for end in (own.low, own.high)]
    half = style.number((own.high - own.low) / 2, value.digits)
    cut = {own.low, own.high} & set(value.bounds)
    return [*lines, " to ".join(ends) if cut else f"± {half}"]


def _why(condition: Condition, cell: float) -> list[str]:
    return style.wrapped(condition.hole, cell - 0.06, style.SMALL, lines=2)


def _caption(sweep: SweepSummary) -> str:
    conditions: Sequence[Condition] = sweep.conditions
    sizes = {condition.summary.n for condition in conditions if condition.summary is not None}
    n = f"n = {sizes.pop()}" if len(sizes) == 1 else f"n = {min(sizes)} to {max(sizes)}"
    words = (
        f"Mean {sweep.layout.value.title}, ± half of its 95% interval (Student's t over seeds, {n}), which says nothing"
        " of the difference of two; darker is more."
    )
    return " ".join((words, *marks_note(conditions, sweep.layout)))
