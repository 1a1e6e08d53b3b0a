from pathlib import Path
from typing import Any

import pytest
from golden import Golden
from handmade import study_table

from strive.cells.metrics import Better
from strive.results.conditions import Condition, make_conditions, split_further
from strive.results.load import load_sweep
from strive.statistics.inference import Verdict
from strive.sweeps.criterion import Criterion
from strive.sweeps.table_spec import TableSpec, value_of

NETS = study_table(baseline={"model.variant": "base"}, margin=0.5)
WITHOUT_MARGIN = study_table(baseline={"model.variant": "base"})


def conditions_of(sweep: Golden, table: TableSpec = NETS, *, mix: bool = False) -> dict[str, Condition]:
    runs = sweep.write()
    return {condition.label: condition for condition in make_conditions(load_sweep(sweep.file, [runs]), table, mix=mix)}


def add(sweep: Golden, variant: str, errors: list[float | None], **more: Any) -> list[Path]:
    return [
        sweep.cell({"model.variant": variant, "seed": seed}, error, **({} if error is None else more))
        for seed, error in enumerate(errors)
    ]


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs")


def test_the_mean_is_over_the_seeds_of_one_condition_in_percent(sweep: Golden):
    add(sweep, "base", [10.0, 11.0, 12.0])
    base = conditions_of(sweep)["variant base"]
    assert base.summary is not None
    # Mean 11, sample standard deviation 1, t(0.975, 2) = 4.3027: 11 -+ 4.3027 / sqrt(3).
    assert (base.summary.n, base.summary.mean, base.summary.sd) == (3, 11.0, 1.0)
    assert base.summary.low == pytest.approx(11 - 2.4842, abs=1e-3)
    assert base.values == {(0,): 10.0, (1,): 11.0, (2,): 12.0}


def test_differences_are_paired_by_seed_and_corrected_over_the_table(sweep: Golden):
    add(sweep, "base", [10.0, 11.0, 12.0])
    add(sweep, "all_cnn", [9.0, 10.1, 11.0])
    add(sweep, "strided", [12.0, 13.1, 14.0])
    found = conditions_of(sweep)
    base, all_cnn, strided = (found[f"variant {name}"] for name in ("base", "ALL-CNN", "Strided"))
    assert (base.difference, base.baseline, all_cnn.baseline) == (None, "", "variant base")
    assert all_cnn.difference is not None
    assert strided.difference is not None
    # -1, -0.9, -1: mean -0.96667, sd 0.057735, t = -29; 4.3027 * 0.033333 = 0.14342.
    assert all_cnn.difference.mean == pytest.approx(-0.966667, abs=1e-6)
    assert all_cnn.difference.low == pytest.approx(-0.966667 - 0.143422, abs=1e-5)
    # For 2 degrees of freedom p = 1 - |t| / sqrt(t^2 + 2): 0.0011870. Strided has 2, 2.1, 2: t = 61, 0.00026863.
    assert all_cnn.difference.p == pytest.approx(0.0011870, rel=1e-3)
    assert strided.difference.p == pytest.approx(0.00026863, rel=1e-3)
    # The test of a difference of 0 is not the one that gives the verdict.
    assert (strided.p_holm, all_cnn.p_holm) == (None, None)
    assert all_cnn.judgement is not None
    assert strided.judgement is not None
    assert all_cnn.judgement.verdict is Verdict.not_worse
    assert strided.judgement.verdict is Verdict.worse
    # Without a margin, Holm: the smaller one twice, the larger one once.
    found = conditions_of(sweep, WITHOUT_MARGIN)
    assert found["variant Strided"].p_holm == pytest.approx(2 * 0.00026863, rel=1e-3)
    assert found["variant ALL-CNN"].p_holm == pytest.approx(0.0011870, rel=1e-3)
    assert found["variant ALL-CNN"].judgement is None


@pytest.mark.parametrize(
    ("more", "hole"),
    [
        ({}, "2 of 3 done, 1 missing"),
        ({"status": "error"}, "2 of 3 done, 1 error"),
        ({"status": "out_of_memory"}, "2 of 3 done, 1 out of memory"),
        ({"status": "diverged"}, "2 of 3 done, 1 diverged"),
    ],
)
def test_a_condition_with_a_hole_has_no_mean_and_no_difference(sweep: Golden, more: dict[str, Any], hole: str):
    add(sweep, "base", [10.0, 11.0, 12.0])
    add(sweep, "strided", [11.0, 12.0])
    sweep.cell({"model.variant": "strided", "seed": 2}, None, **more)
    strided = conditions_of(sweep)["variant Strided"]
    assert (strided.hole, strided.no_difference) == (hole, hole)
    assert (strided.summary, strided.difference, strided.judgement, strided.p_holm) == (None, None, None, None)
    assert strided.values == {(0,): 11.0, (1,): 12.0}


