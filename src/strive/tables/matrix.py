"""The matrix of a sweep: means by two keys, with verdicts as marks."""

from collections.abc import Sequence

from strive.results.conditions import Condition
from strive.sweeps.labels import ARM
from strive.sweeps.table_spec import TableSpec, Value
from strive.tables.condition_lines import (
    as_title,
    at_chance_note,
    best_note,
    heading,
    marks_note,
    partial_note,
    verdict_mark,
    words_of,
)
from strive.tables.table import Column, Entry, Row, Table

_MOST_COLUMNS = 6  # of a matrix that the sweep file does not ask for


def matrix_keys(conditions: Sequence[Condition], table: TableSpec) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the keys of a matrix's rows and of its columns; None if there is none to show.

    They are the sweep file's, or where it has rows alone, the last of several keys becomes columns.
    """
    if table.columns:
        return table.rows, table.columns
    if len(table.rows) < 2 or ARM in table.rows:
        return None
    keys = table.rows[:-1], table.rows[-1:]
    sizes = [len({words_of(condition, each) for condition in conditions}) for each in keys]
    return keys if min(sizes) > 1 and sizes[1] <= _MOST_COLUMNS else None


def matrix(
    conditions: Sequence[Condition], table: TableSpec, keys: tuple[tuple[str, ...], tuple[str, ...]], caption: str
) -> Table:
    """Return the matrix of rows and columns: mean, spread, n, verdict, and the paper's number.

    keys: those of the rows, those of the columns.
    """
    by_row: dict[str, dict[str, Condition]] = {}
    for condition in conditions:
        row, column = (heading(condition, each) for each in keys)
        by_row.setdefault(row, {})[column] = condition
    titles = list(dict.fromkeys(heading(condition, keys[1]) for condition in conditions))
    names = [table.labels.heading(each) if len(each) > 1 else "".join(map(table.labels.title, each)) for each in keys]
    first = " / ".join(filter(None, names))
    rows = []
    for row, found in by_row.items():
        entries = [Entry(text=row), *(_short(found.get(title), table.value) for title in titles)]
        some = next(iter(found.values()))
        rows.append(Row(entries=tuple(entries), factors=table.labels.texts({key: some.key[key] for key in keys[0]})))
    return Table(
        name="overview",
        title=as_title(f"{table.value.title}, by {', '.join(map(table.labels.title, (*keys[0], *keys[1])))}"),
        caption=caption,
        columns=(Column(title=first, numeric=False), *(Column(title=title) for title in titles)),
        rows=tuple(rows),
        notes=_matrix_notes(conditions, table),
    )


def _matrix_notes(conditions: Sequence[Condition], table: TableSpec) -> tuple[str, ...]:
    """Return what the numbers and marks of the matrix are."""
    sizes = {condition.summary.n for condition in conditions if condition.summary}
    papers = any(condition.paper is not None and condition.paper.error is not None for condition in conditions)
    spread = any(condition.summary.sd is not None for condition in conditions if condition.summary)
    size = f"{sizes.pop()} " if len(sizes) == 1 else ""
    means = (
        f"Mean{' ± sample standard deviation' if spread else ''} over the {size}cells (a training each) that differ in"
    )
    one = "Each number is of one cell (a training)" if size == "1 " else f"{means} {', '.join(table.pair)}"
    paper = " In parentheses: the paper's number." if papers else ""
    return (
        f"{one}{best_note(conditions)}.{paper}",
        *marks_note(conditions, table),
        *partial_note(conditions),
    )


def _short(condition: Condition | None, value: Value) -> Entry:
    if condition is None:
        return Entry(text="excluded", hole=True)
    summary = condition.summary or condition.partial
    if summary is None:
        return Entry(text=condition.hole, hole=True, ref=condition.ref)
    text = f"{summary.mean:.{value.digits}f}"
    text += f" ± {summary.sd:.{value.digits}f}" if summary.sd is not None else ""
    if condition.partial is not None:
        text += f", {summary.n} of {len(condition.cells)} done"
        return Entry(text=text, value=summary.mean, partial=True, ref=condition.ref)
    text += verdict_mark(condition, value)
    if condition.paper is not None and condition.paper.error is not None:
        text += f" ({condition.paper.error:.2f}{'' if condition.paper.certain else '?'})"
    text += at_chance_note(condition)
    return Entry(text=text, value=summary.mean, bold=condition.best, ref=condition.ref)
