from itertools import pairwise

import matplotlib as mpl
import pytest

from strive.figures.style import (
    FORMATS,
    drawable,
    house_style,
    line_style,
    new_page,
    number,
    pages,
    text_width,
    to_bytes,
    wrapped,
)


def figure_bytes(form: str) -> bytes:
    with house_style():
        figure, page = new_page(2, 1)
        page.text(1, 0.5, "$x_1$ <script>&")
        page.plot([0, 1], [0, 1], marker="o")
    return to_bytes(figure, form, "a <title> & more")


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_figure_is_the_same_bytes_without_a_date_whatever_the_user_has_set(form: str):
    before = figure_bytes(form)
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other", "pdf.fonttype": 3, "savefig.dpi": 30}):
        assert figure_bytes(form) == before
    assert b"CreationDate" not in before
    assert b"<dc:date>" not in before


def test_the_users_own_settings_are_left_as_they_are():
    with mpl.rc_context({"font.size": 21}):
        figure_bytes("png")
        assert mpl.rcParams["font.size"] == 21


def test_wrapped_lines_are_as_wide_as_allowed_and_lose_no_word():
    text = "Can pooling be replaced by a convolution with stride without loss in accuracy?"
    lines = wrapped(text, 1.5, 7)
    assert " ".join(lines) == text
    assert all(text_width(line, 7) <= 1.5 for line in lines)
    # Greedy: the next word would not have fitted.
    for line, following in pairwise(lines):
        assert text_width(f"{line} {following.split()[0]}", 7) > 1.5


def test_what_is_too_long_ends_as_the_caller_says_and_still_fits():
    lines = wrapped("word " * 50, 1.0, 7, lines=2, end=" … [7]")
    assert len(lines) == 2
    assert lines[1].endswith(" … [7]")
    assert text_width(lines[1], 7) <= 1.0


def test_a_word_wider_than_a_line_is_broken_behind_a_mark_where_it_has_one():
    lines = wrapped("a_long_name_of_an_arm_without_any_blank", 1.0, 7)
    assert "".join(lines) == "a_long_name_of_an_arm_without_any_blank"
    assert all(line.endswith("_") for line in lines[:-1])
    lines = wrapped("m" * 60, 1.0, 7)
    assert "".join(lines) == "m" * 60
    assert all(text_width(line, 7) <= 1.0 for line in lines)


def test_bold_words_take_more_room():
    assert text_width("wide words", 7, "bold") > text_width("wide words", 7)


def test_a_text_is_one_line_of_what_the_font_has():
    assert drawable("a\nb\t\x00c") == "a b \N{WHITE SQUARE}c"
    assert drawable("\N{CJK UNIFIED IDEOGRAPH-4E2D}\N{LATIN SMALL LETTER A WITH DIAERESIS}") == "\N{WHITE SQUARE}ä"


def test_no_two_of_32_lines_look_alike_and_no_two_of_8_in_grey_neighbours():
    looks = [str(line_style(each)) for each in range(32)]
    assert len(set(looks)) == 32
    dashes = [str(line_style(each)["linestyle"]) for each in range(8)]
    assert all(one != other for one, other in pairwise(dashes))


@pytest.mark.parametrize(
    ("count", "most", "lengths"), [(0, 12, []), (1, 12, [1]), (12, 12, [12]), (13, 12, [7, 6]), (60, 40, [30, 30])]
)
def test_pages_are_few_and_about_equally_long(count: int, most: int, lengths: list[int]):
    found = pages(list(range(count)), most)
    assert [len(part) for _, part in found] == lengths
    assert [each for _, part in found for each in part] == list(range(count))
    wanted = [f" ({page} of {len(lengths)})" for page in range(1, len(lengths) + 1)] if len(lengths) > 1 else [""]
    assert [name for name, _ in found] == wanted[: len(found)]


def test_numbers_have_two_digits_and_a_true_minus():
    assert [number(-0.125), number(2.5), number(2.5, sign=True)] == ["\N{MINUS SIGN}0.12", "2.50", "+2.50"]
