"""Forest plot: a line for each condition with its label, its marks on a common axis and its numbers. In inches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from strive.figures import style

_SIDE = 0.1  # margin on the left and right of the page
_GAP = 0.16
_LABEL, _AXIS = (1.5, 2.2), 1.7  # range of the label column's width; least width of the axis
_LABEL_LINES, _NOTE_LINES = 4, 3
_NOTE = 1.6  # width that a note may take if it needs it
_BODY = 7.6  # approximate height of the lines of a page
_PADDING = 0.09  # above and below the text of a line, in total
_LEGEND, _HEADINGS = 0.25, 0.24
_BELOW = 0.42  # for tick labels and the axis label

Draw = Callable[[Axes, float], None]  # draws the marks of one line at this height


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestLine:
    """One line of the page."""

    label: str
    ref: str = ""  # of the condition; appended to a label that had to be shortened
    entries: tuple[str, ...] = ()  # to the right of the axis, one for each heading
    note: str = ""  # why there are no numbers; printed over the first entries, which are ""
    draw: Draw | None = None
    head: str = ""  # heading above the first of the lines that share it
    rule: bool = False  # draw a line above it because another group of conditions begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Everything on a page except the lines."""

    title: str
    subtitle: tuple[str, ...]  # a paragraph each
    axis: str  # meaning of the marks, with the unit
    limits: tuple[float, float]
    headings: tuple[str, ...]  # of the entries
    caption: str
    legend: tuple[Line2D, ...] = ()
    height: float = 0.2  # least height of a line
    backdrop: Draw | None = None  # drawn behind all marks; its height is the top of the axis
    form: style.FigureForm = style.PAGE


@dataclass(frozen=True, slots=True)
class _Measured:
    """A line with its texts wrapped, or a heading."""

    line: ForestLine
    label: list[str]
    note: list[str]
    height: float
    heading: bool = False


def span(
    points: Sequence[float], intervals: Sequence[tuple[float, float]] = (), keep: Sequence[float] = ()
) -> tuple[float, float]:
    """Return axis limits that prevent one outlier from flattening everything else.

    points: positions of marks. intervals: around some of them. keep: values that must be visible. With four or more
    points, only those within three quartile distances (or three typical half-widths) of the middle half count; of an
    interval, at most three typical half-widths on each side. Marks outside the limits become arrows at the edge.
    """
    halves = [(high - low) / 2 for low, high in intervals]
    usual = float(np.median(halves)) if halves else 0.0
    centre, fence = 0.0, np.inf
    if len(points) > 3:
        first, centre, third = np.percentile(points, [25, 50, 75])
        fence = (third - first) / 2 + 3 * max(third - first, usual) or np.inf
    inside = [value for value in points if abs(value - centre) <= fence]
    for (low, high), half in zip(intervals, halves, strict=True):
        middle, kept = (low + high) / 2, min(half, 3 * usual)
        if abs(middle - centre) <= fence:
            inside += [middle - kept, middle + kept]
    low, high = min([*inside, *keep], default=0.0), max([*inside, *keep], default=1.0)
    pad = 0.05 * (high - low) or max(0.05 * abs(high), 0.1)
    return float(low - pad), float(high + pad)


def mark(axes: Axes, x: float, y: float, style: dict[str, Any], *, shape: bool = False) -> None:
    """Draw a mark; if it is outside the axis, an arrow at the edge. shape: keep its shape next to the arrow."""
    low, high = axes.get_xlim()
    if not low <= x <= high:
        edge, inward, arrow = (low, 0.035, "<") if x < low else (high, -0.035, ">")
        pointer = {"marker": arrow, "markersize": 4, "color": style["color"]}
        axes.plot([edge], [y], linestyle="none", clip_on=False, zorder=4, **pointer)
        if not shape:
            return
        x = edge + inward * (high - low)
    axes.plot([x], [y], linestyle="none", clip_on=False, zorder=4, **style)


