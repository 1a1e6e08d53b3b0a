"""Tables, figures and the page of an app that is no image classifier, made of its records and its plan alone."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign import COMMON, Foreign

from strive import app
from strive.cells.metrics import Better
from strive.cells.records import Status
from strive.errors import ConfigError
from strive.figures.effects import FIGURES
from strive.report.page import render_report
from strive.results.load import load_sweep
from strive.results.table_choice import declared_table
from strive.sweeps.plan import StoredPlan
from strive.sweeps.table_spec import value_of
from strive.tables.costs import cost_table
from strive.tables.render import footnotes_csv, latex, markdown, tidy_csv
from strive.tables.summary import SweepSummary, summarise_sweep

ROOT = Path(__file__).resolve().parents[2]
BY_BLEU = """
question: How many heads?
grid: {heads: [2, 4], lr: [0.1, 0.01], seed: [0, 1, 2]}
table:
  rows: [heads]
  columns: [lr]
  value: bleu
  baseline: {heads: 2}
  margin: 0.5
"""
BLEU = {(2, 0.1): 30.0, (4, 0.1): 33.0, (2, 0.01): 31.0, (4, 0.01): 34.0}
NOISE = (0.0, 0.25, -0.125)


@pytest.fixture
def sweep(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path / "runs")


def grid(sweep: Foreign, **more: Any) -> Foreign:
    """Two numbers of heads by two learning rates by three seeds; more heads have the larger BLEU, and a lower loss."""
    for (heads, lr), bleu in BLEU.items():
        for seed, noise in enumerate(NOISE):
            loss = 5 - bleu / 10 + noise / 10
            steps = [{"train_loss": loss + gap, "val_loss": loss + gap / 2, "lr": lr} for gap in (2.0, 1.0, 0.5)]
            metrics = {"val_loss": loss, "bleu": bleu + noise * heads * (1 + lr)}
            sweep.cell({"heads": heads, "lr": lr, "seed": seed}, metrics, history=steps, **more)
    return sweep


def summary(sweep: Foreign) -> SweepSummary:
    return summarise_sweep(load_sweep(sweep.file or sweep.name, [sweep.write()]))


def row(text: str, start: str) -> list[str]:
    """Return the cells of the first line of a Markdown table that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [each.strip(" *") for each in line.strip("|").split("|")]


def test_a_table_of_two_metrics_has_to_be_told_which(sweep: Foreign):
    with pytest.raises(ConfigError, match=r"which metric\? The records have val_loss, bleu; say --value"):
        summary(grid(sweep))
    loaded = load_sweep(sweep.name, [sweep.write()])
    made = summarise_sweep(loaded, value=value_of("val_loss"))
    assert (made.layout.value.name, made.layout.value.better) == ("val_loss", Better.lower)
    with pytest.raises(ConfigError, match=r"--value vall: no record has it; they have val_loss, bleu"):
        summarise_sweep(loaded, value=value_of("vall"))


