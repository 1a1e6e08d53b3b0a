"""Learning curves: what a cell wrote down after each epoch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

COLUMNS = ("epoch", "lr", "train_loss", "train_error", "val_loss", "val_error")


def read_epochs(folder: Path) -> pd.DataFrame:
    """Return a row for each epoch in a cell's epochs.jsonl, with COLUMNS as floats; no file, no rows.

    Errors are shares in [0, 1], losses nats per image; NaN for what was not held out or is not finite.
    A line that is no epoch's is left out, such as a last one that was cut off.
    """
    try:
        lines = (folder / "epochs.jsonl").read_bytes().splitlines()
    except OSError:
        lines = []
    rows = [row for row in map(_row, lines) if row is not None]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=float)


def mean_curve(curves: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """Return the mean over cells at each epoch, by epoch; empty unless every cell has the same epochs.

    Where one cell has no number there is no mean: NaN.
    """
    if not curves or any(not curve["epoch"].equals(curves[0]["epoch"]) for curve in curves):
        return pd.Series(dtype=float)
    table = pd.concat([curve.set_index("epoch")[column] for curve in curves], axis="columns")
    return table.mean(axis="columns", skipna=False)


def _row(line: bytes) -> list[float] | None:
    try:
        content = json.loads(line)
        row = [_number(content[name]) for name in COLUMNS]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return row if row[0] >= 1 else None


def _number(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, int | float) and abs(value) < float("inf"):
        return float(value)
    raise ValueError(f"{value!r} is no number of an epoch")