def whisker(axes: Axes, low: float, high: float, y: float, color: str) -> None:
    """Draw an interval; an end outside the axis becomes an arrow."""
    left, right = axes.get_xlim()
    if high <= left or low >= right:
        return  # the arrow of its mark is enough
    ends, beyond = (max(low, left), min(high, right)), (low < left, high > right)
    look: dict[str, Any] = {"color": color, "clip_on": False, "zorder": 3}
    caps: dict[str, Any] = {"marker": "|", "markersize": 6, "markevery": [end for end in (0, 1) if not beyond[end]]}
    axes.plot(ends, [y, y], linewidth=1.3, solid_capstyle="butt", **caps, **look)
    for end, outside, arrow in zip(ends, beyond, "<>", strict=True):
        if outside:
            axes.plot([end], [y], marker=arrow, markersize=4, **look)


def draw_pages(frame: Frame, lines: Sequence[ForestLine]) -> list[Figure]:
    """Return a figure for each page that the lines need."""
    if frame.form.narrow:  # the numbers are in the tables
        frame, lines = replace(frame, headings=()), [replace(line, entries=()) for line in lines]
    # A heading takes the height of two lines.
    most = max(8, int(_BODY / frame.height) - 2 * len({line.head for line in lines if line.head}))
    return [_draw_page(replace(frame, title=frame.title + name), part) for name, part in style.pages(lines, most)]


def _draw_page(frame: Frame, lines: Sequence[ForestLine]) -> Figure:
    columns, width, titles = _column_widths(frame.headings, lines), frame.form.width, frame.form.titles
    measured = [each for pair in pairwise([None, *lines]) for each in _measure(*pair, columns, frame)]
    labels = [style.text_width(text, style.TEXT) for each in measured if not each.heading for text in each.label]
    left = _SIDE + max(labels, default=0.0) + _GAP
    right = width - _SIDE - sum(columns) - (_GAP if columns else 0.1)
    title = style.wrapped(frame.title, width - 2 * _SIDE, style.TITLE, lines=2, weight="bold") if titles else []
    subtitle = style.paragraphs(frame.subtitle, width - 2 * _SIDE) if titles else []
    caption = style.wrapped(frame.caption, width - 2 * _SIDE, style.SMALL) if titles else []
    bottom = _SIDE * titles + len(caption) * style.line_height(style.SMALL) + _BELOW
    top = bottom + sum(each.height for each in measured)
    above = len(title) * style.line_height(style.TITLE) + len(subtitle) * style.line_height(style.TEXT)
    over = _HEADINGS if frame.headings or frame.backdrop else 0.0
    total = top + over + (_LEGEND if frame.legend else 0) + above + _SIDE * titles
    figure, page = style.new_page(width, total)
    figure.set_label(frame.caption)
    under = style.write(page, (_SIDE, total - _SIDE * titles), title, style.TITLE, weight="bold")
    under = style.write(page, (_SIDE, under), subtitle, style.TEXT)
    if frame.legend:
        style.place_legend(figure, frame.legend, (_SIDE, under - 0.07), columns=len(frame.legend), length=1)
    style.write(page, (_SIDE, bottom - _BELOW), caption, style.SMALL, color=style.FAINT)
    edges = [float(edge) for edge in right + _GAP + np.cumsum(columns)]
    for edge, heading in zip(edges, frame.headings, strict=True):
        page.text(edge, top + 0.05, heading, size=style.SMALL, color=style.FAINT, ha="right", va="bottom")
    axes = figure.add_axes(
        (left / width, bottom / total, (right - left) / width, (top - bottom) / total), facecolor="none"
    )
    _set_up(axes, frame, bottom, top)
    _draw_lines(page, axes, measured, edges, right + _GAP if columns else left + 0.05, top)
    return figure


def _set_up(axes: Axes, frame: Frame, bottom: float, top: float) -> None:
    # The axis uses the page's heights, so a line's text and marks share one.
    axes.set(xlim=frame.limits, ylim=(bottom, top), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5 if frame.form.narrow else 6, steps=[1, 2, 2.5, 5, 10]))
    style.plain_ticks(axes.xaxis)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(frame.axis, labelpad=4)
    if frame.backdrop:
        frame.backdrop(axes, top)


