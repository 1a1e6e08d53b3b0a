"""The `select` of a table: a knob's value, such as each net's learning rate, selected by the table's own cells."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from strive.results.record_row import metric_column
from strive.sweeps.choice import Choice, best_of, examples, order
from strive.sweeps.criterion import Criterion


@dataclass(frozen=True, slots=True)
class Selection:
    """The value selected for one condition, or why there is none."""

    value: Any  # a knob's value; None if none was selected
    why: str  # the reason, one line
    choice: Choice | None = None


def select(cells: pd.DataFrame, key: str, by: Criterion) -> Selection:
    """Return the value of `key` with the best mean, among the cells of one condition.

    A value is never selected if one of its seeds diverged. If two values are equally good, the smaller one is
    selected. If a cell has no result yet, none is: the selection would change as more cells finish.
    """
    unfinished = cells[~cells["status"].isin(["done", "diverged"])]
    if len(unfinished):
        have = "has" if len(unfinished) == 1 else "have"
        return Selection(None, f"{key} not selected, {len(unfinished)} of {len(cells)} cells {have} no result")
    column = metric_column(by.metric)
    if cells[column].isna().any():
        held_out = ": data.val_images=0 holds nothing out" if "data.val_images" in cells else " in all records"
        return Selection(None, f"{key} not selected, {by.metric} is not there{held_out}")
    values, diverged = [], []
    for _, group in cells.groupby(cells[key].map(json.dumps), sort=False):
        value = group[key].iloc[0]
        if (group["status"] == "diverged").any():
            diverged.append(value)
        else:
            values.append((value, list(group[column])))
    if not values:
        return Selection(None, f"{key} not selected, every value diverged")
    values.sort(key=lambda each: order(each[0]))
    choice = best_of(by, values, sorted(diverged, key=order), examples(by, cells.iloc[0].to_dict()))
    return Selection(choice.value, choice.why, choice)
