import math

import pytest
from golden import Golden
from handmade import epochs, summary_of

from strive.report.curves import learning_curves
from strive.report.plots import WebFigure, effect_plot, mean_plot, paper_plot, plain, series_of, style

BASELINE = {"model.variant": "base"}


@pytest.fixture
def pairs(tmp_path) -> Golden:
    """ALL-CNN-C and its baseline: differences of 1, 2 and 3 points."""
    sweep = Golden(tmp_path / "runs")
    for seed in range(3):
        base, own = ({"model.variant": variant, "seed": seed, "budget.epochs": 2} for variant in ("base", "all_cnn"))
        sweep.cell(base, 10.0, epochs=epochs(0.5, 0.25))
        sweep.cell(own, 11.0 + seed, epochs=epochs(0.3 + 0.1 * seed, 0.15))
    return sweep


def traces(figure: WebFigure | None) -> list[dict]:
    assert figure is not None
    return [trace for panel in figure.panels for trace in panel.traces]


def test_every_figure_is_one_that_plotly_takes(pairs: Golden):
    # Slow to import, so that the page itself does without it.
    from plotly import graph_objects

    summary = summary_of(pairs, baseline=BASELINE, paper="table3")
    for draw in (effect_plot, mean_plot, paper_plot, learning_curves):
        figure = draw(summary)
        assert figure is not None
        for panel in figure.panels:
            graph_objects.Figure({"data": panel.traces, "layout": figure.layout})


def test_a_difference_stands_at_its_mean_with_its_interval(pairs: Golden):
    # Mean 2 and sd 1 over 3 pairs; t(0.975, 2) = 4.30265 (any table of Student's t).
    half = 4.30265 / math.sqrt(3)
    figure = effect_plot(summary_of(pairs, baseline=BASELINE))
    (trace,) = traces(figure)
    assert trace["x"] == [2.0]
    assert trace["error_x"]["array"] == [pytest.approx(half, abs=1e-4)]
    assert trace["error_x"]["arrayminus"] == [pytest.approx(half, abs=1e-4)]
    assert trace["meta"]["factors"] == {"model.variant": "ALL-CNN"}


def test_the_band_is_the_margin_on_the_side_of_a_loss(pairs: Golden):
    figure = effect_plot(summary_of(pairs, baseline=BASELINE, margin=0.75))
    assert figure is not None
    (band,) = [shape for shape in figure.layout["shapes"] if shape["name"] == "margin"]
    assert (band["x0"], band["x1"]) == (0, 0.75)


def test_a_condition_without_a_difference_is_named_and_not_drawn(pairs: Golden):
    pairs.cell({"model.variant": "strided", "seed": 0, "budget.epochs": 2}, status="killed", cause="killed")
    figure = effect_plot(summary_of(pairs, baseline=BASELINE))
    assert len(traces(figure)) == 1
    assert figure is not None
    assert "Not shown: variant Strided (killed)." in figure.caption


def test_a_table_without_baseline_has_no_differences_but_means(pairs: Golden):
    summary = summary_of(pairs)
    assert effect_plot(summary) is None
    means = {trace["meta"]["factors"]["model.variant"]: trace["x"] for trace in traces(mean_plot(summary))}
    # The mean first, then the cells.
    assert means == {"base": [10.0, 10.0, 10.0, 10.0], "ALL-CNN": [12.0, 11.0, 12.0, 13.0]}


