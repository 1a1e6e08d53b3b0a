"""Cost table of a sweep: seconds, speed and device hours of each kind of cell on each device."""

import math
from typing import Any

import pandas as pd

from strive.results.load import Loaded
from strive.sweeps.labels import ARM
from strive.tables.summary import SweepSummary
from strive.tables.table import Column, Entry, Row, Table

_HOUR = 3600.0  # seconds
_SPEED = "images_per_second"
_SECONDS = "Seconds in training steps alone, over all sittings: loading and scoring are not counted."


def cost_table(sweep: SweepSummary) -> Table | None:
    """Return one line for each net and device, and the total; None if no cell has a training time."""
    cells = _in_order(sweep)
    timed = cells[cells["train_seconds"].notna()]
    if timed.empty:
        return None
    total = math.fsum(timed["train_seconds"])
    digits = next((digits for digits, least in enumerate((100, 10, 1)) if total >= least * _HOUR), 3)
    groups = timed.groupby([_nets(sweep.loaded, timed), "device"], sort=False)
    speed = _SPEED in cells
    rows = [_row(str(net), str(device), group, digits, speed=speed) for (net, device), group in groups]
    if len(rows) > 1:
        blanks = [Entry()] * (1 + speed)
        entries = (Entry(text="all"), Entry(), _count(len(timed)), *blanks, _hours(total, digits))
        rows.append(Row(entries=entries, rule=True))
    what = next((joint.title for joint in sweep.loaded.labels.names), "cells of")
    return Table(
        name="costs",
        title="Time and cost",
        caption=(
            f"{_SECONDS if speed else 'Seconds of training, over all sittings.'} Cells that shared a device are counted"
            f" one by one. Of the seconds{' and of the speed' if speed else ''}, the median over done cells is shown;"
            " the hours are a sum, failed cells among them."
        ),
        columns=(
            Column(title=what, numeric=False),
            Column(title="device", numeric=False),
            Column(title="cells"),
            Column(title="seconds a cell"),
            *([Column(title="images/s")] if speed else []),
            Column(title="device hours"),
        ),
        rows=tuple(rows),
    )


def _in_order(sweep: SweepSummary) -> pd.DataFrame:
    """Return all cells; those in the table come first, in its order."""
    order = [index for condition in sweep.conditions for index in condition.cells.index]
    cells = sweep.loaded.cells
    return cells.loc[[*order, *cells.index.difference(order)]]


def _nets(loaded: Loaded, cells: pd.DataFrame) -> "pd.Series[Any]":
    """Return the name of each cell's net: its arm, or else the model knobs that vary."""
    if cells[ARM].any():
        return cells[ARM]
    knobs = [key for key in loaded.factors if key.startswith("model.")]
    labels = [
        loaded.labels.name(dict(zip(knobs, values, strict=True))) for values in cells[knobs].to_numpy(object).tolist()
    ]
    return pd.Series(labels, index=cells.index, dtype=object)


def _row(net: str, device: str, cells: pd.DataFrame, digits: int, *, speed: bool) -> Row:
    done = cells[cells["status"] == "done"]
    return Row(
        entries=(
            Entry(text=net),
            Entry(text=device),
            _count(len(cells)),
            # A failed cell's time does not predict that of the next cell.
            _median(done["train_seconds"]),
            *([_median(done[_SPEED])] if speed else []),
            _hours(math.fsum(cells["train_seconds"]), digits),
        )
    )


def _count(value: int) -> Entry:
    return Entry(text=f"{value:,}", value=value)


def _median(values: "pd.Series[float]") -> Entry:
    if values.notna().any():
        value = float(values.median())
        return Entry(text=f"{value:,.0f}" if value >= 10 else f"{value:.2g}", value=value)
    return Entry(text="none done", hole=True)


def _hours(seconds: float, digits: int) -> Entry:
    return Entry(text=f"{seconds / _HOUR:,.{digits}f}", value=seconds / _HOUR)
