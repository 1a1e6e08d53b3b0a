"""Selection of a knob's value by a table's own cells, such as each net's learning rate."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from strive.sweeps.choice import Criterion, order, smallest


@dataclass(frozen=True, slots=True)
class Selection:
    """The value selected for one condition, or why there is none."""

    value: Any  # a knob's value; None if none was selected
    why: str  # the reason, one line


def select(cells: pd.DataFrame, key: str, by: Criterion) -> Selection:
    """Return the value of `key` with the smallest mean error, among the cells of one condition.

    A value is never selected if one of its seeds diverged. If two values are equally good, the smaller one is
    selected. If a cell has no result yet, none is: the selection would change as more cells finish.
    """
    unfinished = cells[~cells["status"].isin(["done", "diverged"])]
    if len(unfinished):
        return Selection(None, f"{key} not selected, {len(unfinished)} of {len(cells)} cells have no result")
    if cells[by.value].isna().any():
        return Selection(None, f"{key} not selected, {by.value} is not there: data.val_images=0 holds nothing out")
    errors, diverged = [], []
    for _, group in cells.groupby(cells[key].map(json.dumps), sort=False):
        value = group[key].iloc[0]
        if (group["status"] == "diverged").any():
            diverged.append(value)
        else:
            errors.append((value, list(group[by.value])))
    if not errors:
        return Selection(None, f"{key} not selected, every value diverged")
    errors.sort(key=lambda each: order(each[0]))
    choice = smallest(by, errors, sorted(diverged, key=order))
    return Selection(choice.value, choice.why)
