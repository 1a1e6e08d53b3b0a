"""Entries that several tables share: numbers, p-values, intervals and their cut ends."""

from collections.abc import Sequence

from strive.statistics.inference import Interval
from strive.sweeps.table_spec import Value
from strive.tables.table import Entry, Row

NONE = Entry(text="-")
_CUT = "‡"  # after the end of an interval that was cut
_CUT_NOTE = f"{_CUT}: cut at what there can be: percentages from 0 to 100, differences of two from -100 to 100."


def p_text(p: float | None) -> str:
    """Return a p value as printed in papers."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float | None) -> str:
    """Return a p value for a sentence, such as p < 0.001."""
    return f"p = {text}" if (text := p_text(p))[0] != "<" else f"p < {text[1:]}"


def number_entry(value: float | None, form: str) -> Entry:
    """Return a number formatted as in "{:.2f}"; a dash for None."""
    return NONE if value is None else Entry(text=form.format(value), value=value)


def count_entry(value: int | None) -> Entry:
    """Return a whole number with commas between thousands; a dash for None."""
    return NONE if value is None else Entry(text=f"{value:,}", value=value)


def bounded(interval: Interval, value: Value, *, difference: bool = False) -> Entry:
    """Return the interval of a value or of a difference, with a mark at an end that was cut."""
    low, high = interval
    if low is None or high is None:
        return NONE
    form = f"{'+' if difference else ''}.{value.digits}f"
    bounds = value.difference_bounds if difference else value.bounds
    ends = (f"{end:{form}}{_CUT if end in bounds else ''}" for end in (low, high))
    return Entry(text=" to ".join(ends))


def cut_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the note on intervals that were cut, if there are any."""
    return (_CUT_NOTE,) if any(_CUT in entry.text for row in rows for entry in row.entries) else ()
