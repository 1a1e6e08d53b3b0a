from dataclasses import replace

import pytest
from golden import Golden, MakeGolden
from handmade import drawn, epochs, summary_of, texts

from strive.figures.curves import learning_curves
from strive.figures.style import COLUMN, PAGE

THIN, SINGLE, THICK = 0.6, 1.2, 1.9
ALONE = replace(PAGE, titles=True)


def table3(sweep: Golden, seeds: int = 2) -> Golden:
    for base in "ab":
        for variant in ("base", "all_cnn"):
            for seed in range(seeds):
                changes = {"model.base": base, "model.variant": variant, "seed": seed}
                sweep.cell(changes, 10.0, epochs=epochs(0.8, 0.4 + 0.1 * seed))
    return sweep


def test_every_seed_is_thin_and_their_mean_is_thick(golden: MakeGolden):
    (figure,) = learning_curves(summary_of(table3(golden()), rows=("model.base",), columns=("model.variant",)))
    # Loss and error of four conditions, two seeds each; errors in percent: 40 and 50, mean 45.
    assert len(drawn(figure, width=THIN)) == 16
    means = drawn(figure, width=THICK)
    assert len(means) == 8
    assert [mean for mean in means if mean == [(1, pytest.approx(80)), (2, pytest.approx(45))]] == means[2:4] + means[
        6:8
    ]


def test_a_reader_learns_panel_line_axis_unit_and_n(golden: MakeGolden):
    sweep = table3(golden(question="Is pooling needed?"))
    (figure,) = learning_curves(summary_of(sweep, rows=("model.base",), columns=("model.variant",)), ALONE)
    found = texts(figure)
    assert {"base A", "base B", "variant", "base", "ALL-CNN", "epoch", "Is pooling needed?"} <= set(found)
    assert {"training\nloss, nats", "training\nerror, %"} <= set(found)
    assert found.count("n = 2") == 2
    assert "cifar10, 2 epochs" in found
    assert any(text.startswith("Thin: one seed, n of them. Thick: their mean.") for text in found)


def test_a_condition_with_a_hole_has_no_mean_and_the_panel_says_why(golden: MakeGolden):
    sweep = table3(golden())
    sweep.cell({"model.base": "a", "model.variant": "base", "seed": 2}, None)
    (figure,) = learning_curves(summary_of(sweep, rows=("model.base",), columns=("model.variant",)))
    assert len(drawn(figure, width=THIN)) == 16
    assert len(drawn(figure, width=THICK)) == 6
    assert " ".join(texts(figure)).count("base: no mean, 2 of 3 done, 1 missing") == 1
    assert "No mean where a cell is missing, failed or diverged." in " ".join(texts(figure))


def test_a_cell_that_diverged_or_failed_ends_in_a_cross(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.8, 0.6, 0.5))
    sweep.cell({"seed": 1}, 90.0, status="diverged", epochs=epochs(0.7, None))
    sweep.cell({"seed": 2}, status="killed", epochs=epochs(0.6))
    (figure,) = learning_curves(summary_of(sweep))
    # Loss, then error: a loss that is not finite has no place, and 90% is beyond what the others need.
    (high,) = {axes.get_ylim()[1] for axes in figure.axes if "error, %" in axes.get_ylabel()}
    crosses = [point for points in drawn(figure, marker="x") for point in points]
    assert crosses == [
        (1, pytest.approx(1.4)),
        (1, pytest.approx(1.2)),
        (2, pytest.approx(high)),
        (1, pytest.approx(60)),
    ]
    assert "it diverged or failed there" in " ".join(texts(figure))


def test_one_seed_is_called_one_seed_and_not_a_mean(golden: MakeGolden):
    (figure,) = learning_curves(summary_of(table3(golden(), seeds=1), rows=("model.base",), columns=("model.variant",)))
    assert len(drawn(figure, width=SINGLE)) == 8
    assert drawn(figure, width=THICK) == []
    assert any(text.startswith("Each line is one seed (n = 1).") for text in texts(figure))


def test_the_only_seed_that_is_done_so_far_is_as_thin_as_any(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.5, 0.4))
    sweep.cell({"seed": 1})
    (figure,) = learning_curves(summary_of(sweep))
    assert len(drawn(figure, width=THIN)) == 2
    assert drawn(figure, width=SINGLE) + drawn(figure, width=THICK) == []
    assert any(text.startswith("Thin: one seed") for text in texts(figure))


def test_validation_is_drawn_where_it_was_held_out_on_the_scale_of_training(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.8, 0.2, val_errors=(0.75, 0.5)))
    (figure,) = learning_curves(summary_of(sweep))
    assert {"training\nerror, %", "validation\nerror, %"} <= set(texts(figure))
    assert drawn(figure, width=SINGLE) == [[(1, 80), (2, 20)], [(1, 75), (2, 50)]]
    limits = {axes.get_ylim() for axes in figure.axes if axes.get_ylabel()}
    assert len(limits) == 1


def test_no_cell_with_epochs_is_no_figure(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0)
    assert learning_curves(summary_of(sweep)) == []


def test_a_single_epoch_is_a_point(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 10.0, epochs=epochs(0.5))
    (figure,) = learning_curves(summary_of(sweep))
    assert drawn(figure, marker="o") == [[(1, 1.0)], [(1, 50)]]


def test_thirteen_panels_take_two_pages_and_each_shows_its_baseline(golden: MakeGolden):
    sweep = golden(file="arms")
    for number in range(13):
        changes = {"model.width": round(0.5 + number / 100, 2), "seed": 0}
        sweep.cell(changes, 10.0, arm=f"arm {number}", epochs=epochs(0.8, 0.3 + number / 100))
    summary = summary_of(sweep, rows=("arm",), baseline={"arm": "arm 0"})
    first, second = learning_curves(summary, ALONE)
    assert "arms: learning curves (1 of 2)" in texts(first)
    assert "arms: learning curves (2 of 2)" in texts(second)
    # The baseline of six on the first page, of which it is the seventh, and of six on the second.
    for page in (first, second):
        assert drawn(page, width=0.9).count([(1, 80), (2, 30)]) == 6
        assert "mean of its baseline" in texts(page)


def test_in_one_column_the_last_number_is_shown_in_at_most_two_panels_beside_each_other(golden: MakeGolden):
    (figure,) = learning_curves(summary_of(table3(golden()), rows=("model.base",), columns=("model.variant",)), COLUMN)
    assert figure.get_figwidth() == 3.3
    assert "training\nerror, %" in texts(figure)
    assert "training\nloss, nats" not in texts(figure)
