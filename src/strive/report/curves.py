"""Learning curves for the page: small plots with a thin line for each cell and a thick one for a condition's mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strive.cells.history import read_lines, step_in
from strive.cells.metrics import last_word
from strive.report.plots import COLOURS, Spec, WebFigure, WebPanel, line_keys, plain, series_of, style
from strive.results.conditions import Condition
from strive.results.record_row import CONTRADICTORY
from strive.sweeps.table_spec import Value, value_of
from strive.tables.summary import SweepSummary

_MOST_POINTS = 80  # of a curve, enough for a small plot
_ALL_POINTS = 40_000  # of a sweep, about half a megabyte; each curve has a few in any case
_FEWEST_POINTS = 25
_ONE_PX, _SMALL_PX = 380, 210

Lines = Mapping[str, Sequence[bytes]]  # {folder of a cell: the lines of its history}
Curve = list[float | None]  # in the plotted unit, at each of the chosen lines; empty without a file


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axes:
    """What all plots show."""

    value: Value  # the logged number
    what: str  # it is called so
    unit: str  # of a step, such as epoch
    numbers: Sequence[int]  # of the lines that are shown, 1 is the first
    steps: Sequence[int]  # of these lines

    @property
    def digits(self) -> int:
        """Return how many digits behind the point the page keeps."""
        return 2 if self.value.percent else 6


@dataclass(frozen=True, kw_only=True, slots=True)
class _History:
    """A logged number over the steps of the cells of one condition."""

    condition: Condition
    curves: dict[str, Curve]  # {name of the cell: its curve}, including those without a file
    digits: int  # behind the point

    @property
    def seen(self) -> dict[str, Curve]:
        """Return the curves that have at least one visible point."""
        return {name: curve for name, curve in self.curves.items() if any(value is not None for value in curve)}

    @property
    def mean(self) -> Curve:
        """Return the mean over cells at each step at which all have a number; empty if there is a hole."""
        if self.condition.hole or len(self.curves) < 2 or not all(self.curves.values()):
            return []
        return [_mean(values, self.digits) for values in zip(*self.curves.values(), strict=True)]


def learning_curves(sweep: SweepSummary) -> WebFigure | None:
    """Return a logged number over the steps of each cell with a history; None if none has one.

    The study's is the error, on held-out images if all of the sweep's cells have them, else on training images. A
    condition with a hole has no mean.
    """
    cells, labels = sweep.loaded.cells, sweep.loaded.labels
    # A missing cell has no folder, and "" would be the current directory.
    believed = cells["folder"][cells["status"] != CONTRADICTORY]
    lines = {str(folder): read_lines(Path(folder)) for folder in believed if folder}
    value = _value(sweep, lines)
    if value is None:
        return None
    axes = _axes(sweep, value, lines)
    histories = _histories(sweep, axes, lines)
    curves = [curve for history in histories for curve in history.seen.values()]
    points = [point for curve in curves for point in curve if point is not None]
    if not points:
        return None
    span = min(points), max(points)
    step = axes.steps[2] - axes.steps[1] if len(axes.steps) > 2 else 1
    every = f", every {step} {axes.unit}s" if step > 1 else ""
    many = any(len(history.curves) > 1 for history in histories)
    lines_are = "Thin: each cell. Thick: the mean, where all cells are done." if many else "Each line is one cell."
    scale = " The axis is logarithmic." if _logarithmic(span) else ""
    unit = f" in {'percent' if value.percent else value.own_unit}" if value.own_unit else ""
    measured = labels.measured.get(value.name)
    on = f" on {measured}" if measured else ""
    panels, styles = series_of(sweep)
    plots = _panels(histories, panels, styles, axes)
    return WebFigure(
        name="curves",
        title="Learning curves",
        caption=f"{_capital(axes.what)}{unit}{on}{every}. {lines_are}{scale}",
        alt=f"{_capital(axes.what)}s over {axes.steps[-1]} {axes.unit}s of {len(curves)} cells.",
        panels=tuple(plots),
        layout=_layout(_ONE_PX if len(plots) == 1 else _SMALL_PX, span, axes),
        legend=line_keys(styles.values()),
    )


def _value(sweep: SweepSummary, lines: Lines) -> Value | None:
    """Return the logged number to show, one that all histories have where there is one; None if nothing was logged."""
    known: dict[str, set[str]] = {}  # {name: folders in which it is a number}
    for folder, own in lines.items():
        last = next(filter(None, map(step_in, reversed(own))), None)
        for name, number in last.values.items() if last else ():
            known.setdefault(name, set()).update([folder] if number is not None else [])
    everywhere = {name for name, folders in known.items() if len(folders) == sum(map(bool, lines.values()))}
    shown = sweep.layout.value
    kind = "error" if "train_error" in known else last_word(shown.name)
    held_out = [name for name in (f"val_{kind}", shown.name) if name in everywhere]
    wanted = [*held_out, f"train_{kind}", *sorted(everywhere, key=list(known).index), *known]
    names = [name for name in wanted if known.get(name)]
    return value_of(names[0], labels=sweep.loaded.labels) if names else None


def _axes(sweep: SweepSummary, value: Value, lines: Lines) -> _Axes:
    longest = max(lines.values(), key=len)
    planned = int(sweep.loaded.cells["epochs_planned"].max())
    most = max(planned, len(longest))
    numbers = _kept(most, max(_FEWEST_POINTS, min(_MOST_POINTS, _ALL_POINTS // len(sweep.loaded.cells))))
    # Where a plan foresees the steps, they are counted; else the longest history says what they are.
    seen = [] if planned else longest
    found = [step_in(seen[number - 1]) if number <= len(seen) else None for number in numbers]
    what = value.words if value.name not in sweep.loaded.labels.measured else value.words.rpartition(" ")[2]
    return _Axes(
        value=value,
        what=what,
        unit=sweep.loaded.labels.step,
        numbers=numbers,
        steps=[number if each is None else each.step for number, each in zip(numbers, found, strict=True)],
    )


def _kept(most: int, points: int) -> list[int]:
    """Return the lines to show: this many between 1 and `most`, including both."""
    step = -(-most // points)
    return sorted({1, *range(step, most + 1, step), most})


def _histories(sweep: SweepSummary, axes: _Axes, lines: Lines) -> list[_History]:
    folders = dict(zip(sweep.loaded.cells["cell"], sweep.loaded.cells["folder"], strict=True))
    names = _names(sweep)
    return [
        _History(
            condition=condition,
            digits=axes.digits,
            curves={names[cell]: _curve(lines.get(str(folders[cell]), ()), axes) for cell in condition.cells["cell"]},
        )
        for condition in sweep.conditions
    ]


def _names(sweep: SweepSummary) -> dict[str, str]:
    """Return {cell id: a name that is unique within its condition}."""
    keys, labels = sweep.layout.pair, sweep.loaded.labels
    names = {}
    for cell, status, *values in sweep.loaded.cells[["cell", "status", *keys]].to_numpy(object).tolist():
        texts = [f"{labels.title(key)} {labels.text(key, value)}" for key, value in zip(keys, values, strict=True)]
        pair = ", ".join(texts) or str(cell)
        names[cell] = pair if status == "done" else f"{pair} ({status.replace('_', ' ')})"
    return names


def _curve(lines: Sequence[bytes], axes: _Axes) -> Curve:
    """Return a cell's numbers at some lines, None if it has none there; [] without a file."""
    # Other lines are not parsed, to save time with a thousand cells of 350 epochs each.
    return (
        [
            _number(lines[number - 1], axes.value, step) if number <= len(lines) else None
            for number, step in zip(axes.numbers, axes.steps, strict=True)
        ]
        if lines
        else []
    )


