"""Contradictions between the records of one sweep: two seeds with the same weights, one data set with two test sets."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from strive.cells.evidence import same_weights
from strive.cells.metrics import better_of, is_at_chance
from strive.results.record_row import Columns, chance_column, metric_column

_WEIGHTS = "weights_sha256"


def contradictions(records: Columns, cells: Sequence[str], seeds: Sequence[object]) -> dict[int, str]:
    """Return {row: why its record contradicts the others}.

    records: the columns of load.read_cells. cells: their ids. seeds: as planned.
    """
    done = np.flatnonzero(records["status"] == "done").tolist()
    weights = {cells[row]: (records[_WEIGHTS][row], seeds[row]) for row in done} if _WEIGHTS in records else {}
    same = same_weights(weights)
    found = {row: same[cells[row]] for row in done if cells[row] in same}
    return found | _other_labels(records, cells, [row for row in done if records["labels_sha256"][row]])


def fill_chance(records: Columns, metrics: Iterable[str]) -> None:
    """Fill in what chance gives for a metric from cells on the same data, and mark the cells that never left it."""
    for name in metrics:
        if metric_column(name) not in records or chance_column(name) not in records:
            continue
        values, chances = records[metric_column(name)], records[chance_column(name)]
        known = chances == chances
        by_data = dict(zip(records["data_fingerprint"][known], chances[known], strict=True))
        for row in np.flatnonzero(~known & (records["status"] == "done")).tolist():
            chance = by_data.get(records["data_fingerprint"][row])
            if chance is not None:
                chances[row] = chance
                records["dead"][row] = bool(records["dead"][row]) or is_at_chance(
                    float(values[row]), chance, better_of(name)
                )


def blank(records: Columns, row: int, results: Iterable[str]) -> None:
    """Remove the numbers of a contradicted record. results: the columns of its metrics and outputs."""
    for name in results:
        records[name][row] = np.nan if records[name].dtype == float else ""
    records["dead"][row] = None


def _other_labels(records: Columns, cells: Sequence[str], rows: Sequence[int]) -> dict[int, str]:
    """Return the rows whose test labels differ from those of most cells on the same images."""
    groups = defaultdict(list)
    for row in rows:
        groups[records["data_fingerprint"][row]].append(row)
    found = {}
    for group in groups.values():
        (usual, count), *others = Counter(records["labels_sha256"][row] for row in group).most_common()
        if not others:
            continue
        split = others[0][1] == count  # no majority: either side may be wrong, so report both
        for row in group:
            mine = records["labels_sha256"][row]
            if split or mine != usual:
                other = next(each for each in group if records["labels_sha256"][each] != mine)
                found[row] = (
                    f"predictions.npz beside its record has other labels than that of {cells[other]}, and both records"
                    f" say images {records['data_fingerprint'][row]}"
                )
    return found
