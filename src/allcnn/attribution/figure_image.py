"""Page layout of a FigureContent: pictures in rows and columns, with the text around them. Lengths are in dots."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page
from PIL import Image

from allcnn.attribution.figure import FigureContent, FigureRow, Picture
from strive.cells.records import write_whole
from strive.figures.text_layout import (
    DPI,
    SMALL,
    TEXT,
    TITLE,
    drawable,
    line_height_px,
    text_settings,
    text_width_px,
    wrapped_px,
)

_WIDTH = 1400  # 7 inches, unless many columns need more: then letters grow with the page
_LEAST_WIDTH = 900  # so that the caption below a single picture can be read
_LEAST_SIDE, _LARGEST_SIDE = 64, 200  # of a picture
_MARGIN, _GAP, _GROUP_GAP, _BLOCK_GAP = 24, 6, 30, 24
_LABEL_WIDTH = 300


def draw(figure: FigureContent, folder: Path, about: Mapping[str, Any] | None = None) -> list[Path]:
    """Write the figure's NAME.png, NAME.pdf, NAME.csv (its numbers) and NAME.json (its words); return their paths.

    about: further entries of the JSON file, such as the cell and the command line; the cell is in each line of numbers,
    too. Below the pictures stand two lines of the caption, the JSON file has all of it. The same figure gives the same
    bytes, as far as matplotlib is the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", figure.name)[:100].lstrip(".") or "figure"
    paths = [folder / f"{stem}.{form}" for form in ("png", "pdf", "csv", "json")]
    words = {
        "title": figure.title,
        "caption": figure.caption,
        **(about or {}),
        "facts": figure.facts,
        "files": [path.name for path in paths],
    }
    with text_settings():
        page = _page(figure)
        pictures = [_saved(page, form, figure.title) for form in ("png", "pdf")]
    text = json.dumps(_finite(words), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    cell = {"cell": about["cell"]} if about and "cell" in about else {}
    contents = [*pictures, _table([{**row, **cell} for row in figure.numbers]), text.encode(errors="backslashreplace")]
    for path, content in zip(paths, contents, strict=True):
        write_whole(path, content, durable=False)
    return paths


def _saved(page: Page, form: str, title: str) -> bytes:
    metadata: dict[str, Any] = {"Title": drawable(title)}
    metadata |= {"CreationDate": None} if form == "pdf" else {"Software": None}
    content = io.BytesIO()
    page.savefig(content, format=form, dpi=DPI, metadata=metadata)
    return content.getvalue()


def _table(numbers: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    if numbers:
        writer = csv.DictWriter(text, list(numbers[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(numbers)
    return text.getvalue().encode(errors="backslashreplace")


def _finite(value: Any) -> Any:
    """Return the value for JSON: a number that is not finite is null."""
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Text(NamedTuple):
    """Lines that are written from (x, y) on downwards."""

    x: float
    y: float
    lines: Sequence[str]
    points: float
    align: str = "left"
    weight: str = "normal"


class _Placed(NamedTuple):
    """A picture in the middle of a square."""

    left: int
    top: int
    pixels: npt.NDArray[np.uint8]
    side: int


class _Columns(NamedTuple):
    """Positions of the pictures along a row."""

    lefts: list[int]
    side: int
    groups: list[tuple[str, int, int]]  # heading, left, right
    right: int


def _page(figure: FigureContent) -> Page:
    """Return the figure drawn: first all parts are placed, then the page gets the size that they need."""
    layout = _PageLayout(max(1, _columns(figure, 0).right / _WIDTH))
    labels = [layout.label(row) for row in figure.rows]
    wide = max((text_width_px(line, layout.small) for lines in labels for line in lines), default=0)
    columns = _columns(figure, wide)
    layout.width = max(_LEAST_WIDTH, columns.right + _MARGIN)
    layout.paragraph(_MARGIN, figure.title, layout.title, "bold")
    layout.y += _MARGIN / 2
    layout.headings(columns)
    for row, label in zip(figure.rows, labels, strict=True):
        layout.row(row, label, columns)
    layout.y += _MARGIN / 2
    if figure.table:
        layout.table(figure.table)
        layout.y += _MARGIN
    layout.paragraph(_MARGIN, _beginning(figure.caption, layout.width - 2 * _MARGIN, layout.text), layout.text)
    return _drawn(math.ceil(layout.width), math.ceil(layout.y + _MARGIN), layout.pictures, layout.texts)


def _beginning(caption: str, width: float, points: float) -> str:
    """Return the first sentences of a caption, as many as two lines hold, but at least one."""
    first, *rest = re.split(r"(?<=[.?!]) (?=[A-Z0-9])", caption.replace("\n", " "))
    for sentence in rest:
        if len(wrapped_px(longer := f"{first} {sentence}", width, points)) > 2:
            break
        first = longer
    return first


class _PageLayout:
    """The parts placed so far, from top to bottom."""

    def __init__(self, scale: float) -> None:
        self.small, self.text, self.title = scale * SMALL, scale * TEXT, scale * TITLE  # points
        self.width = float(_WIDTH)
        self.y = float(_MARGIN)  # of the next part
        self.texts: list[_Text] = []
        self.pictures: list[_Placed] = []

    def label(self, row: FigureRow) -> list[str]:
        """Return the lines on the left of a row."""
        width = _LABEL_WIDTH * self.small / SMALL
        return [line for part in row.label.split("\n") if part for line in wrapped_px(part, width, self.small, most=3)]

    def paragraph(self, x: float, text: str, points: float, weight: str = "normal") -> None:
        """Place a paragraph."""
        for part in text.split("\n"):
            lines = wrapped_px(part, self.width - x - _MARGIN, points, weight)
            self.texts.append(_Text(x, self.y, lines, points, weight=weight))
            self.y += len(lines) * line_height_px(points)

    def headings(self, columns: _Columns) -> None:
        """Place the headings of the columns; their last lines are aligned."""
        room = _GAP if len(columns.groups) == len(columns.lefts) else _GROUP_GAP
        found = [
            (wrapped_px(text, right - left + room, self.small) if text else [], (left + right) / 2)
            for text, left, right in columns.groups
        ]
        most = max((len(lines) for lines, _ in found), default=0)
        for lines, middle in found:
            y = self.y + (most - len(lines)) * line_height_px(self.small)
            self.texts.append(_Text(middle, y, lines, self.small, align="center"))
        self.y += most * line_height_px(self.small) + _GAP

    def row(self, row: FigureRow, label: Sequence[str], columns: _Columns) -> None:
        """Place a row, below its heading if it has one."""
        left, side = columns.lefts[0], columns.side
        if row.heading:
            self.y += _BLOCK_GAP if self.pictures else _GAP
            self.paragraph(left, row.heading, self.text, "bold")
            self.y += _GAP
        top, label_height = round(self.y), len(label) * line_height_px(self.small)
        self.texts.append(_Text(left - 2 * _GAP, top + (side - label_height) / 2, label, self.small, align="right"))
        below = 0.0
        for left, tile in zip(columns.lefts, row.tiles, strict=False):
            lines = wrapped_px(tile.caption, side, self.small, most=3) if tile.caption else []
            self.texts.append(_Text(left + side / 2, top + side + 3, lines, self.small, align="center"))
            below = max(below, len(lines) * line_height_px(self.small))
            if tile.picture is not None:
                self.pictures.append(_Placed(left, top, _enlarged(tile.picture, side), side))
        self.y = top + max(side + below, (side + label_height) / 2) + (2 * _GAP if below else _GAP)

    def table(self, lines: Sequence[Sequence[str]]) -> None:
        """Place lines of text in columns, the first one bold."""
        left = float(_MARGIN)
        for column in zip(*lines, strict=True):
            texts = [drawable(text) for text in column]
            for number, text in enumerate(texts):
                weight = "normal" if number else "bold"
                y = self.y + number * line_height_px(self.small)
                self.texts.append(_Text(left, y, [text], self.small, weight=weight))
            left += max(text_width_px(text, self.small, "bold") for text in texts) + _GROUP_GAP
        self.width = max(self.width, left - _GROUP_GAP + _MARGIN)
        self.y += len(lines) * line_height_px(self.small)


def _columns(figure: FigureContent, label_width: float) -> _Columns:
    """Place the columns: groups of equal headings are set apart."""
    groups = [(heading, len(list(same))) for heading, same in groupby(figure.columns)]
    apart = _GROUP_GAP if len(groups) < len(figure.columns) else 2 * _GAP
    left = round(_MARGIN + label_width + (12 if label_width else 0))
    count = len(figure.columns)
    gaps = (count - len(groups)) * _GAP + (len(groups) - 1) * apart
    room = (_WIDTH - left - _MARGIN - gaps) // max(1, count)
    largest = max(_LEAST_SIDE, min(_LARGEST_SIDE, room))
    sizes = [max(tile.picture.shape[:2]) for row in figure.rows for tile in row.tiles if tile.picture is not None]
    # No wider than the largest picture gets by a whole factor.
    side = max((min(largest, size * max(1, largest // size)) for size in sizes), default=largest)
    lefts, headings = [], []
    for heading, same in groups:
        start = left
        for _ in range(same):
            lefts.append(left)
            left += side + _GAP
        headings.append((heading, start, left - _GAP))
        left += apart - _GAP
    return _Columns(lefts or [left], side, headings, left - apart)


def _enlarged(picture: Picture, side: int) -> npt.NDArray[np.uint8]:
    """Return the picture with whole pixels, enlarged by a whole factor; one that is too large is reduced."""
    pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    high, wide = pixels.shape[:2]
    factor = side // max(high, wide)
    if factor:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (max(1, wide * side // max(high, wide)), max(1, high * side // max(high, wide)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _drawn(width: int, height: int, pictures: Sequence[_Placed], texts: Sequence[_Text]) -> Page:
    canvas = np.full((height, width, 3), 255, np.uint8)
    for left, top, pixels, side in pictures:
        high, wide = pixels.shape[:2]
        y, x = top + (side - high) // 2, left + (side - wide) // 2
        canvas[y : y + high, x : x + wide] = pixels
    # A hair more than whole dots: matplotlib rounds down.
    page = Page(figsize=((width + 0.01) / DPI, (height + 0.01) / DPI))
    axes: Axes = page.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(canvas, extent=(0, width, height, 0), aspect="auto", interpolation="none")
    for text in texts:
        for number, line in enumerate(text.lines):
            y = text.y + (number + 0.78) * line_height_px(text.points)
            axes.text(text.x, y, line, size=text.points, ha=text.align, va="baseline", weight=text.weight)
    return page
