import shutil
from pathlib import Path

import pytest
from golden import Golden

from strive.results.agreement import agreement_table, agreements
from strive.results.conditions import Condition as Place
from strive.results.conditions import make_conditions as make_places
from strive.results.load import load_sweep
from strive.sweeps.table_spec import Table

TABLE = Table(rows=("model.variant",), columns=(), baseline={"model.variant": "base"})


def made(sweep: Golden) -> list[Place]:
    return make_places(load_sweep("golden", [sweep.write()]), TABLE, mix=False)


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs")


def test_images_that_one_of_two_cells_alone_gets_wrong_are_counted_by_seed(sweep: Golden):
    # Of 12 images the net alone is wrong on 9 and the baseline alone on 1; both on 1; neither on 1.
    sweep.cell({"model.variant": "base", "seed": 0}, 16.0, correct=[1] * 9 + [0, 0, 1])
    sweep.cell({"model.variant": "strided", "seed": 0}, 83.0, correct=[0] * 9 + [1, 0, 1])
    found, reason = agreements(made(sweep), TABLE)
    ((row,),) = ([[entry.text for entry in row.entries] for row in agreement_table(found, TABLE).rows],)
    assert reason == ""
    # Exact: 2 (C(10,0) + C(10,1)) / 2^10 = 22 / 1024 = 0.0215; one line, so Holm changes nothing.
    assert row == ["variant Strided", "variant base", "0", "9", "1", "0.021", "0.021"]


def test_records_without_predictions_have_no_such_table_and_say_so(sweep: Golden):
    sweep.cell({"model.variant": "base"}, 10.0)
    sweep.cell({"model.variant": "strided"}, 11.0)
    found, reason = agreements(made(sweep), TABLE)
    assert found == []
    assert "predictions.npz" in reason


def test_a_place_without_a_difference_has_no_test(sweep: Golden):
    sweep.cell({"model.variant": "base"}, 10.0, correct=[1, 0])
    sweep.cell({"model.variant": "strided"}, None)
    assert agreements(made(sweep), TABLE) == ([], "")


def test_cells_on_other_test_images_or_in_another_order_are_not_compared(sweep: Golden):
    sweep.cell({"model.variant": "base"}, 10.0, correct=[1, 0, 1], data_fingerprint="another")
    sweep.cell({"model.variant": "strided"}, 10.0, correct=[1, 0, 1, 1])
    places = make_places(load_sweep("golden", [sweep.write()]), TABLE, mix=True)
    found, reason = agreements(places, TABLE)
    assert found == []
    assert "were tested on other images, or in another order" in reason


def test_another_cell_s_predictions_are_not_compared(sweep: Golden):
    base = sweep.cell({"model.variant": "base"}, 10.0, correct=[1, 0, 1])
    strided = sweep.cell({"model.variant": "strided"}, 10.0, correct=[1, 1, 1])
    shutil.copy(base / "predictions.npz", strided)
    places = made(sweep)
    assert agreements(places, TABLE) == ([], "")
    assert [place.hole for place in places] == ["", "contradictory"]
    (cause,) = places[1].cells["cause"]
    assert "does not hold the predictions that the record beside it speaks of" in cause