def test_a_baseline_is_found_by_the_value_of_a_key_where_the_app_in_use_is_any_hydra_app(
    sweep: Foreign, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(app.APP, app.ANY_HYDRA_APP)
    sweep.file, sweep.text = "heads", BY_BLEU
    found = {each.key["heads"]: each.baseline for each in summary(grid(sweep)).conditions}
    assert found[2] == ""
    assert "heads 2" in found[4]


def test_the_metric_of_a_sweep_file_is_not_exchanged_on_the_command_line(sweep: Foreign):
    sweep.file, sweep.text = "heads", BY_BLEU
    loaded = load_sweep("heads", [grid(sweep).write()])
    with pytest.raises(ConfigError, match=r"--value val_loss: the sweep file heads says value: bleu"):
        summarise_sweep(loaded, value=value_of("val_loss"))


def test_the_only_metric_is_the_one_to_show(sweep: Foreign):
    for seed, loss in enumerate((1.25, 1.5)):
        sweep.cell({"heads": 2, "seed": seed}, {"val_loss": loss})
    made = summary(sweep)
    assert (made.layout.value.name, made.layout.value.better) == ("val_loss", Better.lower)
    assert row(markdown(made), "all cells")[1:4] == ["2", "1.375", "0.177"]


def test_the_best_on_one_data_set_is_not_called_better_than_what_saw_another(sweep: Foreign):
    for size, shift in ((10, 0.0), (20, 5.0)):
        for heads in (2, 4):
            for seed, spread in enumerate((0.0, 0.11, 0.2)):
                loss = heads + shift + spread * (1 + heads / 50)
                sweep.cell({"data.size": size, "heads": heads, "seed": seed}, {"val_loss": loss})
    assert summary(sweep).answer.endswith("shown to be better than every other with the same data.")


def test_a_returned_number_is_shown_without_a_judgement(sweep: Foreign):
    for heads in (2, 4):
        for seed in (0, 1):
            sweep.cell({"heads": heads, "seed": seed}, {"objective": heads + seed / 10})
    made = summary(sweep)
    assert made.answer == (
        "heads 2 has the smallest mean objective, 2.050; nobody says whether smaller or larger is better."
    )
    assert not any(condition.best for condition in made.conditions)


def test_a_metric_that_is_better_higher_is_judged_so(sweep: Foreign):
    sweep.file, sweep.text = "heads", BY_BLEU
    made = summary(grid(sweep))
    text = markdown(made)
    assert "counts as equal: shown not to be worse: heads 4, lr 0.1, heads 4, lr 0.01." in made.answer
    difference = next(table for table in made.tables if table.name == "differences")
    assert "own minus baseline, below 0 is worse" in difference.caption
    assert "shown to be above -0.5;" in difference.caption
    four = next(condition for condition in made.conditions if condition.key == {"heads": 4, "lr": 0.1})
    assert four.difference is not None
    assert four.difference.mean > 0
    assert {condition.key["heads"]: condition.best for condition in made.conditions if condition.key["lr"] == 0.01} == {
        2: False, 4: True,
    }  # fmt: skip
    # The noise has a mean of 1/24: 33 + 4.4 / 24.
    assert row(text, "heads 4, lr 0.1")[2] == "33.18"
    assert "test images" not in text
    assert "epochs" not in text


def test_a_loss_has_the_unit_that_the_sweep_file_gives_it_and_none_by_itself(sweep: Foreign):
    by_loss = BY_BLEU.replace("bleu", "val_loss")
    sweep.file, sweep.text = "heads", by_loss
    made = summary(grid(sweep))
    assert made.layout.value.title == "val loss"
    assert "nats" not in markdown(made) + latex(made)
    sweep.text = by_loss.replace("value: val_loss", "value: val_loss\n  unit: mK²")
    made = summary(grid(sweep))
    assert made.layout.value.title == "val loss, mK²"
    assert "mK²" in markdown(made)


def test_markdown_latex_and_csv_say_the_same(sweep: Foreign, tmp_path: Path):
    sweep.file, sweep.text = "heads", BY_BLEU
    made = summary(grid(sweep))
    assert "bleu" in latex(made)
    tidy = list(csv.DictReader(io.StringIO(tidy_csv(made))))
    assert [(line["value"], line["unit"], line["n"]) for line in tidy] == [("bleu", "", "3")] * 4
    assert float(tidy[0]["mean"]) == pytest.approx(30 + 2.2 * sum(NOISE) / 3)
    cells = list(csv.DictReader(io.StringIO(footnotes_csv(made, tmp_path))))
    assert len(cells) == 12
    assert cells[0]["bleu"] == "30"
    assert cells[0]["torch"] == "2.14.1"


def test_its_figures_and_its_page_show_what_was_logged(sweep: Foreign):
    sweep.file, sweep.text = "heads", BY_BLEU.replace("bleu", "val_loss")
    made = summary(grid(sweep))
    for name, draw in FIGURES.items():
        figures = draw(made)
        assert figures, name
    labels = [axes.get_ylabel() for axes in FIGURES["curves"](made)[0].axes]
    assert {"training\nloss", "validation\nloss"} <= set(labels)
    page = render_report([made], [], sweep.runs)
    assert "nats" not in page.partition("<script")[0]
    assert "heads 4, lr 0.1" in page
    assert "images" not in page.partition("<script")[0]


def test_one_logged_number_fills_one_half(sweep: Foreign):
    for heads in (2, 4):
        sweep.cell({"heads": heads, "seed": 0}, {"score_map": 0.5}, history=[{"reward": 0.1}, {"reward": 0.2}])
    (figure,) = FIGURES["curves"](summary(sweep))
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_xlabel()] == ["reward"]
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()] == ["step"]


