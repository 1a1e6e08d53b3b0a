"""Lines of a LaTeX table: estimated text widths and line breaks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from strive.tables.latex_text import width


@dataclass(frozen=True, slots=True)
class Face:
    """A type size."""

    command: str
    scale: float  # of widths, relative to size 10
    gap: int  # points on each side of a column
    line: float  # points between baselines


@dataclass(frozen=True, slots=True)
class LatexCell:
    """One cell of a table, broken into lines."""

    lines: tuple[str, ...]  # not escaped
    bold: bool = False
    most: float = 0  # points at size 10; break the cell rather than make its column wider; 0 for no limit


@dataclass(frozen=True, slots=True)
class LatexLine:
    """One row of a table."""

    cells: tuple[LatexCell, ...]
    ref: str
    rule: bool


@dataclass(frozen=True, slots=True)
class Part:
    """The content of one float: the whole table, or some of its columns and rows."""

    face: Face
    numeric: tuple[bool, ...]
    header: LatexLine
    lines: tuple[LatexLine, ...]


def longest(cell: LatexCell) -> float:
    """Return the width of a cell's longest word, in points at size 10."""
    return max((width(word, bold=cell.bold) for word in cell.lines[0].split()), default=0.0)


def wide(cell: LatexCell) -> float:
    """Return the preferred width of a cell, in points at size 10."""
    whole = width(cell.lines[0], bold=cell.bold)
    return max(longest(cell), min(whole, cell.most)) if cell.most else whole


def wrapped(part: Part, face: Face, widths: Sequence[float]) -> Part:
    """Return the part in a type size, with its cells broken into lines of these widths, in points at size 10."""

    def of(line: LatexLine) -> LatexLine:
        cells = zip(line.cells, widths, strict=True)
        return replace(line, cells=tuple(replace(c, lines=_broken(c.lines[0], limit, c.bold)) for c, limit in cells))

    return Part(face, part.numeric, of(part.header), tuple(of(line) for line in part.lines))


def _broken(text: str, limit: float, bold: bool) -> tuple[str, ...]:
    """Break the text into lines no wider than limit: at spaces, else after - _ / . = or anywhere."""
    lines = [""]
    for piece in _pieces(text, limit, bold):
        if lines[-1] and width(lines[-1] + piece.rstrip(), bold=bold) > limit + 0.01:
            lines.append("")
        lines[-1] += piece
    return tuple(line.strip() for line in lines)


def _pieces(text: str, limit: float, bold: bool) -> Iterator[str]:
    for word in re.findall(r"\S+\s*", text):
        if width(word.rstrip(), bold=bold) <= limit:
            yield word
            continue
        for piece in re.findall(r"[^-_/.=:,]*[-_/.=:,]?", word):
            yield from [piece] if width(piece, bold=bold) <= limit else piece
