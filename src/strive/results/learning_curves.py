"""Learning curves of cells as data frames."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pandas as pd

from strive.cells.history import Epoch, read_history

COLUMNS = Epoch.__struct_fields__


def read_epochs(folder: Path) -> pd.DataFrame:
    """Return a row for each epoch in a cell's history, with COLUMNS as floats; no rows if there is no file.

    Errors are shares in [0, 1], losses nats per image; NaN if there was no held-out set or the value is not finite.
    Damaged lines are skipped.
    """
    rows = [msgspec.structs.astuple(epoch) for epoch in read_history(folder) if epoch is not None]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=float)


def mean_curve(curves: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """Return the mean over cells at each epoch; empty unless all cells have the same epochs.

    If one cell has no number for an epoch, its mean is NaN.
    """
    if not curves or any(not curve["epoch"].equals(curves[0]["epoch"]) for curve in curves):
        return pd.Series(dtype=float)
    table = pd.concat([curve.set_index("epoch")[column] for curve in curves], axis="columns")
    return table.mean(axis="columns", skipna=False)
