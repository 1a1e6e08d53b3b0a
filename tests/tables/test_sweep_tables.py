from dataclasses import replace
from pathlib import Path

import pytest
from golden import Golden
from handmade import study_table

from strive.cells.metrics import Better
from strive.results.conditions import Condition, make_conditions, with_partial
from strive.results.load import load_sweep
from strive.statistics.factorial import Assumptions, Effect, Effects, Level, UnequalTest
from strive.sweeps import table_spec
from strive.sweeps.criterion import Criterion
from strive.sweeps.plan import StoredChoice
from strive.tables.choice_table import choice_table
from strive.tables.difference_table import difference_table
from strive.tables.effect_tables import effect_table, level_table
from strive.tables.entries import p_text
from strive.tables.error_table import error_table
from strive.tables.hole_table import hole_table
from strive.tables.matrix import matrix, matrix_keys
from strive.tables.table import Table

PAPERS = study_table(
    rows=("model.base", "model.variant"), columns=(), baseline={"model.variant": "base"}, margin=0.5, paper="table3"
)


def texts(table: Table) -> list[list[str]]:
    return [[entry.text for entry in row.entries] for row in table.rows]


def add(sweep: Golden, base: str, variant: str, *errors: float | None, **changes: object) -> None:
    for seed, error in enumerate(errors):
        changed = {"model.base": base, "model.variant": variant, "seed": seed} | changes
        sweep.cell(changed, error, **({} if error is None else {"parameters": 1369738}))


def made(sweep: Golden, table: table_spec.TableSpec) -> list[Condition]:
    return make_conditions(load_sweep("golden", [sweep.write()]), table, mix=False)


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs")


def test_the_table_of_errors_has_the_paper_s_number_the_gap_and_whether_they_are_compatible(sweep: Golden):
    add(sweep, "a", "base", 12.0, 12.5, 13.0)
    add(sweep, "a", "strided", 13.0, 13.0)
    add(sweep, "b", "base", 10.0, None)
    add(sweep, "c", "all_cnn", 8.0)
    add(sweep, "c", "all_cnn", 7.0, **{"augment.kind": "flip_shift", "model.base": "b"})
    found = error_table(made(sweep, PAPERS), PAPERS, "What it is.")
    assert [column.title for column in found.columns] == [
        "net", "parameters", "n", "test error, %", "sd", "95% interval",
        "paper", "paper's parameters", "gap", "prediction interval", "fits",
    ]  # fmt: skip
    # Two equal values have no interval.
    # Model A: sd 0.5, 4.3027 * 0.5 / sqrt(3) = 1.2421, 4.3027 * 0.5 * sqrt(4 / 3) = 2.4842.
    # The paper's Table 3: 12.47, 13.46, 10.20, 9.08.
    assert texts(found) == [
        [
            "Model A", "1,369,738", "3", "12.50", "0.50", "11.26 to 13.74",
            "12.47", "0.9M", "+0.03", "10.02 to 14.98", "yes",
        ],
        ["Strided-CNN-A", "1,369,738", "2", "13.00", "0.00", "-", "13.46", "0.9M", "-0.46", "-", "-"],
        ["Model B", "1,369,738", "1", "1 of 2 done, 1 missing", "-", "-", "10.20", "1M", "-", "-", "-"],
        # With augmentation the paper has All-CNN-C alone.
        ["ALL-CNN-B", "1,369,738", "1", "7.00", "-", "-", "new", "-", "-", "-", "-"],
        ["ALL-CNN-C", "1,369,738", "1", "8.00", "-", "-", "9.08", "1.4M", "-1.08", "-", "-"],
    ]  # fmt: skip
    assert [row.ref for row in found.rows] == ["1", "2", "3", "4", "5"]
    assert [row.rule for row in found.rows] == [False, False, True, False, True]
    assert found.rows[1].factors == {"model.base": "A", "model.variant": "Strided"}
    assert found.rows[2].entries[3].hole