def test_a_replicate_at_chance_is_dead_in_the_direction_of_its_metric(sweep: Foreign):
    sweep.cell({"heads": 2, "seed": 0}, {"test_acc": 0.1}, chance={"test_acc": 0.1})
    sweep.cell({"heads": 2, "seed": 1}, {"test_acc": 0.9}, chance={"test_acc": 0.1})
    made = summary(sweep)
    assert [condition.dead for condition in made.conditions] == [1]
    assert row(markdown(made), "all cells")[2].startswith("0.5000, 1 of 2 dead")
    assert any(
        "1 of 2 cells ended no better than chance, with a test acc not above the 0.1 of chance. It is" in note
        for note in made.notes
    )


def test_a_table_s_own_direction_says_what_is_dead(sweep: Foreign):
    sweep.file = "heads"
    sweep.text = "grid: {heads: [2, 4]}\ntable: {rows: [heads], columns: [], value: score, better: higher}\n"
    sweep.cell({"heads": 2, "seed": 0}, {"score": 1.0}, chance={"score": 2.0})
    sweep.cell({"heads": 4, "seed": 0}, {"score": 3.0}, chance={"score": 2.0})
    assert [condition.dead for condition in summary(sweep).conditions] == [1, 0]


def test_a_key_with_the_name_of_a_metric_or_of_a_column_keeps_both(sweep: Foreign):
    for device, status in (("a", 1), ("b", 2)):
        sweep.cell({"device": device, "loss": status, "seed": 0}, {"loss": 0.5 + status})
    loaded = load_sweep(sweep.name, [sweep.write()])
    assert loaded.factors == ["config:device", "config:loss", "seed"]
    assert list(loaded.cells["config:device"]) == ["a", "b"]
    assert list(loaded.cells["device"]) == ["some processor"] * 2
    assert list(loaded.cells["loss"]) == [1.5, 2.5]
    labels = [condition.label for condition in summarise_sweep(loaded).conditions]
    assert labels == ["device a", "device b"]


def test_another_key_may_make_the_replicates(sweep: Foreign):
    sweep.seed = "run.number"
    for number in range(3):
        sweep.cell({"heads": 2, "run.number": number}, {"val_loss": 1.0 + number})
    made = summary(sweep)
    assert made.layout.pair == ("run.number",)
    assert [condition.summary and condition.summary.n for condition in made.conditions] == [3]


def test_cells_of_different_data_are_not_averaged(sweep: Foreign):
    sweep.cell({"heads": 2, "seed": 0}, {"val_loss": 1.0})
    sweep.cell({"heads": 2, "seed": 1}, {"val_loss": 1.0}, data={"text": "0ther"})
    made = summary(sweep)
    assert [condition.hole for condition in made.conditions] == ["2 versions of the data"]
    assert "2 versions of the data: da7a (1 cell), 0ther (1 cell)" in made.problems


def test_failures_divergence_and_costs_are_told_without_metrics(sweep: Foreign):
    sweep.cell({"heads": 2, "seed": 0}, status=Status.error)
    cause = "the loss became nan in step 7"
    sweep.cell({"heads": 2, "seed": 1}, {"val_loss": None}, status=Status.diverged, cause=cause)
    sweep.cell({"heads": 2, "seed": 2})
    made = summary(sweep)
    assert made.conditions[0].hole == "0 of 3 done, 1 error, 1 diverged, 1 missing"
    holes = next(table for table in made.tables if table.name == "holes")
    assert [[entry.text for entry in line.entries[1:]] for line in holes.rows] == [
        ["error", "ValueError: no luck"], ["diverged", cause], ["missing", ""],
    ]  # fmt: skip
    costs = cost_table(made)
    assert costs is not None
    assert [column.title for column in costs.columns] == [
        "cells of",
        "device",
        "cells",
        "seconds a cell",
        "device hours",
    ]


