"""Style of all figures: colours, text that fits, and reproducible files without a date. Lengths are in inches."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, ScalarFormatter

from strive.figures import text_layout

DPI, SMALL, TEXT, TITLE = text_layout.DPI, text_layout.SMALL, text_layout.TEXT, text_layout.TITLE
T = TypeVar("T")
FORMATS = ("pdf", "svg", "png")
FOREGROUND, FAINT, STRIPE = text_layout.FOREGROUND, "#5f5f5f", "#f4f4f2"
# After Okabe and Ito (2008), safe for colour-blind readers, without the yellow, which is invisible on white paper.
# The first four differ in lightness. Every line also has a dash pattern, for printing in grey.
COLOURS = ("#005a9c", "#d55e00", "#1a1a1a", "#2fae84", "#cc79a7", "#56b4e9", "#e69f00", "#7a3b8f")
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_STYLE: dict[str, Any] = {
    "font.size": TEXT,
    "axes.edgecolor": "#8c8c8c",
    "axes.labelcolor": FOREGROUND,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": "#8c8c8c",
    "ytick.color": "#8c8c8c",
    "xtick.labelcolor": FOREGROUND,
    "ytick.labelcolor": FOREGROUND,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "path",  # looks the same if the font is not installed
    "svg.hashsalt": "strive",  # otherwise ids in the file would be random
    "savefig.dpi": DPI,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureForm:
    """What a figure is drawn for."""

    width: float
    titles: bool = False  # print title, question and caption inside, for a figure that stands alone

    @property
    def narrow(self) -> bool:
        """Return whether there is no room for columns of numbers."""
        return self.width < 5


PAGE, COLUMN = FigureForm(width=7.0), FigureForm(width=3.3)  # both columns of a page, and one of them


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save in the house style, regardless of the user's matplotlibrc."""
    with text_layout.text_settings(_STYLE):
        yield


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dash of a line; the first 32 all differ, the first 8 differ in colour."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _DASHES[(number + number // len(COLOURS)) % len(_DASHES)],
    }


def to_bytes(figure: Figure, form: str, title: str) -> bytes:
    """Return the figure as a file of FORMATS; the same figure gives the same bytes."""
    metadata = {
        "pdf": {"Title": title, "CreationDate": None},
        "svg": {"Title": title, "Date": None},
        "png": {"Title": title},
    }
    content = io.BytesIO()
    with house_style():
        figure.savefig(content, format=form, metadata=metadata[form])
    return content.getvalue()


drawable = text_layout.drawable


def wrapped(
    text: str, width: float, size: float, *, lines: int = 99, end: str = " …", weight: str = "normal"
) -> list[str]:
    """Break the text into at most `lines` lines of this width; if it is shortened, `end` is appended.

    size: points.
    """
    found = [""]
    for word in drawable(text).split(" "):
        for piece in _pieces(word, width, size, weight):
            longer = f"{found[-1]} {piece}".lstrip()
            if text_width(longer, size, weight) <= width or not found[-1]:
                found[-1] = longer
            else:
                found.append(piece)
    if len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and text_width(last + end, size, weight) > width:
        last = last[:-1]
    return [*found[: lines - 1], last.rstrip() + end]


def paragraphs(texts: Sequence[str], width: float) -> list[str]:
    """Wrap texts of size TEXT to this width, each beginning a new line."""
    return [line for text in texts if text for line in wrapped(text, width, TEXT, lines=3)]


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text. size: points."""
    return text_layout.text_width_px(text, size, weight) / DPI


def line_height(size: float) -> float:
    """Return the height of a line of text. size: points."""
    return text_layout.LINE * size / 72


def new_page(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure, and axes that cover it with the inch as unit."""
    figure = Figure(figsize=(width, height))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, width), ylim=(0, height))
    page.set_axis_off()
    return figure, page


def write(page: Axes, corner: tuple[float, float], lines: Sequence[str], size: float, **style: Any) -> float:
    """Write lines below the upper left corner; return the height of the next line. size: points."""
    x, y = corner
    for line in lines:
        page.text(x, y - 0.78 * line_height(size), line, size=size, va="baseline", **style)
        y -= line_height(size)
    return y


def write_middle(page: Axes, middle: tuple[float, float], lines: Sequence[str], size: float, **style: Any) -> None:
    """Write lines centred on a height, as measured by capitals and digits. size: points."""
    x, y = middle
    write(page, (x, y + (0.51 * (len(lines) - 1) + 0.5 - 0.02) * line_height(size)), lines, size, **style)


def place_legend(
    figure: Figure, handles: Sequence[Line2D], corner: tuple[float, float], columns: int, *, length: float = 2.8
) -> None:
    """Place a legend below the upper left corner. length: of its lines, in font sizes."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(corner[0] / width, corner[1] / height),
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
        borderpad=0,
        borderaxespad=0,
        labelspacing=0.45,
        handlelength=length,
        handletextpad=0.5,
        columnspacing=1.6,
    )


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with a true minus. digits: behind the point. sign: also print a plus."""
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def plain_ticks(axis: Axis, *, logarithmic: bool = False) -> None:
    """Write the numbers of an axis in full, because powers of ten would be mathematical text."""
    if logarithmic:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axis.set_major_formatter(formatter)


def condition_gid(ref: str) -> str | None:
    """Return the id, in an SVG file, of all that is drawn for a condition; None without a ref."""
    return f"condition-{ref}" if ref else None


def pages(items: Sequence[T], most: int) -> list[tuple[str, Sequence[T]]]:
    """Divide the items into as few parts of at most `most` as possible, about equally long, with a name for each."""
    count = -(-len(items) // most)
    length = -(-len(items) // max(1, count))
    parts = [items[start : start + length] for start in range(0, len(items), max(1, length))]
    return [(f" ({number} of {len(parts)})" if len(parts) > 1 else "", part) for number, part in enumerate(parts, 1)]


def _pieces(word: str, width: float, size: float, weight: str) -> Iterator[str]:
    """Yield a word, or its parts if it is wider than a line."""
    while len(word) > 1 and text_width(word, size, weight) > width:
        fitting = (count for count in range(len(word) - 1, 1, -1) if text_width(word[:count], size, weight) <= width)
        count = next(fitting, 1)
        # Breaks after a punctuation mark if possible.
        count = max((place + 1 for place in range(count // 2, count) if word[place] in "_-./,="), default=count)
        yield word[:count]
        word = word[count:]
    yield word