def test_without_a_table_of_the_paper_there_is_no_column_for_it(sweep: Golden):
    add(sweep, "a", "base", 12.0)
    table = study_table(rows=("model.base",), columns=())
    assert len(error_table(made(sweep, table), table, "").columns) == 6


def test_the_matrix_has_the_sweep_file_s_rows_and_columns_with_mean_and_spread(sweep: Golden):
    table = study_table(rows=("model.base",), columns=("model.variant",))
    add(sweep, "a", "base", 12.0, 12.5, 13.0)
    add(sweep, "a", "strided", 13.0, 13.0, None)
    add(sweep, "b", "strided", 10.0)
    found = the_matrix(sweep, table)
    assert [column.title for column in found.columns] == ["base / variant", "Base", "Strided"]
    assert texts(found) == [
        ["Base A", "12.50 ± 0.50", "2 of 3 done, 1 missing"],
        ["Base B", "excluded", "10.00"],
    ]
    assert [[entry.ref for entry in row.entries] for row in found.rows] == [["", "1", "2"], ["", "", "3"]]


def the_matrix(sweep: Golden, table: table_spec.TableSpec, *, partial: bool = False) -> Table:
    conditions = made(sweep, table)
    if partial:
        conditions = with_partial(conditions, table, mix=False)
    keys = matrix_keys(conditions, table)
    assert keys is not None
    return matrix(conditions, table, keys, "")


def test_the_last_of_several_keys_is_the_matrix_s_columns_unless_it_is_an_arm(sweep: Golden):
    add(sweep, "a", "base", 12.0)
    add(sweep, "b", "strided", 13.0)
    conditions = made(sweep, PAPERS)
    assert matrix_keys(conditions, PAPERS) == (("model.base",), ("model.variant",))
    assert matrix_keys(conditions[:1], PAPERS) is None
    assert matrix_keys(conditions, replace(PAPERS, rows=("model.base",))) is None
    assert matrix_keys(conditions, replace(PAPERS, rows=("model.base", table_spec.ARM))) is None


def test_the_matrix_has_the_paper_s_number_and_a_mark_for_each_verdict(sweep: Golden):
    for base in "ab":
        add(sweep, base, "base", 10.0, 11.0, 12.0)
        add(sweep, base, "strided", 12.0, 13.1, 14.0)
        add(sweep, base, "all_cnn", 8.0, 9.1, 10.0)
    found = the_matrix(sweep, PAPERS)
    # The paper's Table 3.
    assert texts(found)[0] == ["Base A", "11.00 ± 1.00 (12.47)", "13.03 ± 1.00• (13.46)", "9.03 ± 1.00\u2217 (10.30)"]
    assert "\u2217 not worse, • worse" in found.notes[1]
    assert "corrected for 4 comparisons" in found.notes[1]


def test_what_is_done_of_a_place_with_a_hole_is_shown_if_it_is_asked_for_without_a_verdict(sweep: Golden):
    add(sweep, "a", "base", 10.0, 11.0, 12.0)
    add(sweep, "a", "strided", 12.0, 13.0, None)
    add(sweep, "b", "base", None)
    add(sweep, "b", "strided", 12.0, 13.0)
    assert texts(the_matrix(sweep, PAPERS))[0][2] == "2 of 3 done, 1 missing"
    found = the_matrix(sweep, PAPERS, partial=True)
    assert texts(found)[0][2] == "12.50 ± 0.71, 2 of 3 done"
    assert texts(found)[1][1] == "missing"
    assert [entry.partial for row in found.rows for entry in row.entries[1:]] == [False, True, False, False]
    assert any("It is no result" in note for note in found.notes)
    conditions = with_partial(made(sweep, PAPERS), PAPERS, mix=False)
    line = error_table(conditions, PAPERS, "").rows[1].entries
    assert [entry.text for entry in line[2:6]] == ["2 of 3", "12.50", "0.71", "-"]
    assert conditions[1].difference is None


