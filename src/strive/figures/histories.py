"""Learning curves of a sweep's conditions, and the scale that all panels share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strive.cells.metrics import is_share, last_word
from strive.results.conditions import Condition
from strive.results.learning_curves import STEP, Curve, columns_of, mean_curve, read_curve
from strive.results.record_row import CONTRADICTORY
from strive.sweeps.labels import Labels
from strive.tables.summary import SweepSummary

MOST_LINES = 8  # conditions in one panel; more could not be distinguished
_LOGARITHMIC = ("loss", "perplexity")  # metrics with a logarithmic axis where they fall to a tenth
_MOST_DROPS = 5  # learning rate drops to show; more are a schedule of their own


@dataclass(frozen=True, kw_only=True)
class ConditionHistory:
    """Learning curves of the cells of one condition."""

    condition: Condition
    curves: list[Curve]  # of the cells that have one
    cut: list[bool]  # whether each curve ends early because its cell diverged or failed
    panel: Mapping[str, Any]  # the part of the condition's key that identifies its panel
    line: Mapping[str, Any]  # the part that identifies its line in the panel

    @cached_property
    def hole(self) -> str:
        """Return why there is no mean; "" if there is one."""
        lacking = len(self.condition.cells) - len(self.curves)
        if self.condition.hole or not lacking:
            return self.condition.hole
        return f"{lacking} of {len(self.condition.cells)} without a whole curve"

    def mean(self, column: str) -> Curve:
        """Return the mean over cells by step; {} if there is a hole."""
        return {} if self.hole else mean_curve(self.curves, column)

    def label(self, part: Mapping[str, Any]) -> str:
        """Return the name of its panel or line."""
        return self.condition.labels.short(part)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Axes shared by all panels of a sweep, to make them comparable."""

    columns: tuple[str, ...]  # of the curves: one or two halves of each panel
    limits: Mapping[str, tuple[float, float]]  # {column: (lowest, highest)}; logarithmic if the lowest is above 0
    epochs: int  # the last one
    drops: Sequence[float]  # epochs at which the learning rate falls, possibly fractional
    labels: Labels  # the app's words for a step of the histories, and its units


def histories_of(sweep: SweepSummary) -> list[ConditionHistory]:
    """Return each condition's history; the first row key names its panel, and more keys if a panel would overflow."""
    keys = sweep.layout.keys
    depth = _depth(sweep)
    return [_history(condition, keys[:depth], keys[depth:]) for condition in sweep.conditions]


def scale_of(sweep: SweepSummary, histories: Sequence[ConditionHistory]) -> Scale:
    """Return the scale shared by all panels; at least one history must have a curve."""
    curves = [curve for history in histories for curve in history.curves]
    # A diverged curve may reach 1e30 and must not flatten all others.
    calm = [curve for history in histories for curve, cut in zip(history.curves, history.cut, strict=True) if not cut]
    columns = columns_of(sweep.layout.value, curves)
    limits = {column: _limits(calm or curves, column) for column in columns}
    if columns[-1].startswith("val") and len({name.partition("_")[2] for name in columns}) == 1:
        # Same limits for training and held-out images, to show the gap between them.
        both = min(low for low, _ in limits.values()), max(high for _, high in limits.values())
        limits = dict.fromkeys(columns, both)
    last = int(max(curve[STEP].max() for curve in curves))
    return Scale(columns=columns, limits=limits, epochs=last, drops=_drops(sweep, last), labels=sweep.loaded.labels)


def shown(values: NDArray[np.float64], column: str) -> NDArray[np.float64]:
    """Return a column's values in the plotted unit: errors in percent, others as they are."""
    return values * 100 if is_share(column) else values


def _history(condition: Condition, panel: Sequence[str], line: Sequence[str]) -> ConditionHistory:
    curves, cut = [], []
    cells = condition.cells
    counts = cells["epochs"] if "epochs" in cells else [0] * len(cells)
    for folder, status, epochs in zip(cells["folder"], cells["status"], counts, strict=True):
        # A missing cell has no folder, and "" would be the current directory.
        curve = read_curve(Path(folder)) if folder and status != CONTRADICTORY else {STEP: np.empty(0)}
        # A shorter curve of a finished cell was truncated later.
        if len(curve[STEP]) and (status != "done" or len(curve[STEP]) >= epochs):
            curves.append(curve)
            cut.append(status != "done")
    return ConditionHistory(
        condition=condition,
        curves=curves,
        cut=cut,
        panel={key: condition.key[key] for key in panel},
        line={key: condition.key[key] for key in line},
    )


def _depth(sweep: SweepSummary) -> int:
    """Return how many keys of the table name a panel; 0 if there is only one key and one panel is enough."""
    keys = sweep.layout.keys
    for depth in range(min(1, len(keys) - 1), len(keys)):
        panels = [json.dumps([condition.key[key] for key in keys[:depth]]) for condition in sweep.conditions]
        if max(map(panels.count, set(panels))) <= MOST_LINES:
            return depth
    return len(keys)


def _limits(curves: Sequence[Curve], column: str) -> tuple[float, float]:
    """Return the axis limits: around the values, or from 0; logarithmic for a loss that falls to a tenth."""
    logged = shown(np.hstack([curve[column] for curve in curves if column in curve] or [np.empty(0)]), column)
    values = logged[~np.isnan(logged)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if last_word(column) in _LOGARITHMIC and 0 < low < high / 10:
        return low / 1.2, high * 1.2
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return (0.0 if 0 <= low < 0.3 * high else low - pad), high + pad


def _drops(sweep: SweepSummary, last: int) -> list[float]:
    """Return the epochs at which the learning rate falls, if they are the same in all cells; at most the last epoch."""
    cells, labels = sweep.loaded.cells, sweep.loaded.labels
    key = labels.drops
    otherwise = any(when in cells and (cells[when] != value).any() for when, value in labels.drops_when.items())
    if key not in cells or otherwise:
        return []
    found = set(zip(cells[key], cells["epochs_planned"], strict=True))
    if len(found) > 1:
        return []
    ((shares, epochs),) = found
    drops = [float(Fraction(share)) * epochs for share in json.loads(shares)]
    return [drop for drop in drops if drop <= last] if len(drops) <= _MOST_DROPS else []