def _draw_lines(
    page: Axes, axes: Axes, measured: Sequence[_Measured], edges: Sequence[float], notes: float, top: float
) -> None:
    """Draw from top to bottom. edges: right ends of the entries. notes: left end of the notes."""
    striped = False
    for each in measured:
        line, middle, foot = each.line, top - each.height / 2, top - each.height
        gid, before = style.condition_gid(line.ref), len(axes.lines)
        striped = not striped and not each.heading
        if striped:
            page.axhspan(foot, top, color=style.STRIPE, linewidth=0)
        if each.heading:
            # Covers the axis, whose grid would run through the words; the first one its upper end, too.
            above = 0.02 if each is measured[0] else 0.0
            axes.axhspan(foot + 0.01, top + above, color="white", linewidth=0, zorder=2.5, clip_on=False)
            style.write_middle(axes, (_SIDE, middle), each.label, style.TEXT, weight="bold", transform=page.transData)
            _rule(page, foot)
        else:
            style.write_middle(page, (_SIDE, middle), each.label, style.TEXT, gid=gid)
            style.write_middle(page, (notes, middle), each.note, style.SMALL, color=style.FAINT, style="italic")
            for edge, entry in zip(edges, line.entries, strict=False):
                style.write_middle(page, (edge, middle), [entry], style.TEXT, ha="right", gid=gid)
            if line.rule:
                _rule(page, top)
            if line.draw:
                line.draw(axes, middle)
            for artist in axes.lines[before:]:
                artist.set_gid(gid)
        top = foot


def _rule(page: Axes, height: float) -> None:
    page.plot([_SIDE, page.get_xlim()[1] - _SIDE], [height, height], color="#b0b0b0", linewidth=0.6)


def _column_widths(headings: Sequence[str], lines: Sequence[ForestLine]) -> list[float]:
    """Return the width of each column of entries, including the gap to its left."""
    widths = [style.text_width(heading, style.SMALL) for heading in headings]
    for line in lines:
        for number, entry in enumerate(line.entries):
            widths[number] = max(widths[number], style.text_width(entry, style.TEXT))
    if not widths:
        return []
    widths = [width + _GAP for width in widths]
    notes = [style.text_width(style.drawable(line.note), style.SMALL) for line in lines if line.note]
    # Widens the column a little if that saves a note from needing a second line.
    widths[0] += max(0.0, min(max(notes, default=0.0), _NOTE) - sum(widths[: _free(lines, len(headings))]))
    return widths


def _free(lines: Sequence[ForestLine], columns: int) -> int:
    """Return the number of columns that notes may cover."""
    ends = [next((n for n, entry in enumerate(line.entries) if entry), columns) for line in lines if line.note]
    return min(ends, default=columns)


def _measure(
    before: ForestLine | None, line: ForestLine | None, columns: Sequence[float], frame: Frame
) -> Iterator[_Measured]:
    """Yield a line, preceded by its heading if it begins one. before: the previous line on the page."""
    assert line is not None
    if line.head and (before is None or before.head != line.head):
        heading = style.wrapped(line.head, frame.form.width - 2 * _SIDE, style.TEXT, lines=2, weight="bold")
        yield _Measured(line, heading, [], 0.16 + len(heading) * style.line_height(style.TEXT), heading=True)
    least = 1.0 if frame.form.narrow else _LABEL[0]
    room = frame.form.width - 2 * _SIDE - 2 * _GAP - sum(columns) - _AXIS
    end = f" … [{line.ref}]" if line.ref else " …"
    label = style.wrapped(line.label, min(max(room, least), _LABEL[1]), style.TEXT, lines=_LABEL_LINES, end=end)
    width = sum(columns[: _free([line], len(columns))]) if columns else _AXIS
    note = style.wrapped(line.note, width, style.SMALL, lines=_NOTE_LINES) if line.note else []
    text = max(len(label) * style.line_height(style.TEXT), len(note) * style.line_height(style.SMALL))
    yield _Measured(line, label, note, max(frame.height, text + _PADDING))
