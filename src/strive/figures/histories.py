"""Learning curves of a sweep's conditions, and the scale that all panels share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from strive.results.conditions import Condition
from strive.results.learning_curves import STEP, mean_curve, read_curve
from strive.tables.summary import SweepSummary

MOST_LINES = 8  # conditions in one panel; more could not be distinguished
_MOST_DROPS = 5  # learning rate drops to show; more are a schedule of their own


@dataclass(frozen=True, kw_only=True)
class ConditionHistory:
    """Learning curves of the cells of one condition."""

    condition: Condition
    curves: list[pd.DataFrame]  # of the cells that have one, as returned by read_curve
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

    def mean(self, column: str) -> pd.Series:
        """Return the mean over cells by epoch; empty if there is a hole."""
        return pd.Series(dtype=float) if self.hole else mean_curve(self.curves, column)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Axes shared by all panels of a sweep, to make them comparable."""

    columns: tuple[str, str]  # of the curves: the two halves of each panel
    limits: Mapping[str, tuple[float, float]]  # {column: (lowest, highest)}; logarithmic if the lowest is above 0
    epochs: int  # the last one
    drops: Sequence[float]  # epochs at which the learning rate falls, possibly fractional


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
    columns = _columns(sweep, curves)
    limits = {column: _limits(calm or curves, column) for column in columns}
    if columns[1].startswith("val"):
        # Same limits for training and held-out images, to show the gap between them.
        both = min(low for low, _ in limits.values()), max(high for _, high in limits.values())
        limits = dict.fromkeys(columns, both)
    last = int(max(curve[STEP].max() for curve in curves))
    return Scale(columns=columns, limits=limits, epochs=last, drops=_drops(sweep, last))


def shown(values: pd.Series, column: str) -> pd.Series:
    """Return a column's values in the plotted unit: errors in percent, losses in nats."""
    return values * 100 if column.endswith("error") else values


def _history(condition: Condition, panel: Sequence[str], line: Sequence[str]) -> ConditionHistory:
    curves, cut = [], []
    for folder, status, epochs in zip(*(condition.cells[key] for key in ("folder", "status", "epochs")), strict=True):
        # A missing cell has no folder, and "" would be the current directory.
        curve = read_curve(Path(folder)) if folder else pd.DataFrame()
        # A shorter curve of a finished cell was truncated later.
        if len(curve) and (status != "done" or len(curve) >= epochs):
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


def _columns(sweep: SweepSummary, curves: Sequence[pd.DataFrame]) -> tuple[str, str]:
    kind = "error" if sweep.layout.value.is_error else "loss"
    held_out = any(f"val_{kind}" in curve and curve[f"val_{kind}"].notna().any() for curve in curves)
    return (f"train_{kind}", f"val_{kind}") if held_out else ("train_loss", "train_error")


def _limits(curves: Sequence[pd.DataFrame], column: str) -> tuple[float, float]:
    """Return the axis limits: from 0, or from above 0 for a loss that falls to a tenth."""
    values = shown(pd.concat([curve[column] for curve in curves]).dropna(), column)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if column.endswith("loss") and 0 < low < high / 10:
        return low / 1.2, high * 1.2
    return 0.0, 1.04 * high or 1.0


def _drops(sweep: SweepSummary, last: int) -> list[float]:
    """Return the epochs at which the learning rate falls, if they are the same in all cells; at most the last epoch."""
    cells = sweep.loaded.cells
    found = set(zip(cells["optimizer.drop_at"], cells["epochs_planned"], strict=True))
    if len(found) > 1:
        return []
    ((shares, epochs),) = found
    drops = [float(Fraction(share)) * epochs for share in json.loads(shares)]
    return [drop for drop in drops if drop <= last] if len(drops) <= _MOST_DROPS else []
