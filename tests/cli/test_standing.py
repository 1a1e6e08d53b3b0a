from pathlib import Path

import pytest
from foreign import Foreign

from strive.cells.records import Status
from strive.cli.standing import standing
from strive.results.load import load_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path / "runs")


def test_while_it_trains_a_table_stands_as_means_of_what_is_done_with_the_best_first(sweep: Foreign):
    for heads, seed, loss in ((2, 0, 3.0), (2, 1, 4.0), (4, 0, 1.5)):
        sweep.cell({"heads": heads, "seed": seed}, {"val_loss": loss})
    sweep.cell({"heads": 4, "seed": 1}, status=Status.error)
    said, best, other = standing(load_sweep(sweep.name, [sweep.write()]))
    assert "val loss" in said
    assert "no answer" in said
    assert best.split() == ["heads", "4", "1.500", "1", "of", "2"]
    assert other.split() == ["heads", "2", "3.500", "2", "of", "2"]


def test_where_no_metric_is_clear_nothing_stands(sweep: Foreign):
    sweep.cell({"heads": 2, "seed": 0}, {"val_loss": 1.0, "bleu": 3.0})
    sweep.cell({"heads": 2, "seed": 1}, status=Status.error)
    assert standing(load_sweep(sweep.name, [sweep.write()])) == []
