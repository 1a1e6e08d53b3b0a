"""Learning curves in small panels: thin lines for seeds, a thick one for the mean. Lengths are in inches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from strive.figures import style
from strive.figures.histories import ConditionHistory, Scale, histories_of, scale_of, shown
from strive.results.learning_curves import STEP, Curve, columns_of
from strive.sweeps.labels import ARM, Labels
from strive.sweeps.table_spec import value_of
from strive.tables.summary import SweepSummary, data_names, steps_text

MOST_PANELS = 12  # on a page

_SIDE, _LEFT, _RIGHT = 0.1, 0.6, 0.12
_ABOVE_LEGEND = 0.09
_BETWEEN, _STACKED = 0.16, 0.1  # between neighbouring panels; between the two halves of a panel
_FEET = 0.42  # height below a panel, for its tick labels and axis label
_MOST_LABEL = 2.6  # maximal width of a legend label
_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_BASELINE: dict[str, Any] = {"color": style.FOREGROUND, "linestyle": (0, (2.5, 2)), "linewidth": 0.9}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Book:
    """Data shared by all pages of a sweep."""

    title: str
    subtitle: tuple[str, ...]
    form: style.FigureForm
    scale: Scale
    styles: Mapping[str, dict[str, Any]]  # {line: its colour and dash}
    baselines: Mapping[str, ConditionHistory]  # {label of a condition: its history}


@dataclass(frozen=True, kw_only=True, slots=True)
class _CurvePanel:
    """The conditions of one panel, and its title and note."""

    histories: Sequence[ConditionHistory]
    title: list[str]
    note: list[str]
    baselines: list[ConditionHistory]  # to compare with, not conditions of this panel

    @property
    def head(self) -> float:
        """Return the height of title and note."""
        return len(self.title) * style.line_height(style.TEXT) + len(self.note) * style.line_height(style.SMALL) + 0.06


@dataclass(frozen=True, kw_only=True, slots=True)
class _PanelGrid:
    """Positions of the panels on a page."""

    across: int
    width: float
    height: float  # of one half of a panel
    halves: int  # of a panel, 1 or 2
    stacked: bool = True  # halves are stacked; in a single panel they are next to each other

    @property
    def body(self) -> float:
        """Return the height of a panel without title, note and axis labels."""
        rows = self.halves if self.stacked else 1
        return rows * self.height + (rows - 1) * _STACKED

    def corner(self, number: int, half: int) -> tuple[float, float]:
        """Return the lower left corner of a half, from the page's left edge and down from the panel's top."""
        if not self.stacked:
            return _LEFT + half * (self.width + _LEFT + _RIGHT), self.height
        return _LEFT + number * (self.width + _BETWEEN), self.height + half * (self.height + _STACKED)


@style.house_style()
def learning_curves(sweep: SweepSummary, form: style.FigureForm = style.PAGE) -> list[Figure]:
    """Return small panels grouped by the table's first row key.

    Shows what histories.columns_of chooses, for the study training and validation error if images were held out, else
    training loss and error. Returns no figure if no cell has a curve, because a record may lack its history.
    """
    histories = histories_of(sweep)
    curves = [curve for history in histories for curve in history.curves]
    if not columns_of(sweep.layout.value, curves):
        return []
    lines = dict.fromkeys(history.label(history.line) for history in histories)
    scale = scale_of(sweep, histories)
    scale = replace(scale, columns=scale.columns[-1:]) if form.narrow else scale
    book = _Book(
        title=f"{sweep.title}: learning curves",
        subtitle=subtitle(sweep),
        form=form,
        scale=scale,
        styles={line: style.line_style(number) for number, line in enumerate(lines)},
        baselines={history.condition.label: history for history in histories},
    )
    groups: dict[str, list[ConditionHistory]] = {}
    for history in histories:
        groups.setdefault(history.label(history.panel), []).append(history)
    return [_page(name, part, book) for name, part in style.pages(list(groups.values()), MOST_PANELS)]


def subtitle(sweep: SweepSummary) -> tuple[str, str]:
    """Return the sweep's question, and its data and epochs."""
    cells = sweep.loaded.cells
    length = steps_text(sweep.loaded, " or ")
    length = length.removesuffix("s") if set(cells["epochs_planned"]) == {1} else length
    return sweep.loaded.question, ", ".join(filter(None, (data_names(sweep.loaded), length)))


