import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace

import pytest
from golden import Golden, MakeGolden
from handmade import drawn, epochs, summary_of, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from allcnn.labels import labels
from strive.figures.effects import FIGURES, effect_plot, seeds_plot
from strive.figures.style import COLUMN, DPI, FORMATS, PAGE, FigureForm, to_bytes
from strive.statistics.inference import Verdict
from strive.sweeps.table_spec import value_of

KINDS = [kind for kind in FIGURES if kind != "matrix"]
ALONE = replace(PAGE, titles=True)
NASTY = "$\\frac{a}{b$ x_1 <script>alert(1)</script> & 100% [x]"


def pairs(sweep: Golden, differences: dict[str, list[float]]) -> Golden:
    """Each net's error minus that of the base net, seed by seed; the base net has 10, 11, 12, ..."""
    for seed in range(max(map(len, differences.values()))):
        sweep.cell({"model.variant": "base", "seed": seed}, 10.0 + seed)
    for variant, values in differences.items():
        for seed, value in enumerate(values):
            sweep.cell({"model.variant": variant, "seed": seed}, round(10.0 + seed + value, 6))
    return sweep


def xs(figure: Figure, marker: str) -> list[float]:
    return [x for points in drawn(figure, marker=marker) for x, _ in points]


def vertical(figure: Figure) -> list[float]:
    """Where lines from bottom to top stand."""
    return [points[0][0] for points in drawn(figure, marker="None") if len({x for x, _ in points}) == 1]


def test_a_difference_stands_at_its_mean_with_its_interval(golden: MakeGolden):
    (figure,) = effect_plot(
        summary_of(pairs(golden(), {"strided": [1, 2, 3]}), baseline={"model.variant": "base"}, margin=0.5)
    )
    # Mean 2, sample sd 1, n = 3: t(0.975, 2) = 4.302653, so 2 -+ 4.302653 / sqrt(3).
    half = 4.302653 / math.sqrt(3)
    assert xs(figure, "D") == [pytest.approx(2)]
    (whisker,) = drawn(figure, marker="|")
    assert [x for x, _ in whisker] == pytest.approx([2 - half, 2 + half], abs=1e-5)
    assert {"+2.00", "\N{MINUS SIGN}0.48 to +4.48", "3"} <= set(texts(figure))
    assert "Against variant base: 11.00%, n = 3" in texts(figure)


def test_zero_and_the_margin_are_lines_and_the_margin_has_its_number(golden: MakeGolden):
    sweep = pairs(golden(), {"strided": [1, 2, 3]})
    (figure,) = effect_plot(summary_of(sweep, baseline={"model.variant": "base"}, margin=0.25))
    assert vertical(figure) == [0, 0.25]
    assert "margin 0.25" in texts(figure)


def test_each_verdict_has_a_shape_and_words_of_its_own(golden: MakeGolden):
    differences = {
        "strided": [3.0, 3.1, 2.9, 3.0, 3.05],
        "convpool": [-3.0, -3.1, -2.9, -3.0, -3.05],
        "all_cnn": [-4.0, 5.0, 0.0, 2.0, -3.0],
    }
    (figure,) = effect_plot(summary_of(pairs(golden(), differences), baseline={"model.variant": "base"}, margin=0.5))
    assert xs(figure, "s") == [pytest.approx(3.01)]
    assert xs(figure, "o") == [pytest.approx(-3.01)]
    assert xs(figure, "D") == [pytest.approx(0.0, abs=1e-9)]
    assert [text for text in texts(figure) if text in list(Verdict)] == [
        "worse",
        "not worse",
        "undecided",
    ]


def test_one_seed_has_a_mark_and_no_interval(golden: MakeGolden):
    (figure,) = effect_plot(
        summary_of(pairs(golden(), {"strided": [2]}), baseline={"model.variant": "base"}, margin=0.5)
    )
    assert xs(figure, "D") == [pytest.approx(2)]
    assert drawn(figure, marker="|") == []
    assert "\N{EN DASH}" in texts(figure)


def test_a_difference_that_cannot_be_taken_is_a_line_that_says_why(golden: MakeGolden):
    sweep = pairs(golden(), {"strided": [1, 2, 3], "all_cnn": [1, 2, 3]})
    sweep.cell({"model.variant": "all_cnn", "seed": 3}, None)
    (figure,) = effect_plot(summary_of(sweep, baseline={"model.variant": "base"}, margin=0.5))
    assert len(xs(figure, "D")) == 1
    assert {"variant ALL-CNN", "3 of 4 done, 1 missing"} <= set(texts(figure))


