"""Learning curves of cells as data frames."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from strive.cells.history import read_history
from strive.cells.metrics import better_of, is_share, last_word
from strive.sweeps.table_spec import Value

STEP = "step"
_TRAIN, _VAL = "train_", "val_"
_QUIET = ("lr", "epoch")  # logged for the record; shown only if there is nothing else


def read_curve(folder: Path) -> pd.DataFrame:
    """Return a row for each step in a cell's history; no rows if there is no file.

    Columns: step, and one for each name that was logged, in the order of their appearance, as floats; NaN where a
    step has no such number or it is not finite. Damaged lines are skipped.
    """
    steps = [step for step in read_history(folder) if step is not None]
    names = dict.fromkeys(chain.from_iterable(step.values for step in steps))
    columns = {STEP: [step.step for step in steps]} | {
        name: [step.values.get(name) for step in steps] for name in names
    }
    # As arrays: pandas looks for a type in each entry of rows.
    return pd.DataFrame({name: np.array(column, dtype=float) for name, column in columns.items()})


def mean_curve(curves: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """Return the mean over cells at each step; empty unless all cells have the same steps.

    If one cell has no number for a step, its mean is NaN.
    """
    if not curves or any(column not in curve for curve in curves):
        return pd.Series(dtype=float)
    steps = curves[0][STEP].to_numpy()
    if any(not np.array_equal(curve[STEP].to_numpy(), steps) for curve in curves):
        return pd.Series(dtype=float)
    return pd.Series(np.mean([curve[column].to_numpy() for curve in curves], axis=0), index=pd.Index(steps, name=STEP))


def columns_of(value: Value, curves: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    """Return the columns of some curves to show for a table's value, at most two; none if they hold no number.

    With held-out data that is the value's kind on training and held-out data: train_error and val_error for test_error.
    Without, training loss and error. Other names: the value itself where it was logged, and a column that goes with it.
    """
    there = [name for name in dict.fromkeys(str(name) for curve in curves for name in curve) if name != STEP]
    known = [
        name for name in there if any(name in each and np.isfinite(each[name].to_numpy()).any() for each in curves)
    ]
    kind = "error" if is_share(value.name) else last_word(value.name)
    if {f"{_TRAIN}{kind}", f"{_VAL}{kind}"} <= set(known):
        return f"{_TRAIN}{kind}", f"{_VAL}{kind}"
    if {"train_loss", "train_error"} <= set(there):
        return "train_loss", "train_error"
    first = [name for name in (value.name, f"{_VAL}{kind}", f"{_TRAIN}{kind}", kind) if name in known]
    rest = sorted((name for name in known if name not in _QUIET), key=lambda name: better_of(name) is None)
    return tuple(reversed(list(dict.fromkeys((*first, *rest, *known)))[:2]))
