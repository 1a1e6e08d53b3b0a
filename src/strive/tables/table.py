"""A table as data: title, columns, entries. The renderers decide on its appearance."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

DASHES = ("", "-")  # entries without anything


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One cell of a table."""

    text: str = ""  # printed text: Unicode, one line, not escaped
    value: float | None = None  # sort key; None for text and holes
    bold: bool = False
    hole: bool = False  # there is no number, and `text` gives the reason
    ref: str = ""  # key of its cells in the footnote file, if a line has more than one
    mark: str = ""  # sign of a verdict, printed behind it on paper, where no column has the verdict in words
    partial: bool = False  # not all of its cells are done


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The meaning of the entries below it."""

    title: str
    numeric: bool = True  # aligned to the right
    help: str = ""  # the meaning of the title, in one sentence
    latex: bool = True  # whether it is printed on paper
    spread: bool = False  # printed on paper as the ± of the column before it


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a table."""

    entries: tuple[Entry, ...]  # one for each column
    ref: str = ""  # key of the line's cells in the footnote file; "" if it has none
    baseline_ref: str = ""  # key of the cells that it is compared with; "" if it is no difference
    factors: Mapping[str, str] = field(default_factory=dict)  # {knob: value as text}, for filters
    rule: bool = False  # draw a line above it


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table, ready to be rendered."""

    name: str  # such as errors; only letters, digits and _
    title: str
    caption: str  # the origin of the numbers, in whole sentences
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # below the table, a sentence each
    in_caption: Mapping[str, Entry] = field(default_factory=dict)  # {name: number in the caption}, to be cited
    aside: str = ""  # more of the caption, for whoever made it: cells, machine, dates, advice
    latex: bool = True  # whether it is printed on paper
    latex_notes: tuple[str, ...] = ()  # below it on paper alone: what its marks mean


def compact(table: Table) -> Table:
    """Return the table as a narrow page has it: columns for paper alone, sd behind the mean, one n for all below."""
    columns, rows, words = [*table.columns], [[*row.entries] for row in table.rows], [*table.latex_notes]
    for i, column in reversed([*enumerate(columns)]):
        texts = {row[i].text for row in rows}
        if column.spread:
            for row in rows:
                sd = "" if row[i].text in DASHES else f" ± {row[i].text}"
                number, comma, rest = row[i - 1].text.partition(", ")
                row[i - 1] = replace(row[i - 1], text=f"{number}{sd}{comma}{rest}")
            columns[i - 1] = replace(columns[i - 1], help=f"{columns[i - 1].help} ± {column.help}")
        elif column.latex and not (column.title == "n" and len(texts) == 1 and len(rows) > 1):
            continue
        elif column.latex:
            meaning = f": {column.help}" if column.help else ""
            words.insert(0, f"n = {texts.pop()} in each line{meaning}.")
        del columns[i]
        for row in rows:
            del row[i]
    kept = tuple(replace(row, entries=tuple(own)) for row, own in zip(table.rows, rows, strict=True))
    return replace(table, columns=tuple(columns), rows=kept, latex_notes=tuple(words))
