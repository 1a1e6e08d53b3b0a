"""Contradictions between the records of one sweep: two seeds with the same weights, one data set with two test sets."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from strive.cells.evidence import is_dead
from strive.results.record_row import EMPTY, RESULTS, Columns


def contradictions(records: Columns, cells: Sequence[str], seeds: Sequence[object]) -> dict[int, str]:
    """Return {row: why its record contradicts the others}.

    records: as returned by load.read_cells. cells: their ids. seeds: as planned.
    """
    done = np.flatnonzero(records["status"] == "done").tolist()
    found: dict[int, str] = {}
    same_weights = defaultdict(list)
    for row in done:
        same_weights[records["weights_sha256"][row]].append(row)
    for rows in same_weights.values():
        if len({repr(seeds[row]) for row in rows}) > 1:
            for row in rows:
                other = next(each for each in rows if seeds[each] != seeds[row])
                found[row] = f"its record and that of {cells[other]}, of another seed, have the same weights_sha256"
    return found | _other_labels(records, cells, [row for row in done if records["labels_sha256"][row]])


def fill_chance(records: Columns) -> None:
    """Fill in missing chance errors from other cells on the same images, and mark the cells that never left chance."""
    known = records["chance_error"] == records["chance_error"]
    by_images = dict(zip(records["data_fingerprint"][known], records["chance_error"][known], strict=True))
    for row in np.flatnonzero(~known & (records["status"] == "done")).tolist():
        chance = by_images.get(records["data_fingerprint"][row])
        if chance is not None:
            records["chance_error"][row] = chance
            records["dead"][row] = is_dead(float(records["test_error"][row]), chance)


def blank(records: Columns, row: int) -> None:
    """Remove the numbers of a contradicted record."""
    for name in (*RESULTS, "dead"):
        records[name][row] = EMPTY[name]


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
