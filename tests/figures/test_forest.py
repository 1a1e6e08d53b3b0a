from typing import Any

import pytest
from handmade import texts
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from strive.figures.forest import ForestLine, Frame, draw_pages, mark, span, whisker
from strive.figures.style import FigureForm


def frame(**fields: Any) -> Frame:
    values = {"title": "t", "subtitle": ("question", "data"), "axis": "error, %", "limits": (0.0, 10.0)}
    return Frame(**(values | {"headings": ("mean", "n"), "caption": "How to read it."} | fields))


@pytest.mark.parametrize(
    ("points", "keep", "limits"),
    [
        ([1, 2, 3], [], (0.9, 3.1)),  # a twentieth of the range to either side
        ([1, 2, 3], [0], (-0.15, 3.15)),
        ([5, 5], [], (4.75, 5.25)),
        ([], [], (-0.05, 1.05)),
        # Quartiles 2, 3 and 4: a point counts up to 1 + 3 x 2 from the median.
        ([1, 2, 3, 4, 10], [], (0.55, 10.45)),
        ([1, 2, 3, 4, 10.1], [], (0.85, 4.15)),
        # All but one are equal: nothing says what is far.
        ([3, 3, 3, 3, 50], [], (0.65, 52.35)),
    ],
)
def test_an_axis_holds_its_points_but_not_an_outlier(
    points: list[float], keep: list[float], limits: tuple[float, float]
):
    assert span(points, keep=keep) == pytest.approx(limits)


def test_one_wide_interval_does_not_flatten_the_others():
    # Half-widths 1, 1 and 40: the usual one is 1, and three of them count.
    low, high = span([0, 1, 2], [(-1, 1), (0, 2), (-38, 42)])
    assert (low, high) == pytest.approx((-1 - 0.05 * 6, 5 + 0.05 * 6))


def axes(low: float, high: float) -> Axes:
    found = Figure().add_subplot()
    found.set_xlim(low, high)
    return found


def points(axes: Axes) -> list[tuple[str, list[float]]]:
    return [(str(line.get_marker()), [float(x) for x in line.get_xdata()]) for line in axes.lines]


def test_a_mark_within_the_axis_stands_where_it_belongs():
    found = axes(0, 10)
    mark(found, 10, 1, {"marker": "o", "color": "red"})
    assert points(found) == [("o", [10])]


@pytest.mark.parametrize(("x", "arrow", "edge", "beside"), [(-5, "<", 0, 0.35), (15, ">", 10, 9.65)])
def test_a_mark_beyond_the_axis_is_an_arrow_at_its_edge(x: float, arrow: str, edge: float, beside: float):
    found = axes(0, 10)
    mark(found, x, 1, {"marker": "o", "color": "red"})
    assert points(found) == [(arrow, [edge])]
    found = axes(0, 10)
    mark(found, x, 1, {"marker": "o", "color": "red"}, shape=True)
    assert points(found) == [(arrow, [edge]), ("o", [pytest.approx(beside)])]


def test_an_interval_ends_in_a_bar_or_beyond_the_axis_in_an_arrow():
    found = axes(0, 10)
    whisker(found, -3, 4, 1, "red")
    assert points(found) == [("|", [0, 4]), ("<", [0])]
    assert found.lines[0].get_markevery() == [1], "the end within the axis alone has a bar"


def test_an_interval_wholly_beyond_the_axis_is_left_to_its_mark():
    found = axes(0, 10)
    whisker(found, 11, 14, 1, "red")
    assert points(found) == []


def test_a_heading_stands_once_above_its_lines_and_again_on_the_next_page():
    lines = [ForestLine(label=f"line {number}", entries=("1.00", "3"), head="Against A") for number in range(50)]
    first, second = draw_pages(frame(form=FigureForm(width=7.0, titles=True)), lines)
    for page, name in ((first, "t (1 of 2)"), (second, "t (2 of 2)")):
        assert texts(page).count("Against A") == 1
        assert name in texts(page)
        assert {"question", "data", "mean", "n", "error, %", "How to read it."} <= set(texts(page))
    shown = [text for page in (first, second) for text in texts(page) if text.startswith("line")]
    assert shown == [f"line {number}" for number in range(50)]


def test_a_note_stands_where_there_are_no_numbers():
    (page,) = draw_pages(frame(), [ForestLine(label="x", entries=("", ""), note="2 of 3 done, 1 missing")])
    assert "2 of 3 done, 1 missing" in texts(page)


def test_a_label_that_had_to_be_shortened_keeps_its_number_in_the_footnotes():
    (page,) = draw_pages(frame(), [ForestLine(label="words without an end " * 20, ref="12", entries=("1.00", "3"))])
    assert any(text.endswith("… [12]") for text in texts(page))


def test_a_page_is_no_higher_than_a_page_of_paper():
    lines = [ForestLine(label=f"line {number}", entries=("1.00", "3")) for number in range(200)]
    for page in draw_pages(frame(), lines):
        width, height = page.get_size_inches()
        assert width == 7
        assert height < 9.7
