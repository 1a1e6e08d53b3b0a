"""Learning curves of cells as arrays."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strive.cells.history import read_history
from strive.cells.metrics import better_of, is_share, last_word
from strive.sweeps.table_spec import Value

STEP = "step"
Curve = dict[str, NDArray[np.float64]]  # {STEP: steps, a logged name: its number at each of them}
_TRAIN, _VAL = "train_", "val_"
_QUIET = ("lr", "epoch")  # logged for the record; shown only if there is nothing else


def read_curve(folder: Path) -> Curve:
    """Return the steps in a cell's history and, in the order of their appearance, the names that it logged.

    NaN where a step has no such number or it is not finite. Damaged lines are skipped; without a file there is no step.
    """
    steps = read_history(folder)
    names = dict.fromkeys(chain([STEP], *steps))
    return {name: np.array([step.get(name) for step in steps], dtype=float) for name in names}


def mean_curve(curves: Sequence[Curve], column: str) -> Curve:
    """Return the mean of a name over cells at each step; {} unless all cells have the same steps.

    If one cell has no number for a step, its mean is NaN.
    """
    if not curves or any(column not in curve for curve in curves):
        return {}
    steps = curves[0][STEP]
    if any(not np.array_equal(curve[STEP], steps) for curve in curves):
        return {}
    return {STEP: steps, column: np.mean([curve[column] for curve in curves], axis=0)}


def columns_of(value: Value, curves: Sequence[Curve]) -> tuple[str, ...]:
    """Return the columns of some curves to show for a table's value, at most two; none if they hold no number.

    With held-out data that is the value's kind on training and held-out data: train_error and val_error for test_error.
    Without, training loss and error. Other names: the value itself where it was logged, and a column that goes with it.
    """
    there = [name for name in dict.fromkeys(chain.from_iterable(curves)) if name != STEP]
    known = [name for name in there if any(name in each and np.isfinite(each[name]).any() for each in curves)]
    kind = "error" if is_share(value.name) else last_word(value.name)
    if {f"{_TRAIN}{kind}", f"{_VAL}{kind}"} <= set(known):
        return f"{_TRAIN}{kind}", f"{_VAL}{kind}"
    if {"train_loss", "train_error"} <= set(there):
        return "train_loss", "train_error"
    first = [name for name in (value.name, f"{_VAL}{kind}", f"{_TRAIN}{kind}", kind) if name in known]
    rest = sorted((name for name in known if name not in _QUIET), key=lambda name: better_of(name) is None)
    return tuple(reversed(list(dict.fromkeys((*first, *rest, *known)))[:2]))