def test_without_a_baseline_the_means_stand_with_their_intervals(golden: MakeGolden):
    (figure,) = effect_plot(summary_of(pairs(golden(), {"strided": [1, 2, 3]})))
    # 10, 11, 12 and 11, 13, 15.
    assert xs(figure, "o") == [pytest.approx(11), pytest.approx(13)]
    assert vertical(figure) == []
    assert {"11.00", "8.52 to 13.48", "mean", "95% interval", "n", "test error, %"} <= set(texts(figure))


def test_a_condition_without_a_mean_is_a_line_that_says_why(golden: MakeGolden):
    sweep = pairs(golden(), {"strided": [1, 2, 3]})
    sweep.cell({"model.variant": "all_cnn", "seed": 0}, 9.0)
    sweep.cell({"model.variant": "all_cnn", "seed": 1}, 90.0, status="diverged")
    (figure,) = effect_plot(summary_of(sweep))
    assert xs(figure, "o") == [pytest.approx(11), pytest.approx(13)]
    assert {"variant ALL-CNN", "1 of 2 done, 1 diverged"} <= set(texts(figure))


def test_a_loss_is_in_nats_not_in_percent_and_points(golden: MakeGolden):
    sweep = pairs(golden(), {"strided": [1, 2, 3]})
    (figure,) = effect_plot(
        summary_of(sweep, baseline={"model.variant": "base"}, value=value_of("test_loss", labels=labels()))
    )
    found = " ".join(texts(figure))
    assert "difference in test loss, nats" in found
    assert "nats, n = 3" in found
    assert "points" not in found


def test_every_seed_is_a_mark_and_their_mean_a_bar(golden: MakeGolden):
    sweep = golden()
    for seed, error in enumerate((9.0, 9.5, 11.5)):
        sweep.cell({"seed": seed}, error)
    (figure,) = seeds_plot(summary_of(sweep))
    assert xs(figure, "o") == [9.0, 9.5, 11.5]
    assert xs(figure, "|") == [10.0]
    # The sample sd of 9, 9.5, 11.5 is sqrt((1 + 0.25 + 2.25) / 2).
    assert {"10.00", "1.32", "3", "one seed", "their mean"} <= set(texts(figure))
    heights = [y for points in drawn(figure, marker="o") for _, y in points]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 3


def test_one_seed_has_no_mean_bar_and_no_spread(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 9.0)
    (figure,) = seeds_plot(summary_of(sweep))
    assert xs(figure, "o") == [9.0]
    assert drawn(figure, marker="|") == []
    assert "their mean" not in texts(figure)
    assert {"9.00", "\N{EN DASH}", "1"} <= set(texts(figure))


def test_a_hole_keeps_its_seeds_and_has_no_mean(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, 9.0)
    sweep.cell({"seed": 1}, 10.0)
    sweep.cell({"seed": 2}, 90.0, status="diverged")
    (figure,) = seeds_plot(summary_of(sweep))
    assert xs(figure, "o") == [9.0, 10.0]
    assert drawn(figure, marker="|") == []
    assert "2 of 3 done, 1 diverged" in " ".join(texts(figure))


def test_a_condition_of_which_nothing_is_done_is_still_a_line(golden: MakeGolden):
    sweep = golden()
    sweep.cell({"seed": 0}, None)
    (figure,) = seeds_plot(summary_of(sweep))
    assert "missing" in texts(figure)
    assert drawn(figure, marker="o") == []


def test_the_papers_value_is_a_mark_of_its_own_and_new_where_it_has_none(golden: MakeGolden):
    sweep = golden()
    for augment in ("none", "flip_shift"):
        for seed in range(2):
            sweep.cell({"model.variant": "base", "augment.kind": augment, "seed": seed}, 9.0 + seed)
    (figure,) = seeds_plot(summary_of(sweep, rows=("augment.kind",), paper="table3"))
    # Table 3: Model C has 9.74% without augmentation; with it the paper has All-CNN-C alone.
    assert xs(figure, "D") == [9.74]
    assert {"9.74", "new", "paper", "the paper"} <= set(texts(figure))


@pytest.mark.parametrize(("width", "said"), [(1.0, False), (0.125, True)])
def test_beside_the_papers_value_stands_in_what_the_set_up_is_not_the_papers(
    golden: MakeGolden, width: float, said: bool
):
    sweep = golden()
    sweep.cell({"model.variant": "base", "model.width": width, "seed": 0}, 30.0)
    (figure,) = seeds_plot(summary_of(sweep, paper="table3"))
    found = " ".join(texts(figure))
    assert ("Not the paper's set-up" in found, "model.width=0.125 (the paper: 1)" in found) == (said, said)


