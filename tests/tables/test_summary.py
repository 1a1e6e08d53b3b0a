from pathlib import Path

import pytest
from golden import Golden

from strive.results.load import load_sweep
from strive.sweeps.plan import plan_name
from strive.tables.summary import SweepSummary, summarise_sweep


def summary_of(sweep: Golden, *, mix: bool = False) -> SweepSummary:
    return summarise_sweep(load_sweep(sweep.name or sweep.file, [sweep.write()]), mix=mix)


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    """A multirun without a sweep file."""
    return Golden(tmp_path / "runs", file="", name=plan_name([], ""), question="")


def full(sweep: Golden) -> None:
    """Two bases, two variants, three seeds: a complete factorial sweep."""
    for base, first in (("a", 12.0), ("b", 10.0)):
        for variant, more in (("base", 0.0), ("strided", 1.0)):
            for seed, noise in enumerate((0.0, 0.3, -0.1)):
                wobble = 0.05 * seed * (base == "b") + 0.02 * seed * (variant == "base")
                changes = {"model.base": base, "model.variant": variant, "seed": seed}
                sweep.cell(changes, round(first + more + noise + wobble, 2))


def names(summary: SweepSummary) -> list[str]:
    return [table.name for table in summary.tables]


def test_a_complete_factorial_sweep_has_errors_differences_and_effects(sweep: Golden):
    full(sweep)
    summary = summary_of(sweep)
    assert names(summary) == ["overview", "errors", "differences", "effects", "levels"]
    assert summary.effects is not None
    assert summary.problems == ()


def test_one_hole_takes_the_effects_and_is_told_in_three_places(sweep: Golden):
    full(sweep)
    sweep.cell({"model.base": "b", "model.variant": "strided", "seed": 3}, None)
    summary = summary_of(sweep)
    assert names(summary) == ["overview", "errors", "differences", "holes"]
    assert summary.problems == ("Strided-CNN-B: 3 of 4 done, 1 missing",)
    assert "No analysis of variance: it needs every cell of the sweep." in summary.notes
    assert summary.answer.endswith("1 place of the table has no mean: not every cell there has a number.")


def test_every_condition_leads_to_its_cells_with_record_code_images_and_device(sweep: Golden):
    full(sweep)
    summary = summary_of(sweep)
    behind = summary.footnotes[summary.footnotes["ref"] == "2"]
    assert list(behind["place"].unique()) == ["Strided-CNN-A"]
    assert list(behind["seed"]) == [0, 1, 2]
    assert list(behind["test_error"]) == [0.13, 0.133, 0.129]
    for cell, record in zip(behind["cell"], behind["record"], strict=True):
        assert Path(record) == sweep.runs / cell / "record.json"
        assert Path(record).is_file()
    assert set(behind["code_hash"]) == {"c0de000000"}
    assert set(behind["device"]) == {"some processor"}
    assert len(summary.footnotes) == 12


def test_the_tidy_frame_has_full_precision_and_empty_places_for_what_is_not_known(sweep: Golden):
    for seed, error in enumerate((10.0, 10.01, 10.03)):
        sweep.cell({"model.variant": "base", "seed": seed}, error)
    sweep.cell({"model.variant": "strided"}, None)
    base, strided = summary_of(sweep).tidy.to_dict("records")
    # (10 + 10.01 + 10.03) / 3
    assert base["mean"] == pytest.approx(10.013333333333, abs=1e-11)
    assert (base["n"], base["unit"], base["model.variant"], base["hole"]) == (3, "percent", "base", "")
    assert (strided["n"], strided["hole"]) == (0, "missing")
    assert strided["mean"] != strided["mean"]


def test_cells_of_two_versions_of_the_code_are_a_problem_unless_mixed(sweep: Golden):
    for seed, code in enumerate(("c0de", "c0de", "0ther")):
        sweep.cell({"seed": seed}, 10.0 + seed, code_hash=code)
    summary = summary_of(sweep)
    assert summary.problems == (
        "all cells: 2 versions of the code",
        "the cells were trained by 2 versions of the code: c0de (2 cells), 0ther (1 cell)",
    )
    mixed = summary_of(sweep, mix=True)
    assert mixed.conditions[0].summary is not None
    assert any("2 versions of the code" in note for note in mixed.notes)


def test_a_set_up_that_is_not_the_paper_s_is_said_with_the_paper_s_value(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="table3")
    sweep.cell({"model.width": 0.125}, 30.0)
    (note,) = [note for note in summary_of(sweep).notes if "paper's set-up" in note]
    assert "model.width=0.125 (the paper: 1)" in note


def test_the_title_says_what_the_command_line_changed(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="table3", name="table3-1a2b3c4d", changes=["seed=0,1"])
    sweep.cell({}, 10.0)
    assert summary_of(sweep).title == "table3 with seed=0,1"


def test_the_caption_says_the_sampling_error_of_a_single_value(sweep: Golden):
    for seed in (0, 1):
        sweep.cell({"seed": seed}, 25.0, correct=[True] * 300 + [False] * 100)
    # sqrt(0.25 x 0.75 / 400) = 0.02165
    assert "same 400 test images. What other test images would change" in summary_of(sweep).tables[0].caption


def test_the_caption_says_images_epochs_cells_device_and_days(sweep: Golden):
    sweep.cell({"seed": 0}, 10.0)
    sweep.cell({"seed": 1}, 10.0, finished="2026-11-22T00:00:00+00:00")
    sweep.cell({"seed": 2}, None)
    table = summary_of(sweep).tables[0]
    assert table.caption == "cifar10, test images, 350 epochs."
    assert table.aside.startswith("2 of 3 cells done. Trained on some processor, 2026-11-20 to")
