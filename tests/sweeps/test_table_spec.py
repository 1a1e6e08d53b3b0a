from typing import Any

import pytest

from strive.sweeps.choice import Criterion
from strive.sweeps.sections import Faults
from strive.sweeps.table_spec import TableSpec, Value, read_table

ROWS = {"rows": ["model.base"], "columns": ["model.variant"]}


def table(arms: tuple[str, ...] = (), **keys: Any) -> TableSpec:
    faults = Faults()
    found = read_table({**ROWS, **keys}, faults, arms=dict.fromkeys(arms))
    assert faults.lines == []
    assert found is not None
    return found


def test_a_table_shows_the_test_error_paired_by_seed_with_a_margin_of_half_a_point():
    found = table()
    assert (found.value, found.pair, found.margin) == (Value.test_error, ("seed",), 0.5)
    assert (found.baseline, found.select, found.paper) == ({}, {}, "")


def test_a_table_says_everything_that_decides_its_numbers():
    found = table(
        value="val_loss",
        baseline={"model.variant": "base"},
        pair=["seed", "data.name"],
        select={"optimizer.lr": "val_error"},
        margin=1,
        paper="table3",
    )
    assert found == TableSpec(
        rows=("model.base",),
        columns=("model.variant",),
        value=Value.val_loss,
        baseline={"model.variant": "base"},
        pair=("seed", "data.name"),
        select={"optimizer.lr": Criterion.val_error},
        margin=1.0,
        paper="table3",
    )
    assert not found.value.is_error


def test_a_baseline_is_spelt_as_records_spell_it():
    assert table(columns=["model.pool_norm"], baseline={"model.pool_norm": float("inf")}).baseline == {
        "model.pool_norm": "inf"
    }


def test_each_arm_may_have_a_baseline_of_its_own():
    arms = ("plain", "pooled", "he", "pad")
    found = table(arms, rows=["arm"], columns=[], baseline={"arm": {"he": "plain", "pad": "pooled"}})
    assert found.baseline == {"arm": {"he": "plain", "pad": "pooled"}}


def test_where_the_seed_is_a_row_nothing_is_paired_by_it():
    assert table(rows=["seed"]).pair == ()


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"value": "accuracy"}, "table: value must be one of test_error, val_error, train_error"),
        ({"baseline": {"augment.kind": "none"}}, "table: baseline: augment.kind is neither in rows nor in columns"),
        ({"baseline": {"model.variant": "pooled"}}, "table: baseline: model.variant: "),
        ({"baseline": "base"}, "table: baseline must hold KEY: VALUE"),
        ({"rows": ["arm"], "baseline": {"arm": "b"}}, "table: baseline: there is no arm b; legal: a"),
        ({"pair": ["model.base"]}, "table: pair: model.base is in rows or columns, too"),
        ({"pair": ["sed"]}, "table: pair: there is no knob sed"),
        ({"select": {"seed": "val_error"}}, "table: select: seed: what is averaged over cannot be selected"),
        ({"select": {"optimizer.lr": "best"}}, "table: select: optimizer.lr must be val_error, or test_error"),
        ({"select": {"model.base": "val_error"}}, "table: select: model.base is in rows or columns, too"),
        (
            {"select": {"optimizer.lr": "val_error", "optimizer.momentum": "val_error"}},
            "table: select: one knob at a time, got optimizer.lr, optimizer.momentum",
        ),
        ({"margin": 0}, "table: margin must be above 0"),
        ({"margin": True}, "table: margin must be above 0"),
        ({"margin": float("inf")}, "table: margin must be above 0"),
        ({"paper": 3}, "table: paper must name a table of analysis/paper.yaml, got 3"),
    ],
)
def test_a_fault_is_named_with_its_place_and_what_is_legal(keys: dict[str, Any], fault: str):
    faults = Faults()
    read_table({**ROWS, **keys}, faults, arms={"a": {}})
    assert [line for line in faults.lines if line.startswith(fault)], faults.lines
