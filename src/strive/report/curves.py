"""Learning curves for the page: small plots with a thin line for each cell and a thick one for a condition's mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strive.cells.history import read_lines, step_in
from strive.report.plots import COLOURS, Spec, WebFigure, WebPanel, line_keys, plain, series_of, style
from strive.results.conditions import Condition
from strive.results.labels import knob_title, value_text, value_texts
from strive.tables.summary import SweepSummary

_MOST_POINTS = 80  # of a curve, enough for a small plot
_ALL_POINTS = 40_000  # of a sweep, about half a megabyte; each curve has a few in any case
_FEWEST_POINTS = 25
_ONE_PX, _SMALL_PX = 380, 210

Curve = list[float | None]  # percent at each of the chosen epochs; empty without a file


@dataclass(frozen=True, kw_only=True, slots=True)
class _ErrorHistory:
    """Errors over epochs of the cells of one condition."""

    condition: Condition
    curves: dict[str, Curve]  # {name of the cell: its curve}, including those without a file

    @property
    def seen(self) -> dict[str, Curve]:
        """Return the curves that have at least one visible point."""
        return {name: curve for name, curve in self.curves.items() if any(value is not None for value in curve)}

    @property
    def mean(self) -> Curve:
        """Return the mean over cells at each epoch at which all have a number; empty if there is a hole."""
        if self.condition.hole or len(self.curves) < 2 or not all(self.curves.values()):
            return []
        return [_mean(values) for values in zip(*self.curves.values(), strict=True)]


def learning_curves(sweep: SweepSummary) -> WebFigure | None:
    """Return the error over epochs of each cell with a history; None if none has one.

    Uses held-out images if all of the sweep's cells have them, else training images. A condition with a hole has no
    mean.
    """
    cells = sweep.loaded.cells
    most = int(cells["epochs_planned"].max())
    epochs = _kept(most, max(_FEWEST_POINTS, min(_MOST_POINTS, _ALL_POINTS // len(cells))))
    held_out = bool((cells["data.val_images"] > 0).all())
    histories = _histories(sweep, "val_error" if held_out else "train_error", epochs)
    curves = [curve for history in histories for curve in history.seen.values()]
    points = [value for curve in curves for value in curve if value is not None]
    if not points:
        return None
    span = min(points), max(points)
    images = "held-out images" if held_out else "training images, as trained"
    step = epochs[2] - epochs[1] if len(epochs) > 2 else 1
    every = f", every {step} epochs" if step > 1 else ""
    many = any(len(history.curves) > 1 for history in histories)
    lines_are = "Thin: each cell. Thick: the mean, where all cells are done." if many else "Each line is one cell."
    scale = " The axis is logarithmic." if _logarithmic(span) else ""
    panels, lines = series_of(sweep)
    plots = _panels(histories, panels, lines, epochs)
    return WebFigure(
        name="curves",
        title="Learning curves",
        caption=f"Error in percent on {images}{every}. {lines_are}{scale}",
        alt=f"Errors over {most} epochs of {len(curves)} cells.",
        panels=tuple(plots),
        layout=_layout(_ONE_PX if len(plots) == 1 else _SMALL_PX, span, epochs),
        legend=line_keys(lines.values()),
    )


def _kept(most: int, points: int) -> list[int]:
    """Return the epochs to show: this many between 1 and `most`, including both."""
    step = -(-most // points)
    return sorted({1, *range(step, most + 1, step), most})


def _histories(sweep: SweepSummary, column: str, epochs: Sequence[int]) -> list[_ErrorHistory]:
    folders = dict(zip(sweep.loaded.cells["cell"], sweep.loaded.cells["folder"], strict=True))
    names = _names(sweep)
    return [
        _ErrorHistory(
            condition=condition,
            # A missing cell has no folder, and "" would be the current directory.
            curves={
                names[cell]: _curve(Path(folders[cell]), column, epochs) if folders[cell] else []
                for cell in condition.cells["cell"]
            },
        )
        for condition in sweep.conditions
    ]


def _names(sweep: SweepSummary) -> dict[str, str]:
    """Return {cell id: a name that is unique within its condition}."""
    keys = sweep.layout.pair
    names = {}
    for cell, status, *values in sweep.loaded.cells[["cell", "status", *keys]].to_numpy(object).tolist():
        pair = ", ".join(f"{knob_title(key)} {value_text(key, value)}" for key, value in zip(keys, values, strict=True))
        names[cell] = pair if status == "done" else f"{pair} ({status.replace('_', ' ')})"
    return names


def _curve(folder: Path, column: str, epochs: Sequence[int]) -> Curve:
    """Return a cell's errors in percent at some epochs, None if it has none there; [] without a file."""
    lines = read_lines(folder)
    # Other lines are not parsed, to save time with a thousand cells of 350 epochs each.
    return (
        [_error(lines[epoch - 1], column, epoch) if epoch <= len(lines) else None for epoch in epochs] if lines else []
    )


