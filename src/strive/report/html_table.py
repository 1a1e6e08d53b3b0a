"""A table as HTML, made with great-tables. The page's style sheet gives it light and dark appearance."""

import re
from collections.abc import Collection
from typing import Any

import great_tables
import pandas as pd
from markupsafe import Markup, escape

from strive.tables.table import Column, Row, Table

# great-tables takes a tenth of a millisecond for each entry, and longer tables are unreadable.
MOST_LINES = 1000


def web_table(table: Table, name: str, refs: Collection[str] = ()) -> Markup:
    """Return the table as a <table> without title, caption and notes, and with at most MOST_LINES lines.

    name: SECTION-TABLE, its id on the page; the elements title-NAME and caption-NAME name and describe it. refs: refs
    of the rows that have an element to link to, cells-SECTION-REF.
    """
    rows = table.rows[:MOST_LINES]
    linked = any(row.ref in refs for row in rows)
    columns = [*table.columns, *([Column(title="cells")] if linked else [])]
    lines = [_line(row, name.partition("-")[0], refs, linked) for row in rows]
    keys = [f"c{number}" for number in range(len(columns))]
    frame = pd.DataFrame(lines, columns=keys, dtype=object)
    numeric = [key for key, column in zip(keys, columns, strict=True) if column.numeric]
    # great-tables fills a frame of strings entry by entry; pyarrow would copy a whole column each time.
    with pd.option_context("mode.string_storage", "python"):
        made = great_tables.GT(frame, id=name, rowname_col=keys[0]).tab_stubhead(label=_heading(columns[0]))
        made = made.cols_label({key: _heading(column) for key, column in zip(keys[1:], columns[1:], strict=True)})
        made = made.cols_align("left", keys).cols_align("right", numeric)
        # The formatter adds no escaping, because _line has already escaped the text.
        return _marked(made.fmt(str, columns=keys).as_raw_html(), name, rows)


def _heading(column: Column) -> Any:
    # In a label great-tables interprets {{x}} as a unit.
    return great_tables.html(str(escape(column.title)).replace("{", "&#123;"))


def _line(row: Row, section: str, refs: Collection[str], linked: bool) -> list[str]:
    """Return the row's entries as HTML. linked: whether the table ends with a column of links."""
    line = []
    for entry in row.entries:
        text = escape(entry.text)
        if entry.hole or entry.partial:
            text = Markup('<span class="hole">{}</span>').format(text)
        if entry.ref in refs:
            text = Markup('<a href="#cells-{}-{}" title="the cells behind this number">{}</a>').format(
                section, entry.ref, text
            )
        line.append(str(Markup("<strong>{}</strong>").format(text) if entry.bold else text))
    if linked:
        link = Markup('<a href="#cells-{}-{}" title="the cells behind this line">[{}]</a>')
        line.append(str(link.format(section, row.ref, row.ref)) if row.ref in refs else str(escape(row.ref)))
    return line


def _marked(html: str, name: str, rows: tuple[Row, ...]) -> Markup:
    """Return only the <table>, with numbered lines for the filter and marks on lines below a rule."""
    # Drops the style sheet before the table, which has no dark mode.
    html = html[html.index("<table") : html.rindex("</table>") + len("</table>")]
    described = f'<table id="{name}-table" aria-labelledby="title-{name}" aria-describedby="caption-{name}"'
    # headers is redundant, because every heading cell has scope, and it makes up a third of the text.
    html = re.sub(r' headers="[^"]*"', "", html)
    head, body, rest = re.split(r'(?<=<tbody class="gt_table_body">)|(?=</tbody>)', html)
    head = head.replace("<table", described, 1)
    parts = re.split(r"<tr>", body)
    assert len(parts) == len(rows) + 1, "great-tables has another way of writing lines"
    lines = [
        f'<tr data-line="{number}"{" class=rule" if row.rule else ""}>{part}'
        for number, (row, part) in enumerate(zip(rows, parts[1:], strict=True))
    ]
    return Markup("".join([head, parts[0], *lines, rest]))
