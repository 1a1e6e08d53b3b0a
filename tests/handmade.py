"""Sweeps with a layout of the test's own, and what their figures show."""

import math
from itertools import pairwise
from typing import Any

import pandas as pd
from golden import Golden
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from allcnn.labels import labels
from strive.results.conditions import make_conditions
from strive.results.load import load_sweep
from strive.sweeps.table_spec import TableSpec
from strive.tables.summary import SweepSummary


def summary_of(sweep: Golden, **layout: Any) -> SweepSummary:
    loaded = load_sweep(sweep.name or sweep.file, [sweep.write()])
    table = study_table(**layout)
    return SweepSummary(
        loaded=loaded,
        layout=table,
        title=loaded.name,
        answer="",
        conditions=tuple(make_conditions(loaded, table, mix=False)),
        effects=None,
        components=(),
        tables=(),
        notes=(),
        problems=(),
        tidy=pd.DataFrame(),
        footnotes=pd.DataFrame(),
    )


def study_table(**layout: Any) -> TableSpec:
    """Return a layout of the study's, by default with a row for each variant."""
    return TableSpec(**({"rows": ("model.variant",), "columns": (), "labels": labels()} | layout))


def epochs(*train_errors: float | None, val_errors: tuple[float, ...] = (), **more: Any) -> list[dict[str, Any]]:
    """Lines of a history: errors as shares, a loss twice the error; None: not finite."""
    lines = []
    for number, error in enumerate(train_errors, 1):
        val = val_errors[number - 1] if val_errors else None
        numbers = {
            "train_loss": None if error is None else 2 * error,
            "train_error": 0.9 if error is None else error,
            "val_loss": None if val is None else 2 * val,
            "val_error": val,
        }
        lines.append({"step": number, "lr": 0.05, **numbers, **more})
    return lines


def texts(figure: Figure) -> list[str]:
    """Return every text of a figure, and its caption."""
    found = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)] + [str(figure.get_label())]
    return [text for text in found if text]


def drawn(figure: Figure, *, marker: str | None = None, width: float | None = None) -> list[list[tuple[float, float]]]:
    """Return the points of every line with this marker or width, not the legend's; of one with gaps, of each part."""
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            assert isinstance(line, Line2D)
            fits = marker is None or line.get_marker() == marker
            if fits and (width is None or math.isclose(line.get_linewidth(), width)):
                points = [(float(x), float(y)) for x, y in line.get_xydata()]
                gaps = [-1, *(place for place, (x, _) in enumerate(points) if math.isnan(x)), len(points)]
                found += [points[start + 1 : end] for start, end in pairwise(gaps) if end > start + 1]
    return found