def _number(line: bytes, value: Value, step: int) -> float | None:
    found = step_in(line)
    number = None if found is None or found.step != step else found.values.get(value.name)
    if number is None:
        return None
    if value.percent:
        return round(100 * number, 2) if 0 <= number <= 1 else None
    return float(f"{number:.6g}")


def _mean(values: Sequence[float | None], digits: int) -> float | None:
    numbers = [value for value in values if value is not None]
    # No mean if one cell has no number.
    return round(math.fsum(numbers) / len(numbers), digits) if len(numbers) == len(values) else None


def _panels(
    histories: Sequence[_History],
    panels: Mapping[str, tuple[str, str]],
    lines: Mapping[str, tuple[str, str]],
    axes: _Axes,
) -> list[WebPanel]:
    """Return a plot for each panel that shows any curve. panels, lines: as returned by series_of."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(lines.values()))}
    found: dict[str, list[Spec]] = {}
    for history in histories:
        traces = found.setdefault(" ".join(filter(None, panels[history.condition.ref])), [])
        traces += _traces(history, axes, numbers[lines[history.condition.ref]])
    return [WebPanel(title=title, traces=traces) for title, traces in found.items() if traces]


def _traces(history: _History, axes: _Axes, number: int) -> list[Spec]:
    """Return a line for each cell of a condition, and one for their mean. number: index of the line style."""
    many = len(history.curves) > 1
    named = [(name, curve, many) for name, curve in history.seen.items()]
    if any(value is not None for value in history.mean):
        named.append(("mean", history.mean, False))
    return [
        _trace(history.condition, f"{history.condition.label}, {name}", axes, curve, number, thin=thin)
        for name, curve, thin in named
    ]


def _trace(condition: Condition, name: str, axes: _Axes, curve: Curve, number: int, *, thin: bool) -> Spec:
    colour, dash = style(number)
    kept = [(step, value) for step, value in zip(axes.steps, curve, strict=True) if value is not None]
    shown = "%{y:.2f}%" if axes.value.percent else "%{y:.4g}"
    return {
        "type": "scatter",
        "mode": "lines" if len(kept) > 1 else "markers",
        "name": plain(name),
        "x": [step for step, _ in kept],
        "y": [value for _, value in kept],
        "line": {"color": COLOURS[colour], "width": 1 if thin else 2.5, "dash": "solid" if thin else dash},
        "opacity": 0.45 if thin else 1,
        "hovertemplate": f"%{{fullData.name}}<br>{axes.unit} %{{x}}: {shown}<extra></extra>",
        "showlegend": False,
        "meta": {"factors": condition.labels.texts(condition.key), "colour": colour},
    }


def _layout(height: int, span: tuple[float, float], axes: _Axes) -> Spec:
    """Return the layout of all plots, with equal axes to make them comparable. span: smallest and largest value."""
    axis = {"automargin": True, "fixedrange": True, "zeroline": False}
    last = axes.steps[-1]
    # Prevents ticks at fractions such as epoch 2.5.
    whole = {"dtick": 1} if last <= 8 else {}
    unit = f", {axes.value.own_unit}" if axes.value.own_unit else ""
    return {
        "height": height,
        "margin": {"l": 40, "r": 8, "t": 8, "b": 36},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
        "xaxis": axis | {"title": {"text": plain(axes.unit)}, "range": [0, 1.02 * last]} | whole,
        "yaxis": axis | {"title": {"text": plain(f"{axes.what}{unit}")}} | _value_axis(span, axes.digits),
    }


def _logarithmic(span: tuple[float, float]) -> bool:
    """Return whether values fall so far that a linear axis would merge the ends of the curves."""
    return 0 < span[0] < span[1] / 5


def _value_axis(span: tuple[float, float], digits: int) -> Spec:
    low, high = span[0] - 0.1 * abs(span[0]), span[1] + 0.05 * abs(span[1])
    if not _logarithmic(span):
        return {"range": [round(low, digits), round(high, digits)]}
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10**power for power in range(min(-2, first), max(2, last) + 1) for factor in (1, 2, 5)]
    return {
        "type": "log",
        "range": [round(math.log10(low), 3), round(math.log10(high), 3)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