def test_what_is_done_by_several_versions_of_the_code_is_no_mean_either(sweep: Golden):
    for seed, code in enumerate(("old", "new")):
        sweep.cell({"seed": seed}, 10.0, code_hash=code)
    sweep.cell({"seed": 2}, None)
    assert with_partial(made(sweep, PAPERS), PAPERS, mix=False)[0].partial is None


def test_n_stands_below_the_matrix_only_where_it_is_the_same_everywhere(sweep: Golden):
    table = study_table(rows=("model.base",), columns=("model.variant",))
    add(sweep, "a", "base", 12.0, 12.5)
    add(sweep, "b", "base", 12.0, 12.5)
    assert "over the 2 cells (a training each) that differ in seed." in the_matrix(sweep, table).notes[0]
    add(sweep, "c", "base", 12.0)
    assert "over the cells (a training each) that differ in seed." in the_matrix(sweep, table).notes[0]


def test_the_table_of_differences_says_what_is_shown(sweep: Golden):
    add(sweep, "a", "base", 10.0, 11.0, 12.0)
    add(sweep, "a", "strided", 12.0, 13.1, 14.0)
    add(sweep, "a", "convpool", 10.0, 11.0, None)
    add(sweep, "a", "all_cnn", 10.0, 11.4, 11.9)
    found = difference_table(made(sweep, PAPERS), PAPERS)
    assert [(row.ref, row.baseline_ref) for row in found.rows] == [("2", "1"), ("3", "1"), ("4", "1")]
    strided, convpool, all_cnn = texts(found)
    # 2, 2.1, 2: mean 2.0333, sd 0.057735, se 0.033333; 4.3027 * se = 0.1434. Of two lines each has an interval of
    # 97.5%: t = 0.975 * sqrt(2 / (1 - 0.975**2)) = 6.2053, times se = 0.2068. Against 0.5 t is 46, so p for a loss,
    # (1 - t / sqrt(t^2 + 2)) / 2, is 0.0002, times 2.
    assert strided == [
        "Strided-CNN-A", "Model A", "3", "+2.03", "+1.83 to +2.24", "+1.89 to +2.18", "1.000", "<0.001", "worse",
    ]  # fmt: skip
    assert convpool == [
        "ConvPool-CNN-A", "Model A", "-", "2 of 3 done, 1 missing", "-", "-", "-", "-", "-",
    ]  # fmt: skip
    # 0, 0.4, -0.1: mean 0.1, sd 0.26458, se 0.15275, 4.3027 * se = 0.65725, 6.2053 * se = 0.94788. Against 0.5
    # t = -2.6186: p = (1 - t / sqrt(t^2 + 2)) / 2 = 0.0601, times 2 = 0.120; the other 0.9399, times 1.
    assert all_cnn == [
        "ALL-CNN-A", "Model A", "3", "+0.10", "-0.85 to +1.05", "-0.56 to +0.76", "0.120", "0.940", "undecided",
    ]  # fmt: skip


def test_a_table_without_a_margin_has_differences_with_their_p_and_no_verdict(sweep: Golden):
    add(sweep, "a", "base", 10.0, 11.0, 12.0)
    add(sweep, "a", "strided", 12.0, 13.1, 14.0)
    add(sweep, "a", "all_cnn", 10.0, 11.4, 11.9)
    table = replace(PAPERS, margin=0.0)
    found = difference_table(made(sweep, table), table)
    assert [column.title for column in found.columns][-3:] == ["simultaneous interval", "of the line alone", "p"]
    # t = 61 and 0.65465 with 2 degrees of freedom, p = 1 - t / sqrt(t^2 + 2): 0.00027 times 2, and 0.58.
    assert [line[-1] for line in texts(found)] == ["<0.001", "0.580"]
    assert [row.entries[3].bold for row in found.rows] == [True, False]
    assert "No margin" in found.caption


