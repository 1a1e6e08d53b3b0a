"""Tables whose lines are looked at several times, from records written by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import Golden
from handmade import drawn, texts
from msgspec import structs

from strive.errors import LoadError
from strive.figures.effects import effect_plot
from strive.results.conditions import Condition
from strive.results.judged_lines import _common_step, conditions_of, declared_looks, not_needed
from strive.results.load import Loaded, load_sweep
from strive.results.table_choice import declared_table
from strive.statistics.inference import Verdict
from strive.tables.render import markdown
from strive.tables.summary import summarise_sweep

TEXT = """
question: Does pooling matter?
grid: {model.variant: [base, strided, convpool, all_cnn], seed: "range(0,8)"}
seeds: {looks: [3, 5, 8]}
table: {rows: [model.variant], columns: [], baseline: {model.variant: base}, margin: 0.5}
"""
# Errors in percent of the first eight seeds; differences that decide at the first, the second and no look.
BASE = [10.0, 10.6, 9.4, 10.2, 9.8, 10.4, 9.6, 10.1]
FAR = [each + step for each, step in zip(BASE, (4.0, 4.1, 3.9, 4.0, 4.1, 3.9, 4.0, 4.1), strict=True)]
NEAR = [each + step for each, step in zip(BASE, (0.1, -0.3, 0.2, 0.0, 0.1, -0.1, 0.0, 0.2), strict=True)]


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs", text=TEXT)


def add(sweep: Golden, variant: str, errors: Sequence[float | None], **more: Any) -> None:
    for seed, error in enumerate(errors):
        own = more if error is not None else {}
        sweep.cell({"model.variant": variant, "seed": seed}, error, **own)


def first(errors: Sequence[float], number: int) -> list[float | None]:
    return [*errors[:number], *[None] * (len(errors) - number)]


def loaded(sweep: Golden, *, fix: bool = True) -> Loaded:
    there = dict.fromkeys(planned.config.model.variant.value for planned in sweep._cells)
    sweep.text = sweep.text.replace("[base, strided, convpool, all_cnn]", f"[{', '.join(there)}]")
    found = load_sweep("golden", [sweep.write()])
    if fix and found.fixed_looks is None:
        declared_looks(found, declared_table(found)).write(sweep.runs / "sweeps" / "golden")
        found = load_sweep("golden", [sweep.runs])
    return found


def by_variant(found: Loaded) -> dict[str, Condition]:
    return {str(each.key["model.variant"]): each for each in conditions_of(found, declared_table(found), mix=False)}


def test_each_line_is_judged_at_the_look_that_decided_it_with_the_first_seeds_of_the_file(sweep: Golden):
    add(sweep, "base", BASE)
    add(sweep, "strided", FAR)
    add(sweep, "convpool", NEAR)
    found = by_variant(loaded(sweep))
    far, near, base = found["strided"], found["convpool"], found["base"]
    assert far.look is not None
    assert near.look is not None
    assert far.judgement is not None
    assert near.judgement is not None
    assert (far.judgement.verdict, far.look.at) == (Verdict.worse, "look 1 of 3, n = 3")
    assert (near.judgement.verdict, near.look.at) == (Verdict.not_worse, "look 2 of 3, n = 5")
    # Rows are about the same seeds as the verdict; a baseline's about those of the line that goes on longest.
    assert far.summary is not None
    assert base.summary is not None
    assert (far.summary.n, far.summary.mean) == (3, pytest.approx(14.0))
    assert base.summary.n == 5
    assert far.difference is not None
    assert (far.difference.n, far.difference.mean) == (3, pytest.approx(4.0))
    # Over all looks the interval is wider than Student's alone.
    assert near.difference is not None
    assert near.difference.low is not None
    assert near.difference.low < -0.25  # Student alone: 0.02 - 2.776 * 0.192 / sqrt(5) = -0.22
    assert near.simultaneous is not None
    assert near.simultaneous[0] < near.difference.low


def test_the_order_of_the_file_counts_and_not_the_order_of_the_numbers(tmp_path: Path):
    text = TEXT.replace("range(0,8)", "range(7,-1,-1)")
    sweep = Golden(tmp_path / "runs", text=text)
    for variant, errors in (("base", BASE), ("strided", FAR)):
        for seed in reversed(range(8)):
            sweep.cell({"model.variant": variant, "seed": seed}, errors[seed])
    far = by_variant(loaded(sweep))["strided"]
    assert far.difference is not None
    assert far.difference.mean == pytest.approx(sum(FAR[seed] - BASE[seed] for seed in (5, 6, 7)) / 3)
    assert list(far.cells["seed"]) == [7, 6, 5]


def test_a_decided_line_keeps_its_verdict_whatever_its_later_seeds_say(sweep: Golden):
    add(sweep, "base", BASE)
    add(sweep, "strided", [*FAR[:3], *(each - 9 for each in BASE[3:])])
    far = by_variant(loaded(sweep))["strided"]
    assert far.judgement is not None
    assert far.judgement.verdict is Verdict.worse


def test_a_metric_of_which_more_is_better_loses_where_it_is_less(tmp_path: Path):
    text = TEXT.replace("table: {", "table: {value: test_error, better: higher, ")
    sweep = Golden(tmp_path / "runs", text=text)
    add(sweep, "base", FAR)
    add(sweep, "strided", BASE)
    found = by_variant(loaded(sweep))["strided"]
    assert found.judgement is not None
    assert found.difference is not None
    assert found.simultaneous is not None
    assert found.judgement.verdict is Verdict.worse
    assert found.simultaneous[0] < found.difference.mean < found.simultaneous[1] < -0.5


def test_cells_that_no_look_needs_are_no_holes_and_one_that_a_look_needs_is(sweep: Golden):
    add(sweep, "base", first(BASE, 8))
    add(sweep, "strided", first(FAR, 3))
    add(sweep, "convpool", first(NEAR, 8))
    add(sweep, "all_cnn", first(NEAR, 4))
    found = loaded(sweep)
    conditions = conditions_of(found, declared_table(found), mix=False)
    assert not any(condition.hole for condition in conditions)
    # Five later seeds of the net that is decided, and three of the one that waits for its second look.
    assert len(not_needed(found, conditions)) == 8
    summary = summarise_sweep(found)
    assert summary.problems == (
        "variant ALL-CNN: undecided, look 1 of 3, n = 3; waits for seeds: it has 4 of the first 5",
    )
    (holes,) = [table for table in summary.tables if table.name == "holes"]
    assert len(holes.rows) == 1
    assert "23 of 32 cells done, 8 not needed by the looks" in summary.tables[0].aside
    assert summary.answer == (
        "Against variant base, where up to 0.5 points worse counts as equal, looks planned at 3, 5 and 8 seeds: shown"
        " not to be worse: variant ConvPool (look 3 of 3, n = 8); shown to be worse: variant Strided (look 1 of 3, n ="
        " 3); undecided: variant ALL-CNN (look 1 of 3, n = 3)."
    )


def with_one(sweep: Golden, variant: str, errors: Sequence[float], seed: int, **status: Any) -> None:
    """Add a variant of which one seed ended otherwise."""
    for each, error in enumerate(errors):
        key = {"model.variant": variant, "seed": each}
        sweep.cell(key, **status) if each == seed else sweep.cell(key, error)


def test_a_line_of_which_a_seed_failed_waits_for_it_and_has_a_hole(sweep: Golden):
    add(sweep, "base", BASE)
    with_one(sweep, "strided", FAR, 1, status="out_of_memory")
    far = by_variant(loaded(sweep))["strided"]
    assert (far.hole, far.difference) == ("2 of 3 done, 1 out of memory", None)
    assert far.look is not None
    assert far.look.at == "no look yet"
    assert far.look.verdict == ("undecided: waits for seeds: it has 2 of the first 3 (seed 1 failed: out of memory)")
    assert far.look.waits


def test_a_line_of_which_a_seed_diverged_has_died_as_one_at_chance_has(sweep: Golden):
    add(sweep, "base", BASE)
    with_one(sweep, "strided", FAR[:3], 1, status="diverged")
    for seed in range(3, 8):
        sweep.cell({"model.variant": "strided", "seed": seed})
    add(sweep, "convpool", NEAR)
    found = loaded(sweep)
    far, near = (by_variant(found)[variant] for variant in ("strided", "convpool"))
    assert far.look is not None
    assert far.look.at == "look 1 of 3, n = 3"
    assert far.look.verdict == "undecided: nothing is tested, as 1 of 3 pairs died (seed 1 diverged)"
    assert (far.hole, far.difference, far.dead_pairs) == ("2 of 3 done, 1 diverged", None, 1)
    assert not far.look.waits
    assert len(far.needed) == 3  # later seeds can decide nothing
    assert near.judgement is not None
    assert near.judgement.verdict is Verdict.not_worse
    summary = summarise_sweep(found)
    assert summary.answer.endswith("no mean, as cells diverged: variant Strided (1 of 3).")
    # Clopper and Pearson: with p = 0.8647 at most one of three dies in (1 - p)^3 + 3 p (1 - p)^2 = 0.05 of cases.
    assert "1 of 3, rate up to 86%" in markdown(summary)


def test_a_line_that_is_open_ends_at_the_look_at_which_a_seed_diverged(sweep: Golden):
    add(sweep, "base", BASE)
    open_ = [each + step for each, step in zip(BASE, (1.0, -0.4, 0.6, 1.2, -0.2, 0.8, 0.1, 0.0), strict=True)]
    with_one(sweep, "strided", open_, 6, status="diverged")
    far = by_variant(loaded(sweep))["strided"]
    assert far.look is not None
    assert (far.look.at, far.difference) == ("look 3 of 3, n = 8", None)
    assert far.look.line.reason.endswith("1 of 8 pairs died (seed 6 diverged)")


def test_a_baseline_that_diverged_is_named_as_the_one_that_did(sweep: Golden):
    with_one(sweep, "base", BASE, 0, status="diverged")
    add(sweep, "strided", FAR)
    far = by_variant(loaded(sweep))["strided"]
    assert far.look is not None
    assert far.look.line.reason.endswith("(seed 0 of variant base diverged)")


def test_a_seed_whose_files_contradict_each_other_is_named_where_its_line_waits_for_it(sweep: Golden):
    add(sweep, "base", BASE)
    with_one(sweep, "strided", FAR, 2, error=10.0, correct=[True] * 80 + [False] * 20)
    (record,) = sweep.runs.glob("*strided*s2*/record.json")
    record.write_text(record.read_text().replace('"test_error": 0.2', '"test_error": 0.1'))
    far = by_variant(loaded(sweep))["strided"]
    assert far.look is not None
    assert far.look.line.reason.endswith("(seed 2 has files that contradict each other)")


def test_a_dead_seed_is_named_and_its_line_gets_no_verdict(sweep: Golden):
    add(sweep, "base", BASE, chance_error=0.9)
    add(sweep, "strided", [FAR[0], 90.0, *FAR[2:]], chance_error=0.9)
    add(sweep, "convpool", NEAR, chance_error=0.9)
    found = loaded(sweep)
    far = by_variant(found)["strided"]
    assert far.judgement is not None
    assert (far.judgement.verdict, far.dead_pairs) == (Verdict.undecided, 1)
    text = markdown(summarise_sweep(found))
    assert "1 of 8 pairs dead" in text
    assert "0 of 5, rate up to 45%" in text


def test_ties_give_no_verdict(sweep: Golden):
    # Over 100 images all differences are one image or none.
    wrong = [10, 12, 9, 11, 10, 12, 9, 11]
    for variant, more in (("base", 0), ("strided", 5)):
        for seed, number in enumerate(wrong):
            errors = number + more + (seed == 7)
            sweep.cell({"model.variant": variant, "seed": seed}, errors, correct=[at >= errors for at in range(100)])
    found = loaded(sweep)
    far = by_variant(found)["strided"]
    assert far.look is not None
    assert far.look.line.reason.startswith("silent")


def test_cells_of_two_versions_of_the_code_are_not_looked_at_together(sweep: Golden):
    add(sweep, "base", BASE)
    for seed, error in enumerate(NEAR):
        sweep.cell(
            {"model.variant": "convpool", "seed": seed}, error, code_hash="c0de000000" if seed < 4 else "0ther00000"
        )
    found = loaded(sweep)
    near = by_variant(found)["convpool"]
    assert near.look is not None
    assert near.look.at == "look 1 of 3, n = 3"
    assert "cells of the first 5 seeds are of several versions" in near.look.line.reason
    (mixed,) = [each for each in conditions_of(found, declared_table(found), mix=True) if each.look]
    assert mixed.judgement is not None
    assert mixed.judgement.verdict is Verdict.not_worse


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 1.0}, "margin was 1.0 and is 0.5"),
        ({"looks": [3, 8]}, "looks were [3, 8] and are [3, 5, 8]"),
        ({"alpha": 0.1}, "alpha was 0.1 and is 0.05"),
        ({"metric": "val_error"}, "metric was val_error and is test_error"),
        ({"seeds": [7, 6]}, "seeds were [7, 6] and are"),
        ({"lines": []}, "line variant Strided is new"),
        (None, "looks.json, where a launch keeps what is fixed at the first look, is not beside the plan"),
    ],
)
def test_what_is_not_as_it_was_fixed_gets_no_verdict(sweep: Golden, change: dict[str, Any] | None, message: str):
    add(sweep, "base", BASE)
    add(sweep, "strided", FAR)
    found = loaded(sweep, fix=change is not None)
    if change is not None:
        assert found.fixed_looks is not None
        structs.replace(found.fixed_looks, **change).write(sweep.runs / "sweeps" / "golden")
        found = loaded(sweep)
    summary = summarise_sweep(found)
    assert any(message in problem for problem in summary.problems)
    assert summary.answer.startswith("Compared with variant base, without a verdict: ")
    assert not any(condition.decided or condition.simultaneous for condition in summary.conditions)
    assert "no verdict" in markdown(summary)


def test_looks_that_were_taken_out_of_the_file_leave_no_verdict(sweep: Golden):
    add(sweep, "base", BASE)
    add(sweep, "strided", FAR)
    loaded(sweep)
    sweep.text = sweep.text.replace("seeds: {looks: [3, 5, 8]}", "")
    assert "the sweep file has none now" in summarise_sweep(loaded(sweep)).problems[0]


def test_a_damaged_file_of_what_was_fixed_is_an_error(sweep: Golden):
    add(sweep, "base", BASE)
    add(sweep, "strided", FAR)
    loaded(sweep)
    (sweep.runs / "sweeps" / "golden" / "looks.json").write_text("{}")
    with pytest.raises(LoadError, match=r"looks\.json: not the looks of this version"):
        load_sweep("golden", [sweep.runs])


def test_done_cells_that_no_number_has_are_counted(sweep: Golden):
    add(sweep, "base", BASE)
    add(sweep, "strided", FAR)
    summary = summarise_sweep(loaded(sweep))
    assert any(note.startswith("10 done cells are in no number") for note in summary.notes)


def test_lines_of_several_baselines_each_take_their_own_seeds(tmp_path: Path):
    text = TEXT.replace("table: {rows: [model.variant]", "table: {rows: [optimizer.lr, model.variant]")
    sweep = Golden(tmp_path / "runs", text=text)
    for lr, errors in ((0.05, FAR), (0.1, NEAR)):
        for seed in range(8):
            sweep.cell(
                {"optimizer.lr": lr, "model.variant": "base", "seed": seed},
                BASE[seed] if lr == 0.1 or seed < 3 else None,
            )
            sweep.cell(
                {"optimizer.lr": lr, "model.variant": "strided", "seed": seed},
                errors[seed] if lr == 0.1 or seed < 3 else None,
            )
    found = loaded(sweep)
    conditions = conditions_of(found, declared_table(found), mix=False)
    assert [each.summary.n for each in conditions if each.summary] == [3, 3, 5, 5]
    assert not any(each.hole for each in conditions)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([10.0, 10.3, 9.4], 0.3),
        ([91.23, 90.01, 90.57, 91.02], 0.01),
        ([float(np.float32(100 * k / 360)) for k in (12, 19, 33)], 100 / 360 * 7),
        ([float(np.float32(k / 10_000)) for k in (9_001, 9_009, 9_113, 8_700)], 1 / 10_000),
        ([5.0, 5.0], 0.0),
        ([5.0], 0.0),
    ],
)
def test_the_step_of_a_metric_is_found_from_its_values(values: list[float], step: float):
    assert _common_step(values) == pytest.approx(step, rel=0.02)


def test_a_metric_without_steps_has_next_to_none():
    values = list(np.random.default_rng(0).normal(2.3, 0.1, 10))
    assert _common_step(values) < 1e-4


def test_the_figure_of_differences_draws_each_difference_of_the_newest_look(sweep: Golden):
    add(sweep, "base", BASE)
    add(sweep, "strided", FAR)
    summary = summarise_sweep(loaded(sweep))
    (line,) = [condition for condition in summary.conditions if condition.look]
    assert line.differences == pytest.approx((4.0, 4.1, 3.9))
    (figure,) = effect_plot(summary)
    assert [x for points in drawn(figure, marker="o") for x, _ in points][:3] == pytest.approx([4.0, 4.1, 3.9])
    assert any("the single differences" in text for text in texts(figure))
