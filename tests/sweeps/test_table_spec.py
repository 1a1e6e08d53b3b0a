from typing import Any

import pytest

from strive.cells.metrics import Better
from strive.sweeps.criterion import Criterion
from strive.sweeps.sections import Faults
from strive.sweeps.table_spec import TableSpec, Value, read_table, value_of

ROWS = {"rows": ["model.base"], "columns": ["model.variant"]}


def table(arms: tuple[str, ...] = (), **keys: Any) -> TableSpec:
    faults = Faults()
    found = read_table({**ROWS, **keys}, faults, arms=dict.fromkeys(arms))
    assert faults.lines == []
    assert found is not None
    return found


def test_what_a_table_leaves_out_is_decided_by_the_records():
    found = table()
    assert (found.value, found.pair, found.margin) == (Value(name=""), ("seed",), 0.0)
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
        value=value_of("val_loss"),
        baseline={"model.variant": "base"},
        pair=("seed", "data.name"),
        select={"optimizer.lr": Criterion("val_error", Better.lower)},
        margin=1.0,
        paper="table3",
    )
    assert (found.value.better, found.value.percent, found.value.title) == (Better.lower, False, "val loss")


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
        ({"value": 3}, "table: value must be the name of a metric, got 3"),
        ({"value": ""}, "table: value must be the name of a metric, got ''"),
        ({"value": "score"}, "table: score: say better: lower or better: higher"),
        ({"value": "score", "better": "more"}, "table: better must be lower or higher, got 'more'"),
        ({"value": "score", "better": "higher", "scale": "%"}, "table: scale must be one of percent, none, got '%'"),
        ({"better": "higher"}, "table: better is said of a metric: add value: NAME"),
        ({"value": "val_loss", "unit": 3}, "table: unit must be a text such as nats, got 3"),
        ({"value": "val_error", "unit": "nats"}, "table: unit: val_error is a share, shown in %: add scale: none"),
        ({"unit": "nats"}, "table: unit is said of a metric: add value: NAME"),
        ({"scale": "percent"}, "table: scale is said of a metric: add value: NAME"),
        ({"baseline": {"augment.kind": "none"}}, "table: baseline: augment.kind is neither in rows nor in columns"),
        ({"baseline": {"model.variant": "pooled"}}, "table: baseline: model.variant: "),
        ({"baseline": "base"}, "table: baseline must hold KEY: VALUE"),
        ({"rows": ["arm"], "baseline": {"arm": "b"}}, "table: baseline: there is no arm b; legal: a"),
        ({"pair": ["model.base"]}, "table: pair: model.base is in rows or columns, too"),
        ({"pair": ["sed"]}, "table: pair: there is no knob sed"),
        ({"select": {"seed": "val_error"}}, "table: select: seed: what is averaged over cannot be selected"),
        (
            {"select": {"optimizer.lr": "best"}},
            "table: select: optimizer.lr: best: say better: lower or better: higher",
        ),
        ({"select": {"model.base": "val_error"}}, "table: select: model.base is in rows or columns, too"),
        (
            {"select": {"optimizer.lr": "val_error", "optimizer.momentum": "val_error"}},
            "table: select: one knob at a time, got optimizer.lr, optimizer.momentum",
        ),
        ({"margin": 0}, "table: margin must be above 0"),
        ({"margin": True}, "table: margin must be above 0"),
        ({"margin": float("inf")}, "table: margin must be above 0"),
        ({"paper": 3}, "table: paper must name a table of published numbers, got 3"),
    ],
)
def test_a_fault_is_named_with_its_place_and_what_is_legal(keys: dict[str, Any], fault: str):
    faults = Faults()
    read_table({**ROWS, **keys}, faults, arms={"a": {}})
    assert [line for line in faults.lines if line.startswith(fault)], faults.lines


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({"value": "val_loss"}, Value(name="val_loss", better=Better.lower)),
        ({"value": "test_acc"}, Value(name="test_acc", better=Better.higher)),
        ({"value": "test_acc", "scale": "percent"}, Value(name="test_acc", better=Better.higher, percent=True)),
        ({"value": "val/top1-error"}, Value(name="val/top1-error", better=Better.lower, percent=True)),
        ({"value": "test_error", "scale": "none"}, Value(name="test_error", better=Better.lower)),
        ({"value": "score", "better": "higher"}, Value(name="score", better=Better.higher)),
        ({"value": "acc", "better": "lower"}, Value(name="acc", better=Better.lower)),
    ],
)
def test_a_table_shows_any_metric_in_the_direction_of_its_name_or_as_said(keys: dict[str, Any], value: Value):
    assert table(**keys).value == value


def test_a_value_is_selected_by_any_metric():
    by = {"value": "score", "better": "higher"}
    assert table(select={"optimizer.lr": "val_bleu"}).select == {"optimizer.lr": Criterion("val_bleu", Better.higher)}
    assert table(select={"optimizer.lr": by}).select == {"optimizer.lr": Criterion("score", Better.higher)}