def test_one_seed_has_a_value_without_an_interval(tmp_path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({"model.variant": "base"}, 10.0, epochs=epochs(0.5))
    sweep.cell({"model.variant": "all_cnn"}, 11.0)
    figure = mean_plot(summary_of(sweep))
    for trace in traces(figure):
        assert trace["error_x"] == {"visible": False}
        assert len(trace["x"]) == 1
    curves = learning_curves(summary_of(sweep))
    assert figure is not None
    assert curves is not None
    assert "Mean" not in figure.caption
    assert "mean" not in curves.caption


def test_ours_stands_over_the_papers_number(pairs: Golden):
    figure = paper_plot(summary_of(pairs, paper="table3"))
    # Table 3: Model C 9.74, ALL-CNN-C 9.08.
    assert [(trace["x"], trace["y"]) for trace in traces(figure)] == [([9.74], [10.0]), ([9.08], [12.0])]


def test_without_the_papers_numbers_there_is_no_plot_of_them(pairs: Golden):
    assert paper_plot(summary_of(pairs)) is None


def test_the_line_of_equal_errors_is_left_out_where_it_is_out_of_sight(tmp_path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({"model.variant": "base"}, 60.0)
    sweep.cell({"model.variant": "all_cnn"}, 70.0)
    figure = paper_plot(summary_of(sweep, paper="table3"))
    assert figure is not None
    assert figure.layout["shapes"] == []
    assert "lies outside" in figure.caption


def test_the_thick_curve_is_the_mean_of_the_thin_ones(pairs: Golden):
    found = traces(learning_curves(summary_of(pairs)))
    assert [trace["line"]["width"] for trace in found] == [1, 1, 1, 2.5] * 2
    thick = [(trace["name"], trace["y"]) for trace in found if trace["line"]["width"] == 2.5]
    # Of 30, 40 and 50 percent the mean is 40.
    assert thick == [("variant base, mean", [50.0, 25.0]), ("variant ALL-CNN, mean", [40.0, 15.0])]
    assert found[0]["name"] == "variant base, seed 0"
    assert found[0]["x"] == [1, 2]


def test_a_condition_with_a_hole_has_curves_and_no_mean(pairs: Golden):
    pairs.cell({"model.variant": "base", "seed": 3, "budget.epochs": 2}, status="killed", epochs=epochs(0.6))
    found = traces(learning_curves(summary_of(pairs)))
    names = [trace["name"] for trace in found if trace["meta"]["factors"]["model.variant"] == "base"]
    assert names == [f"variant base, seed {seed}" for seed in range(3)] + ["variant base, seed 3 (killed)"]


def test_a_cell_without_a_curve_leaves_its_condition_without_a_mean(pairs: Golden):
    pairs.cell({"model.variant": "base", "seed": 3, "budget.epochs": 2}, 10.0)
    assert "variant base, mean" not in [trace["name"] for trace in traces(learning_curves(summary_of(pairs)))]


def test_of_a_long_curve_first_and_last_epoch_stay(tmp_path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({"budget.epochs": 350}, 10.0, epochs=epochs(*(1 / epoch for epoch in range(1, 351))))
    figure = learning_curves(summary_of(sweep))
    (trace,) = traces(figure)
    assert figure is not None
    assert "every 5 epochs" in figure.caption
    assert trace["x"] == [1, *range(5, 351, 5)]
    assert trace["y"] == [round(100 / epoch, 2) for epoch in trace["x"]]


def test_a_line_that_was_cut_off_is_left_out(pairs: Golden):
    cell = {"model.variant": "strided", "seed": 0, "budget.epochs": 2}
    # Of a cell that is done, the record would contradict it.
    folder = pairs.cell(cell, status="killed", epochs=epochs(0.5, 0.25))
    with (folder / "history.jsonl").open("r+") as file:
        file.truncate(len(file.read()) - 20)
    (found,) = [
        trace
        for trace in traces(learning_curves(summary_of(pairs)))
        if trace["meta"]["factors"]["model.variant"] == "Strided"
    ]
    assert (found["x"], found["y"]) == ([1], [50.0])


def test_a_line_of_another_epoch_is_not_taken_for_it(tmp_path):
    sweep = Golden(tmp_path / "runs")
    lines = epochs(0.5, 0.25, 0.125)
    sweep.cell({"budget.epochs": 3}, status="killed", epochs=[lines[0], lines[2], lines[2]])
    (found,) = traces(learning_curves(summary_of(sweep)))
    assert (found["x"], found["y"]) == ([1, 3], [50.0, 12.5])


def test_a_sweep_without_curves_has_no_figure_of_them(tmp_path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({}, 10.0)
    assert learning_curves(summary_of(sweep)) is None


def test_rows_are_panels_and_columns_are_lines(tmp_path):
    sweep = Golden(tmp_path / "runs")
    for base in "ab":
        for variant in ("base", "strided"):
            sweep.cell({"model.base": base, "model.variant": variant}, 10.0, epochs=epochs(0.5))
    figure = learning_curves(summary_of(sweep, rows=("model.base",), columns=("model.variant",)))
    assert figure is not None
    assert [panel.title for panel in figure.panels] == ["base A", "base B"]
    assert [(key.group, key.text) for key in figure.legend] == [("variant", "base"), ("variant", "Strided")]
    # One colour for each variant, the same in both panels.
    assert [trace["meta"]["colour"] for trace in traces(figure)] == [0, 1, 0, 1]


def test_more_lines_than_one_plot_can_tell_apart_get_a_panel_each(tmp_path):
    sweep = Golden(tmp_path / "runs")
    for number in range(9):
        sweep.cell({"optimizer.lr": 0.01 * (1 + number)}, 10.0)
    panels, lines = series_of(summary_of(sweep, rows=("optimizer.lr",)))
    assert len(set(panels.values())) == 9
    assert set(lines.values()) == {("", "")}


def test_the_first_32_lines_all_differ():
    assert len({style(number) for number in range(32)}) == 32


def test_tags_entities_and_dollars_of_a_label_mean_nothing_to_plotly():
    assert plain("<b>a</b> &lt; $b$") == "&lt;b&gt;a&lt;/b&gt; &amp;lt; &#36;b&#36;"


def test_the_curve_of_a_cell_whose_record_contradicts_it_is_not_drawn(tmp_path):
    sweep = Golden(tmp_path / "runs")
    folder = sweep.cell({"budget.epochs": 2}, 10.0, epochs=epochs(0.5, 0.25))
    (folder / "history.jsonl").write_text((folder / "history.jsonl").read_text().splitlines(keepends=True)[0])
    assert learning_curves(summary_of(sweep)) is None
