"""Contradictions between the records of one sweep: two seeds that end alike, one data set with two test sets."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from strive.cells.evidence import is_dead
from strive.results.record_row import EMPTY, RESULTS, Columns


def contradictions(records: Columns, cells: Sequence[str], seeds: Sequence[object]) -> dict[int, str]:
    """Return {row: why its record cannot be what it says}, in view of the others.

    records: as load.read_cells has them. cells: their ids. seeds: as the plan has them.
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
    """Put in what chance gives where only another cell on the same images says it, and which cells are dead by it."""
    known = records["chance_error"] == records["chance_error"]
    by_images = dict(zip(records["data_fingerprint"][known], records["chance_error"][known], strict=True))
    for row in np.flatnonzero(~known & (records["status"] == "done")).tolist():
        chance = by_images.get(records["data_fingerprint"][row])
        if chance is not None:
            records["chance_error"][row] = chance
            records["dead"][row] = is_dead(float(records["test_error"][row]), chance)


def blank(records: Columns, row: int) -> None:
    """Take out the numbers of a record that is contradicted."""
    for name in (*RESULTS, "dead"):
        records[name][row] = EMPTY[name]


def _other_labels(records: Columns, cells: Sequence[str], rows: Sequence[int]) -> dict[int, str]:
    """Return the rows whose test labels are not those that most cells on the same images have."""
    groups = defaultdict(list)
    for row in rows:
        groups[records["data_fingerprint"][row]].append(row)
    found = {}
    for group in groups.values():
        (usual, count), *others = Counter(records["labels_sha256"][row] for row in group).most_common()
        if not others:
            continue
        split = others[0][1] == count  # as many on either side: nobody can say which are right
        for row in group:
            mine = records["labels_sha256"][row]
            if split or mine != usual:
                other = next(each for each in group if records["labels_sha256"][each] != mine)
                found[row] = (
                    f"predictions.npz beside its record has other labels than that of {cells[other]}, and both records"
                    f" say images {records['data_fingerprint'][row]}"
                )
    return found
