"""A sweep's tables in short, for a terminal: question, the first table, what is missing. The files have the rest."""

import re
from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from strive.plain_text import printable
from strive.tables.summary import SweepSummary
from strive.tables.table import Entry, Table, compact

_LINES = 30  # of a table
_PROBLEMS = 5
_NAME = 12  # characters that a line's name has room for at least
_GAP = 2


def in_short(sweep: SweepSummary, page: str, width: int) -> Iterator[RenderableType]:
    """Yield what to print of a sweep, without its answer. page: the file that has all of it; width: of the terminal."""
    table = compact(sweep.tables[0])
    yield Text(printable(sweep.title), style="bold")
    yield from filter(None, [printable(sweep.loaded.question)])
    grid, left = _grid(table, width)
    yield Padding(grid, (1, 0))
    if len(table.rows) > _LINES:
        yield f"and {len(table.rows) - _LINES} more lines in {page}"
    yield from map(printable, (*table.notes, *table.latex_notes))
    if left:
        yield f"{', '.join(left)}: in {page}"
    for problem in sweep.problems[:_PROBLEMS]:
        yield f"missing or mixed: {printable(problem)}"
    if len(sweep.problems) > _PROBLEMS:
        yield f"and {len(sweep.problems) - _PROBLEMS} more of these in {page}"
    yield ""


def _grid(table: Table, width: int) -> tuple[Grid, list[str]]:
    """Return the table, and the titles of the columns at its end for which there is no room.

    Entries go on in a second line, and none is cut: what differs may stand at its end.
    """
    lines = [[_text(entry) for entry in row.entries] for row in table.rows[:_LINES]]
    titles = [printable(column.title) for column in table.columns]
    least = [_longest([title, *(line[i].plain for line in lines)]) for i, title in enumerate(titles)]
    count = len(least)
    while count > 2 and _NAME + sum(least[1:count]) + _GAP * (count - 1) > width:
        count -= 1
    room = max(_NAME, width - sum(least[1:count]) - _GAP * (count - 1))
    grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for i in range(count):
        side, most = ("right", None) if table.columns[i].numeric else ("left", None if i else room)
        grid.add_column(titles[i], justify=side, min_width=least[i] if i else None, max_width=most, overflow="fold")  # type: ignore[arg-type] # of two words
    for line in lines:
        grid.add_row(*line[:count])
    return grid, titles[count:]


def _longest(texts: list[str]) -> int:
    """Return the number of characters of the longest word."""
    return max(len(word) for text in texts for word in ["", *text.split(" ")])


def _text(entry: Entry) -> Text:
    style = "bold" if entry.bold else "dim italic" if entry.partial or entry.hole else ""
    # A mean with its spread, and an interval, stay on one line.
    return Text(re.sub(r"(?<=\d[\d‡]) (±|to) ", "\u00a0\\1\u00a0", printable(entry.text)), style=style)
