from dataclasses import replace
from pathlib import Path

import pytest
from golden import Golden
from handmade import study_table

from strive.results.answer import answer
from strive.results.conditions import make_conditions
from strive.results.load import load_sweep
from strive.sweeps.table_spec import TableSpec

ALONE = study_table(rows=("model.variant",), columns=())
COMPARED = study_table(rows=("model.variant",), columns=(), baseline={"model.variant": "base"}, margin=0.5)


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs")


def said(sweep: Golden, table: TableSpec) -> str:
    return answer(make_conditions(load_sweep("golden", [sweep.write()]), table, mix=False), table)


def add(sweep: Golden, variant: str, *errors: float | None) -> None:
    for seed, error in enumerate(errors):
        sweep.cell({"model.variant": variant, "seed": seed}, error)


def test_nothing_is_known_while_no_cell_is_done(sweep: Golden):
    add(sweep, "base", None, None)
    assert said(sweep, ALONE) == "No result yet: none of 2 cells is done."


def test_each_verdict_names_its_nets(sweep: Golden):
    add(sweep, "base", 10.0, 11.0, 12.0)
    add(sweep, "all_cnn", 9.0, 10.1, 11.0)
    add(sweep, "strided", 12.0, 13.1, 14.0)
    add(sweep, "convpool", 9.0, 12.0, 12.0)
    assert said(sweep, COMPARED) == (
        "Against variant base, where up to 0.5 points worse counts as equal: shown not to be worse: variant ALL-CNN;"
        " shown to be worse: variant Strided; undecided: variant ConvPool."
    )


def test_means_that_contain_dead_cells_are_named(sweep: Golden):
    for variant, errors in (("base", (10.0, 11.0)), ("strided", (10.0, 90.0))):
        for seed, error in enumerate(errors):
            sweep.cell({"model.variant": variant, "seed": seed}, error, chance_error=0.9)
    assert said(sweep, ALONE).endswith(" ended no better than chance are in variant Strided.")


def test_without_a_margin_the_answer_says_what_is_shown_to_differ(sweep: Golden):
    add(sweep, "base", 10.0, 11.0, 12.0)
    add(sweep, "all_cnn", 9.0, 10.1, 11.0)
    add(sweep, "strided", 12.0, 13.1, 14.0)
    add(sweep, "convpool", 9.0, 12.0, 12.0)
    assert said(sweep, replace(COMPARED, margin=0.0)) == (
        "Compared with variant base: shown to be better: variant ALL-CNN; shown to be worse: variant Strided;"
        " undecided: variant ConvPool."
    )


def test_the_smallest_is_not_called_best_where_that_is_not_shown(sweep: Golden):
    add(sweep, "base", 10.0, 11.0)
    add(sweep, "strided", 9.0, 11.5)
    assert said(sweep, ALONE) == (
        "variant Strided has the smallest mean test error, 10.25%, but is not shown to be better than every other."
    )


def test_what_is_shown_to_be_best_is_called_so(sweep: Golden):
    add(sweep, "base", 10.0, 11.0, 12.1)
    add(sweep, "strided", 9.0, 10.0, 11.0)
    assert said(sweep, ALONE).endswith(", 10.00%, and is shown to be better than every other.")


def test_conditions_without_a_mean_are_counted_behind_the_answer(sweep: Golden):
    add(sweep, "base", 10.0, 11.0)
    add(sweep, "strided", 9.0, None)
    add(sweep, "convpool", 12.0, 13.0)
    text = said(sweep, ALONE)
    assert text.startswith("variant base has the smallest mean test error of the 2 known, 10.50%")
    assert text.endswith(" 1 place of the table has no mean: not every cell there has a number.")


def test_the_only_mean_is_not_called_the_smallest(sweep: Golden):
    add(sweep, "base", 10.0, 11.0)
    add(sweep, "strided", 9.0, None)
    assert said(sweep, ALONE).startswith("Of 2 places of the table only variant base has a mean: test error 10.50%")


def test_one_condition_alone_is_told_with_its_n(sweep: Golden):
    add(sweep, "base", 10.0, 11.0)
    assert said(sweep, ALONE) == "Variant base: test error 10.50% (mean of 2 cells that differ in seed)."


def test_without_a_difference_nothing_is_compared(sweep: Golden):
    add(sweep, "base", 10.0, None)
    add(sweep, "strided", 10.0, 11.0)
    assert said(sweep, COMPARED).startswith("Nothing can be compared with variant base yet")


def test_a_table_with_columns_says_which_of_them_is_smallest_in_which_rows(sweep: Golden):
    for variant, at_low, at_high in (("base", 10.0, 11.0), ("strided", 10.0, 9.0), ("convpool", 8.0, None)):
        sweep.cell({"model.variant": variant, "optimizer.lr": 0.05}, at_low)
        sweep.cell({"model.variant": variant, "optimizer.lr": 0.1}, at_high)
    assert said(sweep, study_table(rows=("model.variant",), columns=("optimizer.lr",))) == (
        "Smallest mean test error, with no test against the others: lr 0.05 for variant base; lr 0.1 for variant"
        " Strided. 1 place of the table has no mean: not every cell there has a number."
    )


def test_columns_with_equal_means_are_named_together(sweep: Golden):
    for rate in (0.05, 0.1):
        sweep.cell({"model.variant": "base", "optimizer.lr": rate}, 10.0)
    table = study_table(rows=("model.variant",), columns=("optimizer.lr",))
    assert "lr 0.05 and lr 0.1 for variant base" in said(sweep, table)


def test_no_line_is_said_to_be_compared_with_the_baselines_of_others(sweep: Golden):
    for rate in (0.05, 0.1):
        for variant in ("base", "strided"):
            sweep.cell({"model.variant": variant, "optimizer.lr": rate}, 10.0)
    table = study_table(
        rows=("optimizer.lr", "model.variant"), columns=(), baseline={"model.variant": "base"}, margin=1
    )
    assert said(sweep, table).startswith("Against the baseline of each (lr 0.05, variant base; lr 0.1, variant base), ")


def test_many_baselines_are_counted(sweep: Golden):
    for number in range(5):
        for variant in ("base", "strided"):
            sweep.cell({"model.variant": variant, "optimizer.lr": 0.1 + number}, 10.0)
    table = study_table(
        rows=("optimizer.lr", "model.variant"), columns=(), baseline={"model.variant": "base"}, margin=1
    )
    assert said(sweep, table).startswith(
        "Against the baseline of each (5 of them), where up to 1 point worse counts as equal: undecided: 5 of 5."
    )


def test_conditions_of_several_versions_are_told_apart_from_those_that_lack_cells(sweep: Golden):
    add(sweep, "base", 10.0, 11.0)
    for seed, code in enumerate(("c0de", "0ther")):
        sweep.cell({"model.variant": "strided", "seed": seed}, 12.0 + seed, code_hash=code)
    for seed in range(2):
        sweep.cell({"model.variant": "all_cnn", "seed": seed}, 12.0 + seed, code_hash="0ther")
    assert said(sweep, COMPARED) == (
        "Nothing can be compared with variant base yet: the table says why. 1 place of the table has no mean: cells are"
        " of several versions of the code or the data. Not compared, as code or data are not the baseline's: variant"
        " ALL-CNN."
    )
