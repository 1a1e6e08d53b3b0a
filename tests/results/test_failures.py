from typing import Any

import pandas as pd

from strive.results.failures import failure_groups


def cells(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["cell", "status", "cause", "traceback"], dtype=object)


def test_cells_with_one_cause_are_one_group():
    found = failure_groups(
        cells(
            ("a", "out_of_memory", "40 GiB", "Traceback"),
            ("b", "done", "", ""),
            ("c", "missing", "", ""),
            ("d", "out_of_memory", "40 GiB", "Traceback"),
            ("e", "out_of_memory", "41 GiB", "Traceback"),
        )
    )
    said: list[Any] = [(group.status, group.cause, group.cells) for group in found]
    assert said == [
        ("out of memory", "40 GiB", ("a", "d")),
        ("missing", "", ("c",)),
        ("out of memory", "41 GiB", ("e",)),
    ]


def test_of_a_long_traceback_the_end_stays_and_the_page_says_how_much_does_not():
    (group,) = failure_groups(cells(("a", "error", "deep", "first\n" + "x" * 100_000 + "\nRecursionError: deep\n")))
    assert group.traceback.startswith("first\n")
    assert group.traceback.endswith("RecursionError: deep")
    # 100,027 characters without the last line's end; 2,000 and 6,000 stay.
    assert "... 92027 characters left out ..." in group.traceback
    assert len(group.traceback) < 8100


def test_a_sweep_that_is_done_has_no_failures():
    assert failure_groups(cells(("a", "done", "", ""))) == []
