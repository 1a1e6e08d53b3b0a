import json
import math
from pathlib import Path
from typing import Any

import pytest
from golden import Golden, MakeGolden
from handmade import epochs, summary_of

from allcnn.labels import labels
from strive.figures.histories import histories_of, scale_of
from strive.sweeps.table_spec import value_of


def nets(sweep: Golden, rates: list[float]) -> Golden:
    for base in "ab":
        for rate in rates:
            sweep.cell({"model.base": base, "optimizer.lr": rate, "seed": 0}, 10.0, epochs=epochs(0.5))
    return sweep


def panels(sweep: Golden, **layout: Any) -> list[tuple[str, str]]:
    return [
        (labels().short(history.panel), labels().short(history.line))
        for history in histories_of(summary_of(sweep, **layout))
    ]


def test_the_first_row_key_names_the_panel_and_the_others_the_line(golden: MakeGolden):
    found = panels(nets(golden(), [0.1, 0.05]), rows=("model.base",), columns=("optimizer.lr",))
    assert found == [("A", "0.1"), ("A", "0.05"), ("B", "0.1"), ("B", "0.05")]


def test_conditions_that_one_key_names_share_a_panel(golden: MakeGolden):
    assert panels(nets(golden(), [0.1]), rows=("model.base",)) == [("", "A"), ("", "B")]


def test_nine_lines_are_too_many_for_a_panel(golden: MakeGolden):
    rates = [0.1 + number / 100 for number in range(9)]
    found = panels(nets(golden(), rates), rows=("model.base",), columns=("optimizer.lr",))
    assert len({panel for panel, _ in found}) == 18
    assert {line for _, line in found} == {""}


def test_a_missing_cell_has_no_curve_wherever_the_command_is_started(
    golden: MakeGolden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.5))
    sweep.cell({"seed": 1})
    monkeypatch.chdir(tmp_path)
    Path("history.jsonl").write_text(json.dumps(epochs(0.25)[0]) + "\n")
    (history,) = histories_of(summary_of(sweep))
    assert [curve["train_error"].tolist() for curve in history.curves] == [[0.5]]
    assert history.hole == "1 of 2 done, 1 missing"
    assert history.mean("train_error") == {}


def test_a_record_without_its_epochs_is_a_hole_in_the_curves_alone(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.5))
    sweep.cell({"seed": 1}, 12.0)
    (history,) = histories_of(summary_of(sweep))
    assert history.condition.hole == ""
    assert history.hole == "1 of 2 without a whole curve"


def test_what_diverged_does_not_flatten_the_others(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.5, 0.4))
    wild = epochs(0.5, None)
    wild[0]["train_loss"] = 1e30
    sweep.cell({"seed": 1}, 90.0, status="diverged", epochs=wild)
    summary = summary_of(sweep)
    histories = histories_of(summary)
    assert histories[0].cut == [False, True]
    # Losses of 0.8 and 1: a twentieth of the range to either side.
    assert scale_of(summary, histories).limits["train_loss"] == pytest.approx((0.79, 1.01))


def test_a_loss_that_falls_to_a_tenth_is_logarithmic(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.6, 0.05))
    summary = summary_of(sweep)
    low, high = scale_of(summary, histories_of(summary)).limits["train_loss"]
    assert math.isclose(low, 0.1 / 1.2)
    assert math.isclose(high, 1.2 * 1.2)
    assert scale_of(summary, histories_of(summary)).limits["train_error"][0] == 0


@pytest.mark.parametrize(
    ("held_out", "value", "columns"),
    [
        (True, "test_error", ("train_error", "val_error")),
        (True, "test_loss", ("train_loss", "val_loss")),
        (False, "test_error", ("train_loss", "train_error")),
        (False, "test_loss", ("train_loss", "train_error")),
    ],
)
def test_validation_is_shown_where_images_were_held_out(
    golden: MakeGolden, held_out: bool, value: str, columns: tuple[str, str]
):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.5, val_errors=(0.6,) if held_out else ()))
    summary = summary_of(sweep, value=value_of(value))
    scale = scale_of(summary, histories_of(summary))
    assert scale.columns == columns
    if held_out:
        assert scale.limits[columns[0]] == scale.limits[columns[1]]


def drops(sweep: Golden, *schedules: list[str], **more: str) -> list[float]:
    for seed, schedule in enumerate(schedules):
        changes = {"seed": seed, "optimizer.drop_at": schedule, "budget.epochs": 5}
        changes |= {f"optimizer.{name}": value for name, value in more.items()}
        sweep.cell(changes, 10.0, epochs=epochs(*[0.5] * 5))
    summary = summary_of(sweep)
    return list(scale_of(summary, histories_of(summary)).drops)


def test_the_learning_rate_falls_within_an_epoch_where_its_schedule_says_so(golden: MakeGolden):
    # The paper's 200, 250 and 300 of 350 epochs, in 5.
    assert drops(golden(), ["4/7", "5/7", "6/7"]) == pytest.approx([20 / 7, 25 / 7, 30 / 7])


def test_no_fall_is_shown_of_another_schedule(golden: MakeGolden):
    assert drops(golden(), ["4/7", "5/7", "6/7"], schedule="cosine") == []


def test_no_fall_is_shown_where_cells_differ_in_it(golden: MakeGolden):
    assert drops(golden(), ["4/7"], ["5/7"]) == []


def test_a_rate_that_falls_again_and_again_has_no_steps(golden: MakeGolden):
    assert drops(golden(), [f"{number}/10" for number in range(1, 9)]) == []