def _page(name: str, groups: Sequence[Sequence[ConditionHistory]], book: _Book) -> Figure:
    """Draw one page. name: appended to the title."""
    width, titles = book.form.width, book.form.titles
    grid = _grid(len(groups), len(book.scale.columns), book.form)
    panels = [_panel(group, book, grid.width) for group in groups]
    bands = [panels[start : start + grid.across] for start in range(0, len(panels), grid.across)]
    heads = [max(panel.head for panel in band) for band in bands]
    room, words = width - 2 * _SIDE, _caption(panels, book.scale)
    title = style.wrapped(book.title + name, room, style.TITLE, lines=2, weight="bold") if titles else []
    question = style.paragraphs(book.subtitle, room) if titles else []
    caption = style.wrapped(words, room, style.SMALL) if titles else []
    handles, columns = _legend(panels, book)
    legend = _ABOVE_LEGEND + (-(-len(handles) // columns) * 0.165 + 0.08 if handles else 0.0)
    above = len(title) * style.line_height(style.TITLE) + len(question) * style.line_height(style.TEXT) + legend
    below = (0.06 + len(caption) * style.line_height(style.SMALL) + _SIDE) * titles
    total = _SIDE * titles + above + sum(heads) + len(bands) * (grid.body + _FEET) + below
    figure, page = style.new_page(width, total)
    figure.set_label(words)
    y = style.write(page, (_SIDE, total - _SIDE * titles), title, style.TITLE, weight="bold")
    y = style.write(page, (_SIDE, y), question, style.TEXT)
    if handles:
        _write_legend(figure, page, y - _ABOVE_LEGEND, handles, columns, panels[0].histories[0])
    style.write(page, (_SIDE, below - 0.06), caption, style.SMALL, color=style.FAINT)
    y -= legend
    for band, head in zip(bands, heads, strict=True):
        for number, panel in enumerate(band):
            x, _ = grid.corner(number, 0)
            under = style.write(page, (x, y), panel.title, style.TEXT, weight="bold")
            style.write(page, (x, under), panel.note, style.SMALL, color=style.FAINT)
            for half, column in enumerate(book.scale.columns):
                _draw_half(_half(figure, grid, number, half, y - head, column, book.scale), panel, column, book)
        y -= head + grid.body + _FEET
    return figure


def _grid(count: int, halves: int, form: style.FigureForm) -> _PanelGrid:
    """Return a grid with up to four panels in a row: with as few rows and then as few gaps as possible."""
    room = form.width - _LEFT - _RIGHT
    if count == 1:
        width = (room - _LEFT - _RIGHT) / 2 if halves == 2 else room
        return _PanelGrid(across=1, width=width, height=2.2, halves=halves, stacked=False)
    across = count if count <= 3 else min((3, 4), key=lambda each: (-(-count // each), -count % each))
    across = min(across, 2) if form.narrow else across
    height = {1: 1.5, 2: 1.2}.get(-(-count // across), 0.95)
    return _PanelGrid(across=across, width=(room - (across - 1) * _BETWEEN) / across, height=height, halves=halves)


def _panel(histories: Sequence[ConditionHistory], book: _Book, width: float) -> _CurvePanel:
    here = {history.condition.label for history in histories}
    wanted = dict.fromkeys(
        history.condition.baseline for history in histories if history.condition.baseline not in here
    )
    first = histories[0]
    title = first.condition.labels.name(first.panel) if first.panel else ""
    return _CurvePanel(
        histories=histories,
        title=style.wrapped(title, width, style.TEXT, lines=2, weight="bold") if title else [],
        note=_note(histories, width),
        baselines=[book.baselines[label] for label in wanted if label in book.baselines],
    )


def _note(histories: Sequence[ConditionHistory], width: float) -> list[str]:
    """Return the number of seeds and the reasons for missing means, wrapped to this width."""
    counts = sorted({len(history.curves) for history in histories})
    lines = [f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"]
    holes: dict[str, list[str]] = {}
    for history in histories:
        if history.hole:
            holes.setdefault(history.hole, []).append(history.label(history.line))
    for hole, names in holes.items():
        named = f"{', '.join(names)}: " if len(names) < len(histories) else ""
        lines += style.wrapped(f"{named}no mean, {hole}", width, style.SMALL, lines=3)
    return lines


def _caption(panels: Sequence[_CurvePanel], scale: Scale) -> str:
    """Return the explanations that this page needs."""
    histories = [history for panel in panels for history in panel.histories]
    if all(len(history.condition.cells) == 1 for history in histories):
        sentences = ["Each line is one seed (n = 1)."]
    else:
        sentences = ["Thin: one seed, n of them. Thick: their mean."]
    if any(history.hole for history in histories):
        sentences.append("No mean where a cell is missing, failed or diverged.")
    if any(any(history.cut) for history in histories):
        sentences.append("\N{MULTIPLICATION SIGN}: it diverged or failed there.")
    if scale.drops:
        sentences.append("Thin vertical lines: the learning rate falls.")
    if scale.labels.step == "epoch":
        sentences.append("Training numbers are means over an epoch, with the dropout and augmentation there is.")
    return " ".join(sentences)


def _legend(panels: Sequence[_CurvePanel], book: _Book) -> tuple[list[Line2D], int]:
    """Return the distinct lines of a page, and the number of columns of the legend."""
    texts = dict.fromkeys(history.label(history.line) for panel in panels for history in panel.histories)
    handles = []
    for text in filter(None, texts):
        (label,) = style.wrapped(text, _MOST_LABEL, style.TEXT, lines=1)
        handles.append(Line2D([], [], linewidth=1.8, label=label, **book.styles[text]))
    if any(panel.baselines for panel in panels):
        handles.append(Line2D([], [], label="mean of its baseline", **_BASELINE))
    widest = max((style.text_width(str(each.get_label()), style.TEXT) for each in handles), default=0.0)
    fitting = int((book.form.width - 2 * _SIDE - (0.5 if book.form.narrow else 1.0)) / (widest + 0.55))
    return handles, max(1, min(len(handles), fitting))


def _write_legend(
    figure: Figure, page: Axes, y: float, handles: Sequence[Line2D], columns: int, history: ConditionHistory
) -> None:
    """Write the legend, with the knob's name in front if the labels are plain values such as 0.05."""
    x = _SIDE
    if len(history.line) == 1 and ARM not in history.line:
        (name,) = style.wrapped(history.condition.labels.title(*history.line), 0.9, style.TEXT, lines=1)
        style.write(page, (x, y + 0.03), [name], style.TEXT, color=style.FAINT)
        x += style.text_width(name, style.TEXT) + 0.12
    style.place_legend(figure, handles, (x, y), columns)


def _half(figure: Figure, grid: _PanelGrid, number: int, half: int, top: float, column: str, scale: Scale) -> Axes:
    """Return the axes of one half of a panel. number: index of the panel in its row."""
    width, height = figure.get_size_inches()
    x, down = grid.corner(number, half)
    axes = figure.add_axes((x / width, (top - down) / height, grid.width / width, grid.height / height))
    low, high = scale.limits[column]
    # A single epoch is drawn as a point in the middle instead of at the edge.
    axes.set(xlim=(1, scale.epochs) if scale.epochs > 1 else (0, 2), ylim=(low, high))
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    logarithmic = 0 < low < high / 10
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    style.plain_ticks(axes.xaxis)
    style.plain_ticks(axes.yaxis, logarithmic=logarithmic)
    lowest, outer = half == grid.halves - 1 or not grid.stacked, number == 0
    axes.tick_params(labelbottom=lowest, labelleft=outer)
    axes.set_xlabel(scale.labels.step if lowest else "", labelpad=1)
    axes.set_ylabel(_axis_label(column, scale.labels) if outer else "", labelpad=3)
    for drop in scale.drops:
        axes.axvline(drop, color="#8c8c8c", linewidth=0.7, linestyle=(0, (1, 2)))
    return axes


def _axis_label(column: str, labels: Labels) -> str:
    """Return the name of a logged number on two lines, with its unit."""
    split, _, rest = column.partition("_")
    value = value_of(column, labels=labels)
    unit = f", {value.own_unit}" if value.own_unit else ""
    if split in _SPLITS and rest:
        return f"{_SPLITS[split]}\n{rest.replace('_', ' ')}{unit}"
    return f"{value.words}{unit}"


def _draw_half(axes: Axes, panel: _CurvePanel, column: str, book: _Book) -> None:
    for history in panel.histories:
        _draw_history(axes, history, column, book.styles[history.label(history.line)])
    for history in panel.baselines:
        if mean := history.mean(column):
            axes.plot(mean[STEP], shown(mean[column], column), **_BASELINE, zorder=4)


def _draw_history(axes: Axes, history: ConditionHistory, column: str, look: Mapping[str, Any]) -> None:
    # A condition with one seed has no other line. A single epoch gives a point instead of a line.
    alone = len(history.condition.cells) == 1
    point = max((len(curve[STEP]) for curve in history.curves), default=0) == 1
    look = dict(look) | ({"marker": "o", "markersize": 3} if point else {})
    look["gid"] = style.condition_gid(history.condition.ref)
    found = [(curve, cut) for curve, cut in zip(history.curves, history.cut, strict=True) if column in curve]
    steps, heights = _joined([curve for curve, _ in found], column)
    axes.plot(steps, heights, **look, linewidth=1.2 if alone else 0.6, alpha=1 if alone else 0.6, zorder=2)
    for curve, cut in found:
        there = np.flatnonzero(~np.isnan(curve[column]))
        if cut and len(there):
            end = min(float(shown(curve[column], column)[there[-1]]), axes.get_ylim()[1])
            cross = {"marker": "x", "markersize": 5, "markeredgewidth": 1.3, "color": look["color"]}
            axes.plot([curve[STEP][there[-1]]], [end], **cross, linestyle="none", clip_on=False, zorder=5)
    if (mean := history.mean(column)) and not alone:
        axes.plot(mean[STEP], shown(mean[column], column), **look, linewidth=1.9, zorder=3)


def _joined(curves: Sequence[Curve], column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and heights of curves as one line with gaps: a line takes matplotlib more time than its points."""
    parts = [np.stack([curve[STEP], shown(curve[column], column)]) for curve in curves]
    gap = np.full((2, 1), np.nan)
    steps, heights = np.hstack([each for part in parts for each in (part, gap)] or [gap])
    return steps, heights