def test_a_hole_in_the_baseline_takes_the_difference_and_not_the_mean(sweep: Golden):
    add(sweep, "base", [10.0, None])
    add(sweep, "strided", [11.0, 12.0])
    strided = conditions_of(sweep)["variant Strided"]
    assert strided.summary is not None
    assert (strided.difference, strided.no_difference) == (None, "variant base: 1 of 2 done, 1 missing")


def test_one_seed_has_no_spread_no_interval_and_no_verdict(sweep: Golden):
    add(sweep, "base", [10.0])
    add(sweep, "strided", [13.0])
    strided = conditions_of(sweep)["variant Strided"]
    assert strided.summary is not None
    assert strided.difference is not None
    assert strided.judgement is not None
    assert (strided.summary.sd, strided.summary.low, strided.difference.sd, strided.p_holm) == (None, None, None, None)
    assert strided.judgement.verdict is Verdict.undecided


@pytest.mark.parametrize(
    ("field", "hole"), [("code_hash", "2 versions of the code"), ("data_fingerprint", "2 versions of the data")]
)
def test_cells_of_other_code_or_images_are_not_averaged_unless_asked_for(sweep: Golden, field: str, hole: str):
    add(sweep, "base", [10.0, 11.0])
    sweep.cell({"model.variant": "base", "seed": 2}, 12.0, **{field: "0ther00000"})
    assert conditions_of(sweep)["variant base"].hole == hole
    mixed = conditions_of(sweep, mix=True)["variant base"]
    assert mixed.summary is not None
    assert (mixed.hole, mixed.summary.mean) == ("", 11.0)


@pytest.mark.parametrize(
    ("field", "why"), [("code_hash", "other code than variant base"), ("data_fingerprint", "other images than")]
)
def test_conditions_of_other_code_or_images_are_not_compared_unless_asked_for(sweep: Golden, field: str, why: str):
    add(sweep, "base", [10.0, 11.0])
    add(sweep, "strided", [10.5, 11.9], **{field: "0ther00000"})
    strided = conditions_of(sweep)["variant Strided"]
    assert strided.difference is None
    assert strided.no_difference.startswith(why)
    assert not any(condition.best for condition in conditions_of(sweep).values())
    assert conditions_of(sweep, mix=True)["variant Strided"].difference is not None


def test_nets_of_users_own_differ_in_code_by_right(sweep: Golden):
    own = {"model.family": "custom", "model.kwargs": {}}
    for name, code, errors in (("one", "c1", [10.0, 11.0]), ("two", "c2", [12.0, 13.1])):
        for seed, error in enumerate(errors):
            changes = {**own, "model.builder": f"nets:{name}", "seed": seed}
            sweep.cell(changes, error, code_hash=code)
    table = study_table(rows=("model.builder",), columns=(), baseline={"model.builder": "nets:one"})
    assert conditions_of(sweep, table)["model.builder nets:two"].difference is not None


def test_the_best_is_marked_only_where_it_is_shown_to_beat_every_other(sweep: Golden):
    add(sweep, "base", [10.0, 11.0, 12.0, 13.0])
    add(sweep, "strided", [11.0, 12.1, 13.0, 14.0])
    add(sweep, "all_cnn", [9.0, 10.1, 11.0, 12.1])
    assert [condition.label for condition in conditions_of(sweep).values() if condition.best] == ["variant ALL-CNN"]


def test_what_is_merely_smaller_is_not_marked(sweep: Golden):
    add(sweep, "base", [10.0, 11.0, 12.0])
    add(sweep, "strided", [9.0, 11.5, 11.0])
    assert not any(condition.best for condition in conditions_of(sweep).values())


def test_nothing_is_best_while_a_condition_has_a_hole(sweep: Golden):
    add(sweep, "base", [10.0, 11.0, 12.0, 13.0])
    add(sweep, "strided", [5.0, 6.1, 7.0, 8.1])
    add(sweep, "all_cnn", [11.0, None])
    assert not any(condition.best for condition in conditions_of(sweep).values())


def test_a_selected_value_leaves_its_cells_alone_in_the_condition(sweep: Golden):
    for lr, val, test in ((0.1, 20.0, 8.0), (0.05, 15.0, 10.0)):
        for seed in (0, 1):
            changes = {"optimizer.lr": lr, "seed": seed, "data.val_images": 5000}
            sweep.cell(changes, test + seed, val_error=val)
    table = study_table(
        rows=("model.variant",), columns=(), select={"optimizer.lr": Criterion("val_error", Better.lower)}
    )
    (condition,) = conditions_of(sweep, table).values()
    assert condition.selection is not None
    assert condition.summary is not None
    # The one with the smaller validation error, although its test error is larger.
    assert (condition.selection.value, condition.summary.mean, condition.summary.n) == (0.05, 10.5, 2)