def arms(sweep: Golden, count: int, name: str = "arm ") -> Golden:
    for number in range(count):
        for seed in range(2):
            changes = {"model.width": round(0.5 + number / 100, 2), "seed": seed}
            sweep.cell(changes, 10.0 + number / 10 + seed, arm=name + str(number), epochs=epochs(0.5, 0.4))
    return sweep


@pytest.mark.parametrize("kind", KINDS)
def test_names_from_records_are_text_and_never_markup(golden: MakeGolden, kind: str):
    sweep = golden(question=NASTY)
    arms(sweep, 2, NASTY + " ")
    summary = summary_of(sweep, rows=("arm",), baseline={"arm": NASTY + " 0"} if kind == "effects" else {})
    for figure in FIGURES[kind](summary, ALONE):
        assert NASTY in texts(figure)
        assert " ".join(texts(figure)).count("$\\frac{a}{b$ x_1") == 3
        root = ElementTree.fromstring(to_bytes(figure, "svg", NASTY))
        assert not [element.tag for element in root.iter() if element.tag.endswith("script")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_the_same_records_give_the_same_bytes(golden: MakeGolden, kind: str, form: str):
    summary = summary_of(arms(golden(), 3), rows=("arm",))
    first, second = (to_bytes(FIGURES[kind](summary, PAGE)[0], form, "title") for _ in range(2))
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3, 12, 60])
def test_every_condition_is_on_one_page(golden: MakeGolden, kind: str, count: int):
    figures = FIGURES[kind](summary_of(arms(golden(), count), rows=("arm",)), PAGE)
    shown = [text for figure in figures for text in texts(figure) if text.startswith("arm ")]
    assert shown == [f"arm {number}" for number in range(count)]
    for figure in figures:
        width, height = figure.get_size_inches()
        assert (width, height < 10) == (7, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [ALONE, PAGE, COLUMN], ids=["alone", "page", "column"])
def test_no_text_leaves_the_page(golden: MakeGolden, kind: str, form: FigureForm):
    sweep = golden(question="A question that goes on and on. " * 12, changes=["seed=0,1"] * 9)
    arms(
        sweep,
        5,
        "an arm that somebody named with a whole sentence, to be sure that everybody understands it " * 2 + "{}",
    )
    sweep.cell({"model.width": 0.5, "seed": 2}, status="out_of_memory", arm="x_" * 90)
    for figure in FIGURES[kind](summary_of(sweep, rows=("arm",)), form):
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure).draw()
        left, bottom, right, top = figure.bbox.extents
        # Ticks that lie beyond the limits are there, and not drawn.
        beyond = {
            tick.label1
            for axes in figure.axes
            for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
            for tick in axis.get_major_ticks()
            if not limits[0] <= tick.get_loc() <= limits[1]
        }
        for text in (each for each in figure.findobj(Text) if each.get_visible() and each.get_text()):
            if text in beyond:
                continue
            x0, y0, x1, y1 = text.get_window_extent().extents
            assert (left <= x0, bottom <= y0, x1 <= right, y1 <= top) == (True,) * 4, text.get_text()


@pytest.mark.parametrize(("first", "marks"), [(11.0, 1), (40.0, 0)])
def test_a_paper_s_number_far_from_ours_is_in_the_column_and_not_on_the_axis(
    golden: MakeGolden, first: float, marks: int
):
    sweep = golden()
    for seed in range(3):
        sweep.cell({"model.base": "c", "model.variant": "strided", "seed": seed}, first + seed)
    (figure,) = seeds_plot(summary_of(sweep, rows=("model.base", "model.variant"), paper="table3"))
    assert len(xs(figure, "D")) == marks
    assert ("the paper" in texts(figure)) == bool(marks)
    assert "10.19" in texts(figure)  # Strided-CNN-C in the paper's Table 3


@pytest.mark.parametrize("draw", [effect_plot, seeds_plot])
def test_in_one_column_there_are_labels_and_marks_without_numbers_beside(
    golden: MakeGolden, draw: Callable[..., list[Figure]]
):
    summary = summary_of(pairs(golden(), {"strided": [1, 2, 3]}), baseline={"model.variant": "base"}, margin=0.5)
    (page,), (column,) = draw(summary), draw(summary, COLUMN)
    assert (page.get_figwidth(), column.get_figwidth()) == (7.0, 3.3)
    assert len(drawn(column)) == len(drawn(page))
    assert "variant Strided" in texts(column)
    assert not {"+2.00", "mean", "sd"} & set(texts(column))
