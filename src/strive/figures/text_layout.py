"""Fonts, widths and line breaks of text, of all figures. Lengths are in pixels.

Imports matplotlib, which only figures need, and no torch, which tables do not need.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Page

DPI = 200  # of a PNG, also used to measure text
SMALL, TEXT, TITLE = 7.0, 8.0, 9.0  # points
LINE = 1.35  # height of a line of text, relative to its font size
FOREGROUND = "#1a1a1a"
_FONT = "DejaVu Sans"  # comes with matplotlib, so figures are the same on every machine
_STYLE: dict[str, Any] = {
    "font.family": [_FONT],
    "text.color": FOREGROUND,
    "text.parse_math": False,  # the name of a class, a data set or an arm may contain dollars
    "pdf.fonttype": 42,  # keeps text as text, as journals require
}


@contextmanager
def text_settings(further: dict[str, Any] | None = None) -> Iterator[None]:
    """Draw and save in the house style, regardless of the user's matplotlibrc. further: additional settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | (further or {}))  # type: ignore[arg-type]
        yield


def drawable(text: str) -> str:
    """Return the text on one line, with a box for every character that is missing from the font."""
    glyphs = _glyphs()
    return "".join(each if ord(each) in glyphs else "\N{WHITE SQUARE}" for each in " ".join(text.split()))


def wrapped_px(text: str, width: float, points: float, weight: str = "normal", *, most: int = 99) -> list[str]:
    """Wrap the text into at most `most` lines of this width; an ellipsis replaces the rest."""
    lines = [""]
    for word in drawable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width_px(longer, points, weight) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = lines[:most]
    if len(lines) > most:
        cut[-1] += "…"
    return [_shortened(line, lambda part: text_width_px(part, points, weight) <= width) for line in cut]


@cache
def text_width_px(text: str, points: float, weight: str = "normal") -> float:
    """Return the width of a line of text."""
    font = font_manager.FontProperties(family=_FONT, size=points, weight=weight)
    width, _, _ = _measure().get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def line_height_px(points: float) -> float:
    """Return the height of a line of text."""
    return LINE * points / 72 * DPI


def _shortened(line: str, fits: Callable[[str], bool]) -> str:
    if fits(line):
        return line
    line = line.removesuffix("…")
    # Finds the longest prefix that fits, because a name may be thousands of letters long.
    end = bisect_left(range(1, len(line)), True, key=lambda length: not fits(f"{line[:length]}…"))
    return f"{line[:end]}…"


@cache
def _measure() -> Any:
    # At the output's resolution: letters are aligned to pixels, which changes the width of a line by up to a tenth.
    return FigureCanvasAgg(Page(dpi=DPI)).get_renderer()


@cache
def _glyphs() -> frozenset[int]:
    path = font_manager.findfont(font_manager.FontProperties(family=_FONT), fallback_to_default=False)
    return frozenset(font_manager.get_font(path).get_charmap())
