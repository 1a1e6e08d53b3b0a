"""A table is data first: what it says, its columns, its entries. How it looks, render.py and the report decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One place of a table."""

    text: str = ""  # what is printed: Unicode, one line, not escaped
    value: float | None = None  # what to sort by; None for text and holes
    bold: bool = False
    hole: bool = False  # there is no number, and `text` says why
    ref: str = ""  # of its cells in the footnote file, where a line has more than one


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What the entries below it are."""

    title: str
    numeric: bool = True  # set flush right
    help: str = ""  # what the title means, in one sentence
    latex: bool = True  # whether a paper's page has room for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a table."""

    entries: tuple[Entry, ...]  # one for each column
    ref: str = ""  # of the line's cells in the footnote file; "" if it has none
    factors: Mapping[str, str] = field(default_factory=dict)  # {knob: value as text}, to filter by
    rule: bool = False  # a line above it


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table, ready to be rendered."""

    name: str  # such as errors; letters, digits and _ alone
    title: str
    caption: str  # how the numbers came about; whole sentences
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # below the table, a sentence each