def test_a_verdict_of_a_later_step_of_holm_is_marked_and_its_interval_contains_the_margin(sweep: Golden):
    add(sweep, "a", "base", 10.0, 11.0, 12.0)
    # Against 0.5: -0.29, -0.3, -0.31, t = -52, p = 0.00018; and -0.2, -0.3, -0.4, t = -5.2, p = 0.0175, which is
    # above 0.025 / 2 and below 0.025.
    add(sweep, "a", "strided", 10.19, 11.2, 12.21)
    add(sweep, "a", "all_cnn", 10.1, 11.2, 12.3)
    found = difference_table(made(sweep, PAPERS), PAPERS)
    assert [line[-1] for line in texts(found)] == ["not worse", "not worse†"]
    # 0.2 + 6.2053 * 0.1 / sqrt(3)
    assert texts(found)[1][4] == "-0.16 to +0.56"
    assert len(found.notes) == 1


def test_an_interval_that_was_cut_at_0_percent_is_marked(sweep: Golden):
    add(sweep, "a", "base", 0.1, 0.2, 0.3)
    add(sweep, "b", "base", 10.1, 10.2, 10.3)
    found = error_table(made(sweep, PAPERS), PAPERS, "")
    # 0.2 -+ 4.3027 * 0.1 / sqrt(3), and 10.2 -+ the same.
    assert [line[5] for line in texts(found)] == ["0.00‡ to 0.45", "9.95 to 10.45"]
    assert [note[:2] for note in found.notes] == ["‡:"]


def test_a_verdict_on_pairs_with_dead_cells_counts_them(sweep: Golden):
    for seed, error in enumerate((10.0, 11.0, 12.0)):
        sweep.cell({"model.base": "a", "model.variant": "base", "seed": seed}, error, chance_error=0.9)
    for seed, error in enumerate((90.0, 12.1, 90.0)):
        sweep.cell({"model.base": "a", "model.variant": "strided", "seed": seed}, error, chance_error=0.9)
    assert texts(difference_table(made(sweep, PAPERS), PAPERS))[0][-1] == "undecided, 2 of 3 pairs dead"


def test_a_choice_is_printed_with_what_it_was_made_over(sweep: Golden):
    per = {"data.name": "cifar10", "model.base": "a", "model.variant": "base"}
    chosen = {"key": "optimizer.lr", "sweeps": ["mine_lr"], "by": "val_error", "value": 0.05, "why": "val error 9.00%"}
    sweep.choices = [StoredChoice(per=per, **chosen)]  # type: ignore[arg-type]
    add(sweep, "a", "base", 10.0)
    add(sweep, "b", "base", 10.0)
    add(sweep, "b", "strided", 10.0)
    conditions = made(sweep, PAPERS)
    found = choice_table(load_sweep("golden", [sweep.runs]), conditions, PAPERS)
    assert found is not None
    assert texts(found) == [["Model A", "lr", "0.05", "val error 9.00%", ""]]
    assert found.caption.startswith("Chosen by val error from the cells of mine_lr.")
    assert "with no test" in found.caption


def test_choices_at_the_edge_and_within_noise_are_named_and_counted(sweep: Golden):
    table = study_table(
        rows=("model.variant",), columns=(), select={"optimizer.lr": Criterion("val_error", Better.lower)}
    )
    # Base: the larger rate by 0.5 points of 5,000 images, whose sampling error is 0.61. Strided: the middle one by far.
    for variant, errors in (("base", (10.0, 10.5, 20.0)), ("strided", (20.0, 10.0, 20.0))):
        for lr, error in zip((0.1, 0.05, 0.01), errors, strict=True):
            changes = {"model.variant": variant, "optimizer.lr": lr, "data.val_images": 5000}
            sweep.cell(changes, 10.0, val_error=error)
    found = choice_table(load_sweep("golden", [sweep.write()]), made(sweep, table), table)
    assert found is not None
    assert [line[-1] for line in texts(found)] == [
        "the largest tried; lead 0.5, below 0.61, its standard error from 5,000 examples each",
        "",
    ]
    assert "1 of 2 chosen values is the largest or smallest tried" in found.caption
    assert "1 of 2 chosen values has a lead within noise" in found.caption
    assert "as if each value was scored on examples of its own" in found.caption