def test_a_sweep_of_which_nothing_was_trained_has_a_table_of_holes(sweep: Foreign):
    sweep.cell({"heads": 2, "seed": 0})
    made = summary(sweep)
    assert made.answer == "No result yet: its 1 cell is not done."
    assert made.layout.value.name == "objective"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("value: blue", "table: blue: say better: lower or better: higher"),
        ("value: val_bleu", "table: value: no record has val_bleu; they have val_loss, bleu"),
        ("value: bleu, pair: [sed]", "table: pair: there is no knob sed; did you mean seed?"),
    ],
)
def test_a_table_that_cannot_be_made_says_what_to_do(sweep: Foreign, table: str, message: str):
    sweep.file = "heads"
    sweep.text = f"grid: {{heads: [2, 4]}}\ntable: {{rows: [heads], columns: [lr], {table}}}\n"
    loaded = load_sweep("heads", [grid(sweep).write()])
    with pytest.raises(ConfigError) as caught:
        declared_table(loaded)
    assert message in str(caught.value)


def test_records_and_plan_are_read_where_no_app_is_in_use(sweep: Foreign):
    sweep.file, sweep.text = "heads", BY_BLEU
    runs = grid(sweep).write()
    code = (
        "import sys\nfrom pathlib import Path\nfrom strive.results.load import load_sweep\n"
        "from strive.tables.render import markdown\nfrom strive.tables.summary import summarise_sweep\n"
        "from strive.status.cell_status import StatusReader\n"
        "runs = Path(sys.argv[1])\nprint(markdown(summarise_sweep(load_sweep('heads', [runs]))))\n"
    )
    environ = {key: value for key, value in os.environ.items() if key != "STRIVE_APP"} | {
        "PYTHONPATH": str(ROOT / "src")
    }
    done = subprocess.run([sys.executable, "-c", code, str(runs)], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "heads 4, lr 0.1" in done.stdout


def test_a_plan_stores_what_is_logistics(sweep: Foreign):
    sweep.cell({"heads": 2, "seed": 0})
    plan = StoredPlan.read(sweep.write() / "sweeps" / sweep.name)
    assert plan.science(plan.cells[0]) == COMMON | {"heads": 2, "seed": 0}
    assert not plan.decides("workers")


def test_cells_whose_groups_have_other_keys_are_one_sweep(sweep: Foreign):
    sweep.start = {"script": "train.py"}
    for seed in (0, 1):
        sweep.cell({"model": "forest", "model.trees": 100, "seed": seed}, {"accuracy": 0.9 + seed / 100})
        sweep.cell({"model": "logistic", "model.c": 1.0, "seed": seed}, {"accuracy": 0.95 + seed / 100})
    made = summary(sweep)
    assert made.loaded.warnings == []
    assert [condition.label for condition in made.conditions] == ["model forest", "model logistic"]
    assert [condition.summary and condition.summary.n for condition in made.conditions] == [2, 2]


def test_a_class_of_a_group_is_called_by_its_last_name_and_classes_of_one_name_by_their_whole(sweep: Foreign):
    for target in ("a.nets.Small", "a.nets.Large"):
        for other in ("a.Adam", "b.Adam"):
            for seed, loss in enumerate((1.0, 1.5)):
                factors = {"model._target_": target, "optimizer._target_": other, "seed": seed}
                sweep.cell(factors, {"val_loss": loss})
    made = summary(sweep)
    assert {condition.label for condition in made.conditions} == {
        f"{net}, optimizer._target_ {module}.Adam" for net in ("Small", "Large") for module in ("a", "b")
    }
    assert "a.nets" not in markdown(made)
