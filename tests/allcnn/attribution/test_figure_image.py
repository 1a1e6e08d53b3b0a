"""The picture of a figure, and the text beside it."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from allcnn.attribution.figure import FigureContent, FigureRow, Picture, Tile
from allcnn.attribution.figure_image import _columns, draw
from strive.figures.text_layout import SMALL, drawable, line_height_px, text_width_px, wrapped_px

RANDOM = np.random.default_rng(0)


def noise(size: int) -> Picture:
    return RANDOM.random((size, size, 3))


def figure(*rows: FigureRow, columns: tuple[str, ...] = ("one", "two"), **changes: object) -> FigureContent:
    words = {"name": "some", "title": "A title", "caption": "What is seen.", "numbers": ()} | changes
    return FigureContent(columns=columns, rows=rows or (FigureRow("row", (Tile(noise(8)), Tile(noise(8)))),), **words)  # type: ignore[arg-type]


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def place(page: npt.NDArray[np.uint8], tile: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """(top, left) of where the tile stands on the page; fails if it is not there."""
    first = (page[: -len(tile), :, :] == tile[0, 0]).all(2).nonzero()
    for top, left in zip(*first, strict=True):
        if np.array_equal(page[top : top + len(tile), left : left + tile.shape[1]], tile):
            return int(top), int(left)
    raise AssertionError("the tile is not on the page")


def enlarged(picture: Picture, factor: int) -> npt.NDArray[np.uint8]:
    return np.kron(np.rint(255 * picture).astype(np.uint8), np.ones((factor, factor, 1), np.uint8))


def test_pictures_are_enlarged_by_a_whole_factor_and_stand_in_their_rows_and_columns(tmp_path: Path):
    rows = [FigureRow(name, (Tile(noise(19)), Tile(noise(19)))) for name in "ab"]
    page = pixels(draw(figure(*rows), tmp_path)[0])
    # 200 dots at most: 10 for each pixel of 19.
    found = [place(page, enlarged(tile.picture, 10)) for row in rows for tile in row.tiles if tile.picture is not None]
    (a, b, c, d) = found
    assert a[0] == b[0] < c[0] == d[0]
    assert a[1] == c[1] < b[1] == d[1]


def test_what_is_empty_leaves_its_place(tmp_path: Path):
    picture = noise(8)
    page = pixels(draw(figure(FigureRow("", (Tile(None), Tile(picture)))), tmp_path)[0])
    top, left = place(page, enlarged(picture, 25))
    assert (page[top : top + 200, left - 180 : left - 20] == 255).all()


def test_a_picture_that_is_too_large_is_made_smaller(tmp_path: Path):
    blue = np.broadcast_to(np.array([0.0, 0.2, 1.0]), (500, 500, 3))
    page = pixels(draw(figure(FigureRow("", (Tile(blue),)), columns=("",)), tmp_path)[0])
    assert (page == [0, 51, 255]).all(2).sum() == 200 * 200


def test_equal_headings_are_one_group_that_stands_apart(tmp_path: Path):
    row = FigureRow("", tuple(Tile(noise(8)) for _ in range(4)))
    columns = _columns(figure(row, columns=("a", "a", "b", "b")), 0)
    assert [heading for heading, _, _ in columns.groups] == ["a", "b"]
    within, between, _ = np.diff(columns.lefts)
    assert between > within
    assert columns.groups[0][1:] == (columns.lefts[0], columns.lefts[1] + columns.side)


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path):
    one = figure(numbers=({"value": 0.1},))
    first, again = (draw(one, tmp_path / name, {"command": "x"}) for name in ("first", "again"))
    assert [path.name for path in first] == ["some.png", "some.pdf", "some.csv", "some.json"]
    for path, other in zip(first, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
        assert path.stat().st_size > 0
    assert b"CreationDate" not in first[1].read_bytes()


def test_the_page_shows_whole_sentences_of_the_caption_in_two_lines_and_the_file_has_all_of_it(tmp_path: Path):
    sentence = "Each row is a channel of conv6, its unit taken before any ReLU, and the largest come first."
    row = FigureRow("a", tuple(Tile(noise(19)) for _ in range(10)))
    pages = []
    for number, caption in enumerate([sentence, f"{sentence} {sentence}", " ".join([sentence] * 9)]):
        paths = draw(figure(row, columns=("",) * 10, caption=caption), tmp_path / str(number))
        assert json.loads(paths[3].read_text())["caption"] == caption
        pages.append(pixels(paths[0]))
    one, two, nine = map(len, pages)
    assert one < two == nine


def test_each_line_of_numbers_says_its_cell_and_the_caption_does_not(tmp_path: Path):
    paths = draw(figure(numbers=({"unit": 3}, {"unit": 4})), tmp_path, {"cell": "all_cnn_c-x"})
    assert [line["cell"] for line in csv.DictReader(io.StringIO(paths[2].read_text()))] == ["all_cnn_c-x"] * 2


def test_numbers_and_words_are_beside_the_picture(tmp_path: Path):
    numbers = ({"unit": 3, "value": 0.1}, {"unit": 4, "value": 1e-17})
    paths = draw(figure(numbers=numbers, facts={"share": float("nan")}), tmp_path, {"cell": "all_cnn_c-x"})
    read = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    assert [(int(line["unit"]), float(line["value"])) for line in read] == [(3, 0.1), (4, 1e-17)]
    assert json.loads(paths[3].read_text()) == {
        "title": "A title",
        "caption": "What is seen.",
        "cell": "all_cnn_c-x",
        "facts": {"share": None},
        "files": ["some.png", "some.pdf", "some.csv", "some.json"],
    }


@pytest.mark.parametrize("text", ["$x^2$ {}", "two\nlines", "猫 \udcff \x1b[31m \u202e", "a" * 500, "", "=1+1"])
def test_any_text_can_be_drawn(tmp_path: Path, text: str):
    one = figure(
        FigureRow(text, (Tile(noise(8), text), Tile(None, text)), heading=text),
        columns=(text, "b"),
        title=text,
        caption=text,
        numbers=({"class": text},),
    )
    paths = draw(one, tmp_path)
    assert all(path.stat().st_size for path in paths)
    assert json.loads(paths[3].read_text())["title"] == text


@pytest.mark.parametrize(
    ("name", "file"),
    [("patches-block.0/conv 1", "patches-block.0_conv_1"), ("../../up", "_.._up"), (".hidden", "hidden")],
)
def test_file_names_are_safe(tmp_path: Path, name: str, file: str):
    paths = draw(figure(name=name), tmp_path)
    assert paths[0].name == f"{file}.png"
    assert {path.parent for path in paths} == {tmp_path}


def test_no_line_is_wider_than_its_room():
    words = "the great crested grebe of the northern lakes and rivers " * 3 + "x" * 300
    lines = wrapped_px(words, 400, 7.5)
    assert len(lines) > 3
    assert all(text_width_px(line, 7.5) <= 400 for line in lines)
    assert " ".join(lines[:-1]) == " ".join(words.split()[:-1])
    assert wrapped_px(words, 400, 7.5, most=2)[-1].endswith("…")
    assert drawable("a\tb\x07") == "a b\N{WHITE SQUARE}"


def test_a_page_of_many_columns_is_wider_and_its_letters_larger(tmp_path: Path):
    def width(count: int) -> int:
        row = FigureRow("r", tuple(Tile(noise(19)) for _ in range(count)))
        return pixels(draw(figure(row, columns=("",) * count), tmp_path)[0]).shape[1]

    assert width(4) <= 1400
    assert width(30) > 30 * 57


def test_a_table_stands_below_the_pictures_line_by_line(tmp_path: Path):
    plain, table = figure(FigureRow("a", (Tile(noise(4)),))), (("rule", "cosine"), ("guided", "0.58"), ("", "$0.1"))
    without = pixels(draw(plain, tmp_path / "without")[0])
    page = pixels(draw(dataclasses.replace(plain, table=table), tmp_path / "with")[0])
    more = len(page) - len(without)
    assert more == pytest.approx(3 * line_height_px(SMALL) + 24, abs=2)
    # What stands above is as before, and in the new lines there is ink on white.
    above = len(without) // 2
    assert np.array_equal(page[:above], without[:above])
    ink = (page < 128).any((1, 2))
    assert sum(ink[1:] & ~ink[:-1]) >= sum((own := (without < 128).any((1, 2)))[1:] & ~own[:-1]) + 3