def test_the_paper_s_own_rule_selects_by_test_error_where_a_table_asks_for_it(sweep: Golden):
    for lr, test in ((0.1, 8.0), (0.05, 10.0)):
        sweep.cell({"optimizer.lr": lr}, test)
    table = study_table(
        rows=("model.variant",), columns=(), select={"optimizer.lr": Criterion("test_error", Better.lower)}
    )
    (condition,) = conditions_of(sweep, table).values()
    assert condition.selection is not None
    assert condition.selection.value == 0.1


def test_a_loss_is_shown_as_it_was_recorded(sweep: Golden):
    # The golden loss is -ln(1 - error): ln 2 for one half.
    sweep.cell({}, 50.0)
    (condition,) = conditions_of(sweep, study_table(value=value_of("test_loss"))).values()
    assert condition.summary is not None
    assert condition.summary.mean == pytest.approx(0.693147, abs=1e-6)


def test_a_validation_error_that_was_never_measured_is_a_hole(sweep: Golden):
    sweep.cell({}, 50.0)
    (condition,) = conditions_of(sweep, study_table(value=value_of("val_error"))).values()
    assert condition.hole == "no val_error, nothing held out"


def test_each_arm_is_compared_with_the_baseline_that_the_file_names(sweep: Golden):
    for arm, lr in (("plain", 0.1), ("he", 0.2), ("pooled", 0.3), ("pad", 0.4)):
        for seed in (0, 1):
            sweep.cell({"optimizer.lr": lr, "seed": seed}, 10.0 + lr + seed, arm=arm)
    table = study_table(rows=("arm",), columns=(), baseline={"arm": {"he": "plain", "pad": "pooled"}})
    found = conditions_of(sweep, table)
    assert {label: condition.baseline for label, condition in found.items()} == {
        "plain": "",
        "he": "plain",
        "pooled": "",
        "pad": "pooled",
    }


def test_a_baseline_that_the_sweep_lacks_is_said(sweep: Golden):
    add(sweep, "strided", [10.0, 11.0])
    assert conditions_of(sweep)["variant Strided"].no_difference == "the sweep has no such baseline"


def test_seeds_that_one_side_lacks_are_not_paired_with_others(sweep: Golden):
    add(sweep, "base", [10.0, 11.0])
    for seed in (1, 2):
        sweep.cell({"model.variant": "strided", "seed": seed}, 12.0)
    assert conditions_of(sweep)["variant Strided"].no_difference == "unpaired: 2 values of seed on one side alone"


def test_conditions_come_row_by_row_nets_as_in_the_paper_and_numbers_as_in_the_sweep_file(sweep: Golden):
    table = study_table(rows=("model.variant",), columns=("optimizer.lr",))
    for lr in (0.25, 0.05, 0.1):
        for variant in ("strided", "all_cnn", "base"):
            sweep.cell({"model.variant": variant, "optimizer.lr": lr}, 10.0)
    assert list(conditions_of(sweep, table)) == [
        f"variant {variant}, lr {lr}" for variant in ("base", "Strided", "ALL-CNN") for lr in (0.25, 0.05, 0.1)
    ]


def test_the_hole_of_a_single_cell_is_its_status_and_that_of_a_condition_never_begun_says_all(sweep: Golden):
    sweep.cell({"model.variant": "base"}, None, status="out_of_memory")
    add(sweep, "strided", [None, None])
    found = conditions_of(sweep)
    assert found["variant base"].hole == "out of memory"
    assert found["variant Strided"].hole == "all 2 missing"


def test_a_knob_that_varies_within_a_condition_splits_it(sweep: Golden):
    for decay in (0.001, 0.01):
        for variant in ("base", "strided"):
            changes = {"model.variant": variant, "optimizer.weight_decay": decay, "optimizer.lr": 50 * decay}
            sweep.cell(changes, 10.0)
    loaded = load_sweep("golden", [sweep.write()])
    # One of the two that move together names the conditions already.
    assert len(split_further(loaded, NETS)) == 1
    assert split_further(loaded, study_table(rows=("model.variant", "optimizer.lr"), columns=())) == []


def test_the_paper_has_no_number_for_another_value_or_for_a_condition_that_is_not_its_own(sweep: Golden):
    for relu in (True, False):
        sweep.cell({"model.class_relu": relu}, 10.0, val_error=9.0)
    relus = study_table(rows=("model.class_relu",), columns=(), paper="table3")
    own, other = conditions_of(sweep, relus).values()
    assert own.paper is not None
    assert other.paper is not None
    # All-CNN-C in the paper's Table 3; its ReLU on the class convolution is in Table 1.
    assert (own.paper.error, other.paper.error) == (9.08, None)
    validated = study_table(rows=("model.class_relu",), columns=(), paper="table3", value=value_of("val_error"))
    assert [condition.paper for condition in conditions_of(sweep, validated).values()] == [None, None]