def test_a_choice_on_test_images_is_said_in_the_caption(sweep: Golden):
    table = study_table(rows=(), columns=(), select={"optimizer.lr": Criterion("test_error", Better.lower)})
    for lr in (0.1, 0.05):
        sweep.cell({"optimizer.lr": lr}, 10.0 - lr)
    found = choice_table(load_sweep("golden", [sweep.write()]), made(sweep, table), table)
    assert found is not None
    assert "so the errors are too small" in found.caption
    assert texts(found)[0][1:3] == ["lr", "0.1"]


def test_a_sweep_without_choices_or_holes_has_no_table_of_them(sweep: Golden):
    add(sweep, "a", "base", 10.0)
    conditions = made(sweep, PAPERS)
    loaded = load_sweep("golden", [sweep.runs])
    assert choice_table(loaded, conditions, PAPERS) is None
    assert hole_table(loaded) is None


def test_every_cell_without_a_number_is_listed_with_its_cause(sweep: Golden):
    add(sweep, "a", "base", 10.0, None)
    sweep.cell({"seed": 7}, None, status="out_of_memory", cause="CUDA out of memory")
    sweep.cell({"seed": 8}, None, status="diverged")
    found = hole_table(load_sweep("golden", [sweep.write()]))
    assert found is not None
    assert [row[1:] for row in texts(found)] == [
        ["missing", ""],
        ["out of memory", "CUDA out of memory"],
        ["diverged", "all class outputs were zero on every training image of epoch 350 of 350"],
    ]
    assert found.caption.startswith("Of 4 cells: 1 missing, 1 out of memory, 1 diverged.")


def test_effects_and_levels_are_told_in_words():
    effects = Effects(
        effects=(
            Effect(
                source=("model.base",),
                df=2,
                f=12.345,
                p=0.0004,
                unequal=UnequalTest(9.126, 1.5, 3.004, 0.02),
                share=0.75,
            ),
            Effect(source=("model.base", "augment.kind"), df=2, f=1.0, p=0.4, unequal=None, share=0.1),
        ),
        levels=(
            Level(factor="model.base", value="a", mean=10.0, low=9.0, high=11.0, n=12),
            Level(factor="augment.kind", value="none", mean=12.0, low=11.5, high=12.5, n=18),
        ),
        residual_df=10,
        residual_sd=0.5,
        blocked=True,
        assumptions=Assumptions(variance_ratio=181.47, p_equal=0.0178, p_normal=0.0003),
    )
    assert texts(effect_table(effects, PAPERS)) == [
        ["base", "2", "12.35", "<0.001", "1.50", "3.00", "9.13", "0.020", "0.75"],
        ["base x augmentation", "2", "1.00", "0.400", "-", "-", "-", "-", "0.10"],
    ]
    caption = effect_table(effects, PAPERS).caption
    assert "with the seed as a block" in caption
    assert "variance over seeds is 181 times the smallest (Bartlett's test of equal spread: p = 0.018)" in caption
    assert "normal residuals: p < 0.001" in caption
    # That p assumes normal residuals, too.
    assert "read 'p, any spread'" in caption
    assert "the cells contradict these as well" in caption
    assert "which the cells contradict" in level_table(effects, PAPERS).caption
    even = replace(effects, assumptions=Assumptions(variance_ratio=2.0, p_equal=0.5, p_normal=0.01))
    assert "contradict the normal residuals" in effect_table(even, PAPERS).caption
    assert texts(level_table(effects, PAPERS)) == [
        ["base", "A", "12", "10.00", "9.00 to 11.00"],
        ["augmentation", "none", "18", "12.00", "11.50 to 12.50"],
    ]


@pytest.mark.parametrize(("p", "text"), [(None, "-"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0499, "0.050")])
def test_p_values_are_printed_as_papers_print_them(p: float | None, text: str):
    assert p_text(p) == text
