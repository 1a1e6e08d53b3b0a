"""Learning curves of cells as data frames."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from strive.cells.history import read_history

STEP = "step"


def read_curve(folder: Path) -> pd.DataFrame:
    """Return a row for each step in a cell's history; no rows if there is no file.

    Columns: step, and one for each name that was logged, in the order of their appearance, as floats; NaN where a
    step has no such number or it is not finite. Damaged lines are skipped.
    """
    steps = [step for step in read_history(folder) if step is not None]
    names = dict.fromkeys(name for step in steps for name in step.values)
    rows = [[step.step, *(step.values.get(name) for name in names)] for step in steps]
    return pd.DataFrame(rows, columns=[STEP, *names], dtype=float)


def mean_curve(curves: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """Return the mean over cells at each step; empty unless all cells have the same steps.

    If one cell has no number for a step, its mean is NaN.
    """
    if not curves or any(not curve[STEP].equals(curves[0][STEP]) for curve in curves):
        return pd.Series(dtype=float)
    table = pd.concat([curve.set_index(STEP)[column] for curve in curves], axis="columns")
    return table.mean(axis="columns", skipna=False)
