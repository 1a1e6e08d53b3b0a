"""McNemar's test on the predictions of two cells: do they err on different images?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strive.errors import PredictionsError
from strive.results.conditions import Condition as Place
from strive.results.correct import correct
from strive.results.labels import knob_title, value_text, value_texts
from strive.statistics.inference import McNemar, holm, mcnemar
from strive.sweeps import table_spec
from strive.tables.sweep_tables import p_text
from strive.tables.table import Column, Entry, Row, Table


@dataclass(frozen=True, slots=True)
class Agreement:
    """One cell and its baseline's cell on the same test images."""

    place: Place
    pair: tuple[Any, ...]  # the values that pair the two cells
    found: McNemar


def agreements(places: Sequence[Place], table: table_spec.Table) -> tuple[list[Agreement], str]:
    """Return what the predictions of each place and its baseline say, and why some are left out, or "".

    Predictions are read once for each cell; a copy of records without them gives no such table.
    """
    by_label = {place.label: place for place in places}
    found: list[Agreement] = []
    read: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    reason = ""
    for place in places:
        if place.difference is None:
            continue
        ours, theirs = (_cells(each, table) for each in (place, by_label[place.baseline]))
        for pair in ours:
            try:
                found.append(Agreement(place, pair, _compared(read, ours[pair], theirs[pair])))
            except PredictionsError as error:
                reason = str(error)
    return found, reason


def agreement_table(found: Sequence[Agreement], table: table_spec.Table) -> Table:
    """Return one line for each pair of cells."""
    corrected = holm([each.found.p for each in found])
    rows = []
    for each, p in zip(found, corrected, strict=True):
        own, other = each.found.only_own_wrong, each.found.only_baseline_wrong
        entries = (
            Entry(text=each.place.label),
            Entry(text=each.place.baseline),
            *(Entry(text=value_text(key, value)) for key, value in zip(table.pair, each.pair, strict=True)),
            Entry(text=f"{own:,}", value=own),
            Entry(text=f"{other:,}", value=other),
            Entry(text=p_text(each.found.p), value=each.found.p),
            Entry(text=p_text(p), value=p),
        )
        rows.append(Row(entries=entries, ref=each.place.ref, factors=value_texts(each.place.key)))
    return Table(
        name="mcnemar",
        title="McNemar's test on the test images",
        caption=(
            "Test images that one of two trained nets alone gets wrong. The exact test asks whether these two nets"
            " differ, not whether the two choices do: that takes several seeds, as in the table of differences."
        ),
        columns=(
            Column(title="net" if "model.variant" in table.keys else "cells of", numeric=False),
            Column(title="baseline", numeric=False),
            *(Column(title=knob_title(key)) for key in table.pair),
            Column(title="only it wrong", help="test images"),
            Column(title="only baseline wrong", help="test images"),
            Column(title="p", help="exact binomial, two-sided"),
            Column(title="p, Holm", help="corrected for the lines of this table"),
        ),
        rows=tuple(rows),
    )


def _cells(place: Place, table: table_spec.Table) -> dict[tuple[Any, ...], tuple[str, str]]:
    """Return {what pairs a cell: its folder, and the hash of its predictions}."""
    pairs = place.cells[list(table.pair)].to_numpy(object).tolist()
    cells = place.cells[["folder", "predictions_sha256"]].to_numpy(object).tolist()
    return {tuple(pair): (folder, sha256) for pair, (folder, sha256) in zip(pairs, cells, strict=True)}


def _compared(
    read: dict[str, tuple[np.ndarray, np.ndarray]], ours: tuple[str, str], theirs: tuple[str, str]
) -> McNemar:
    """read: what was read already; a baseline is compared with many."""
    for folder, sha256 in (ours, theirs):
        if folder not in read:
            read[folder] = correct(Path(folder), sha256)
    own, baseline = ours[0], theirs[0]
    (own_labels, own_correct), (baseline_labels, baseline_correct) = read[own], read[baseline]
    if not np.array_equal(own_labels, baseline_labels):
        raise PredictionsError(f"{own} and {baseline} were tested on other images, or in another order")
    return mcnemar(own_correct, baseline_correct)
