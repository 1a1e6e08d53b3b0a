"""Fits a table on a LaTeX page: chooses its type size, its line breaks and its number of parts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from strive.plain_text import one_line
from strive.tables.latex_lines import Face, LatexCell, LatexLine, Part, longest, wide, wrapped
from strive.tables.table import Entry, Table

PAGE = 340.0  # points; the text width of article is 345, and text widths are estimates
_HEIGHT = 520.0  # points; the text height of article is 550
_NARROWEST = 45  # points at size 10; if a text column would become narrower, the table is split in two halves
_LONGEST = 260  # points at size 10; shorter words are not broken
_TITLE = 42  # points at size 10; shorter titles are not broken
_HOLE = 70  # points at size 10; a shorter reason for a missing number is not broken
_MINUS = re.compile(r"(?<![\w.,)])-(?=\.?\d)")


_FACES = (
    Face("", 1.0, 6, 12.0),
    Face(r"\small", 0.925, 5, 11.0),
    Face(r"\footnotesize", 0.85, 4, 9.5),
    Face(r"\footnotesize", 0.85, 3, 9.5),
    Face(r"\scriptsize", 0.78, 3, 8.0),  # preferred to two halves
)


def parts(table: Table, words: int) -> list[Part]:
    """Return the table in parts that each fit a page; words: characters of caption and notes, which need room, too."""
    whole = _whole(table)
    return [part for half in _halves(whole) for part in _pages(half, words)]


def _whole(table: Table) -> Part:
    """Return the table as one part, with each cell on one line."""
    numeric = tuple(column.numeric for column in table.columns)
    header = LatexLine(tuple(LatexCell((one_line(column.title),), most=_TITLE) for column in table.columns), "", False)
    lines = []
    for row in table.rows:
        cells = tuple(_cell(entry, right) for entry, right in zip(row.entries, numeric, strict=True))
        lines.append(LatexLine(cells, row.ref, row.rule))
    return Part(_FACES[0], numeric, header, tuple(lines))


def _cell(entry: Entry, numeric: bool) -> LatexCell:
    """Return a cell with typographic signs: a minus before a number, a dash for an empty cell."""
    text = one_line(entry.text)
    text = _MINUS.sub("\u2212", text) if numeric else text
    return LatexCell(("\u2013" if text == "-" else text,), entry.bold, _HOLE if entry.hole and numeric else 0)


def _halves(whole: Part) -> list[Part]:
    """Split the table into as few sets of columns as fit the width; each set begins with the first column."""
    if fitting := _fitted(whole):
        return [fitting]
    others = len(whole.numeric) - 1
    for count in range(2, others):
        halves = [_fitted(_columns(whole, start, end)) for start, end in _shares(_natural(whole), count)]
        if (fit := [half for half in halves if half is not None]) and len(fit) == len(halves):
            return fit
    return [_forced(_columns(whole, i, i + 1)) for i in range(1, others + 1)] or [_forced(whole)]


def _shares(widths: Sequence[float], count: int) -> list[tuple[int, int]]:
    """Divide all columns but the first into `count` runs of about equal width."""
    ends = list(accumulate(widths[1:]))
    cuts = [next(i for i, end in enumerate(ends, 1) if end >= ends[-1] * k / count - 0.01) for k in range(1, count + 1)]
    return [(start + 1, end + 1) for start, end in pairwise([0, *cuts]) if end > start]


def _columns(whole: Part, start: int, end: int) -> Part:
    def of(line: LatexLine) -> LatexLine:
        return replace(line, cells=line.cells[:1] + line.cells[start:end])

    numeric = whole.numeric[:1] + whole.numeric[start:end]
    return Part(whole.face, numeric, of(whole.header), tuple(of(line) for line in whole.lines))


def _fitted(part: Part) -> Part | None:
    """Return the part in the largest size that fits, or in the smallest with broken lines; None if neither fits."""
    natural = _natural(part)
    for face in _FACES:
        if _total(natural, face) <= PAGE:
            return wrapped(part, face, natural)
    return _squeezed(part, natural)


def _forced(part: Part) -> Part:
    """Return a part of two columns that fits, breaking any text if necessary."""
    natural = _natural(part)
    share = PAGE / _FACES[-1].scale / len(natural) - 2 * _FACES[-1].gap
    return _fitted(part) or wrapped(part, _FACES[-1], [min(each, share) for each in natural])


def _squeezed(part: Part, natural: Sequence[float]) -> Part | None:
    """Return the part with texts broken at spaces as little as possible; None if the numbers are too wide."""
    face = _FACES[-1]
    least = [
        max(min(longest(line.cells[i]), _LONGEST) for line in (part.header, *part.lines)) if not right else natural[i]
        for i, right in enumerate(part.numeric)
    ]
    for limit in range(int(max(natural)), _NARROWEST - 1, -4):
        widths = [min(each, max(limit, some)) for each, some in zip(natural, least, strict=True)]
        if _total(widths, face) <= PAGE:
            return wrapped(part, face, widths)
    return None


def _natural(part: Part) -> list[float]:
    """Return the width of each column without line breaks."""
    return [max(wide(line.cells[i]) for line in (part.header, *part.lines)) for i in range(len(part.numeric))]


def _total(widths: Sequence[float], face: Face) -> float:
    return sum(widths) * face.scale + 2 * face.gap * (len(widths) - 1)


def _pages(part: Part, words: int) -> Iterator[Part]:
    """Yield runs of the part's rows that fit the height."""
    # Caption and notes: about 75 characters a line. The header, the rules and the space around them: 60 points.
    room = max(120.0, _HEIGHT - 60 - 12 * (words / 75 + 2))
    run: list[LatexLine] = []
    used = 0.0
    for line in part.lines:
        height = max(len(cell.lines) for cell in line.cells) * part.face.line + 5 * line.rule
        if run and used + height > room:
            yield replace(part, lines=tuple(run))
            run, used = [], 0.0
        run.append(line)
        used += height
    yield replace(part, lines=tuple(run))
