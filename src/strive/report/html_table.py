"""A table as HTML: every text is escaped, numbers are flush right, and refs lead to their cells."""

from collections.abc import Collection, Mapping

from markupsafe import Markup

from strive.tables.table import Column, Entry, Row, Table

MOST_LINES = 1000  # a longer table is unreadable

_TABLE = Markup(
    '<table id="{name}-table" aria-labelledby="title-{name}" aria-describedby="caption-{name}">\n'
    "<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
)
_LINK = Markup('<a href="#cells-{}-{}" title="the cells behind this {}">{}</a>')


class Places:
    """The values of knobs that lines of a section stand for, each once: lines name them by number, for the filter."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {}

    def number(self, factors: Mapping[str, str]) -> int:
        """Return the number of these values."""
        return self._numbers.setdefault(tuple(factors.items()), len(self._numbers))

    @property
    def factors(self) -> list[dict[str, str]]:
        """Return the values in the order of their numbers."""
        return [dict(items) for items in self._numbers]


def web_table(table: Table, name: str, places: Places, refs: Collection[str] = ()) -> Markup:
    """Return the table as a <table> without title, caption and notes, and with at most MOST_LINES lines.

    name: SECTION-TABLE, its id on the page; the elements title-NAME and caption-NAME name and describe it. refs: refs
    of the rows that have an element to link to, cells-SECTION-REF.
    """
    rows, section = table.rows[:MOST_LINES], name.partition("-")[0]
    linked = any(row.ref in refs for row in rows)
    columns = [*table.columns, *([Column(title="cells")] if linked else [])]
    body = Markup("\n").join(_line(row, columns, section, places, refs, linked=linked) for row in rows)
    return _TABLE.format(name=name, head=Markup("").join(map(_heading, columns)), body=body)


def _heading(column: Column) -> Markup:
    return Markup('<th scope="col"{}>{}</th>').format(_side(column), column.title)


def _side(column: Column) -> Markup:
    return Markup(' class="number"') if column.numeric else Markup("")


def _line(
    row: Row, columns: list[Column], section: str, places: Places, refs: Collection[str], *, linked: bool
) -> Markup:
    """Return one line. linked: whether the table ends with a column of links."""
    parts = [
        _entry(entry, column, section, refs, head=not number)
        for number, (entry, column) in enumerate(zip(row.entries, columns, strict=False))
    ]
    if linked:
        links = (_link(ref, section, refs) for ref in (row.ref, row.baseline_ref) if ref)
        parts.append(Markup('<td class="number">{}</td>').format(Markup(", ").join(links)))
    place = Markup(' data-place="{}"').format(places.number(row.factors)) if row.factors else ""
    rule = Markup(' class="rule"') if row.rule else ""
    return Markup("<tr{}{}>{}</tr>").format(place, rule, Markup("").join(parts))


def _link(ref: str, section: str, refs: Collection[str]) -> Markup | str:
    return _LINK.format(section, ref, "line", f"[{ref}]") if ref in refs else ref


def _entry(entry: Entry, column: Column, section: str, refs: Collection[str], *, head: bool) -> Markup:
    text = Markup('<span class="hole">{}</span>').format(entry.text) if entry.hole or entry.partial else entry.text
    if entry.ref in refs:
        text = _LINK.format(section, entry.ref, "number", text)
    if entry.bold:
        text = Markup("<strong>{}</strong>").format(text)
    # What the script sorts by, where it is not the text.
    value = "" if entry.value is None else Markup(' data-value="{:.9g}"').format(entry.value)
    form = Markup('<th scope="row"{}{}>{}</th>') if head else Markup("<td{}{}>{}</td>")
    return form.format(_side(column), value, text)