def _error(line: bytes, column: str, epoch: int) -> float | None:
    found = step_in(line)
    share = None if found is None or found.step != epoch else found.values.get(column)
    return round(100 * share, 2) if share is not None and 0 <= share <= 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    # No mean if one cell has no number.
    return round(math.fsum(numbers) / len(numbers), 2) if len(numbers) == len(values) else None


def _panels(
    histories: Sequence[_ErrorHistory],
    panels: Mapping[str, tuple[str, str]],
    lines: Mapping[str, tuple[str, str]],
    epochs: Sequence[int],
) -> list[WebPanel]:
    """Return a plot for each panel that shows any curve. panels, lines: as returned by series_of."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(lines.values()))}
    found: dict[str, list[Spec]] = {}
    for history in histories:
        traces = found.setdefault(" ".join(filter(None, panels[history.condition.ref])), [])
        traces += _traces(history, epochs, numbers[lines[history.condition.ref]])
    return [WebPanel(title=title, traces=traces) for title, traces in found.items() if traces]


def _traces(history: _ErrorHistory, epochs: Sequence[int], number: int) -> list[Spec]:
    """Return a line for each cell of a condition, and one for their mean. number: index of the line style."""
    many = len(history.curves) > 1
    named = [(name, curve, many) for name, curve in history.seen.items()]
    if any(value is not None for value in history.mean):
        named.append(("mean", history.mean, False))
    return [
        _trace(history.condition, f"{history.condition.label}, {name}", epochs, curve, number, thin=thin)
        for name, curve, thin in named
    ]


def _trace(condition: Condition, name: str, epochs: Sequence[int], curve: Curve, number: int, *, thin: bool) -> Spec:
    colour, dash = style(number)
    kept = [(epoch, value) for epoch, value in zip(epochs, curve, strict=True) if value is not None]
    return {
        "type": "scatter",
        "mode": "lines" if len(kept) > 1 else "markers",
        "name": plain(name),
        "x": [epoch for epoch, _ in kept],
        "y": [value for _, value in kept],
        "line": {"color": COLOURS[colour], "width": 1 if thin else 2.5, "dash": "solid" if thin else dash},
        "opacity": 0.45 if thin else 1,
        "hovertemplate": "%{fullData.name}<br>epoch %{x}: %{y:.2f}%<extra></extra>",
        "showlegend": False,
        "meta": {"factors": value_texts(condition.key), "colour": colour},
    }


def _layout(height: int, span: tuple[float, float], epochs: Sequence[int]) -> Spec:
    """Return the layout of all plots, with equal axes to make them comparable. span: smallest and largest error."""
    axis = {"automargin": True, "fixedrange": True, "zeroline": False}
    # Prevents ticks at fractions such as epoch 2.5.
    whole = {"dtick": 1} if epochs[-1] <= 8 else {}
    return {
        "height": height,
        "margin": {"l": 40, "r": 8, "t": 8, "b": 36},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
        "xaxis": axis | {"title": {"text": "epoch"}, "range": [0, 1.02 * epochs[-1]]} | whole,
        "yaxis": axis | {"title": {"text": "error, %"}} | _error_axis(span),
    }


def _logarithmic(span: tuple[float, float]) -> bool:
    """Return whether errors fall so far that a linear axis would merge the ends of the curves."""
    return 0 < span[0] < span[1] / 5


def _error_axis(span: tuple[float, float]) -> Spec:
    low, high = 0.9 * span[0], 1.05 * span[1]
    if not _logarithmic(span):
        return {"range": [round(low, 2), round(high, 2)]}
    ticks = [factor * 10**power for power in range(-2, 3) for factor in (1, 2, 5)]
    return {
        "type": "log",
        "range": [round(math.log10(low), 3), round(math.log10(high), 3)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
