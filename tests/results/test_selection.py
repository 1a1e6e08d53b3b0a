import pandas as pd
import pytest

from strive.cells.metrics import Better
from strive.results.selection import select
from strive.sweeps.criterion import Criterion

BY_VAL = Criterion("val_error", Better.lower)
KEY = "optimizer.lr"


def cells(*rows: tuple[float, str, float | None]) -> pd.DataFrame:
    """One row for each (learning rate, status, validation error as a share)."""
    return pd.DataFrame(
        {
            KEY: [row[0] for row in rows],
            "data.val_images": [0 for _ in rows],
            "status": [row[1] for row in rows],
            "val_error": [float("nan") if row[2] is None else row[2] for row in rows],
            "test_error": [0.5 for _ in rows],
        }
    )


def test_the_value_with_the_smallest_mean_validation_error_is_selected():
    # Means 0.15 and 0.16, although the smallest single error is at 0.1.
    found = select(
        cells((0.1, "done", 0.10), (0.1, "done", 0.22), (0.05, "done", 0.15), (0.05, "done", 0.15)),
        KEY,
        BY_VAL,
    )
    assert found.value == 0.05
    assert found.why == "val error 15.00% (mean of 2 seeds), beats 0.1: 16.00%"


def test_of_equal_values_the_smaller_is_selected():
    assert select(cells((0.1, "done", 0.2), (0.05, "done", 0.2)), KEY, BY_VAL).value == 0.05


def test_a_value_of_which_one_seed_diverged_is_never_selected():
    found = select(
        cells((0.1, "done", 0.1), (0.1, "diverged", 0.9), (0.05, "done", 0.3)),
        KEY,
        BY_VAL,
    )
    assert found.value == 0.05
    assert found.why.endswith("; 0.1 diverged")


@pytest.mark.parametrize("status", ["missing", "error", "unreadable", "timeout"])
def test_nothing_is_selected_while_a_cell_has_no_result(status: str):
    found = select(cells((0.1, "done", 0.1), (0.05, status, None)), KEY, BY_VAL)
    assert found.value is None
    assert found.why == "optimizer.lr not selected, 1 of 2 cells has no result"


def test_nothing_is_selected_by_a_validation_error_that_nobody_measured():
    found = select(cells((0.1, "done", None), (0.05, "done", None)), KEY, BY_VAL)
    assert found.value is None
    assert "data.val_images=0" in found.why


def test_nothing_is_selected_where_every_value_diverged():
    found = select(cells((0.1, "diverged", 0.9), (0.05, "diverged", 0.9)), KEY, BY_VAL)
    assert (found.value, found.why) == (None, "optimizer.lr not selected, every value diverged")
