"""The table of a sweep's values: a line for each condition, with n, mean, spread, interval and the paper's number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from strive.results.conditions import Condition
from strive.sweeps.table_spec import TEST_ERROR, TableSpec, Value
from strive.tables.condition_lines import as_title, at_chance_note, best_note, condition_row, partial_note, ruled
from strive.tables.entries import NONE, bounded, count_entry, cut_notes, number_entry
from strive.tables.table import Column, Entry, Table


def error_table(
    conditions: Sequence[Condition],
    table: TableSpec,
    caption: str,
    in_caption: Mapping[str, Entry] = MappingProxyType({}),
    aside: str = "",
) -> Table:
    """Return one line for each condition: parameters, n, mean, spread, interval, and the paper's number."""
    papers = any(condition.paper is not None for condition in conditions)
    sized = table.value.name == TEST_ERROR.name or any(condition.parameters is not None for condition in conditions)
    columns = [
        Column(title=table.labels.heading(table.keys), numeric=False),
        *([Column(title="parameters", help="trainable numbers of the net, biases included")] if sized else []),
        Column(title="n", help=f"cells (a training each) that differ in {', '.join(table.pair)} alone and are done"),
        Column(
            title=table.value.title,
            help=f"mean over the n cells of the line; for n = 1 the one value{best_note(conditions)}",
        ),
        Column(title="sd", help="sample standard deviation over these cells (n - 1)", spread=True),
        Column(
            title="95% interval",
            help="of the mean, Student's t over these cells; says nothing of the difference of two lines",
        ),
    ]
    if papers:
        columns += [
            Column(title="paper", help="the paper's number; 'new' where it has none"),
            Column(title="paper's parameters", latex=False),
            Column(title="gap", help="our mean minus the paper's number, in points"),
            Column(
                title="prediction interval",
                help="where one further value of ours lies with probability 95%: mean ± t · sd · √(1 + 1/n)",
                latex=False,
            ),
            Column(
                title="fits",
                numeric=False,
                help="whether the paper's number lies in our 95% prediction interval; 'yes' does not show that ours is"
                " the same, as a wide interval contains much",
            ),
        ]
    rows = []
    for condition, rule in ruled(conditions, table):
        parameters = [count_entry(condition.parameters)] if sized else []
        entries = [Entry(text=condition.label), *parameters, *_summary_entries(condition, table.value)]
        paper = _paper_entries(condition, table.value) if papers else []
        rows.append(condition_row(condition, [*entries, *paper], rule))
    return Table(
        name="errors",
        title=as_title(table.value.title),
        caption=caption,
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(*cut_notes(rows), *partial_note(conditions)),
        in_caption=in_caption,
        aside=aside,
    )


def gap(condition: Condition) -> float | None:
    """Return our mean minus the paper's number, in percentage points; None if one is missing."""
    if condition.summary is None or condition.paper is None or condition.paper.error is None:
        return None
    return condition.summary.mean - condition.paper.error


def compatible(condition: Condition) -> bool | None:
    """Return whether the paper's number lies in our 95% prediction interval; None if one is missing."""
    own, paper = condition.summary, condition.paper
    if own is None or own.next_low is None or own.next_high is None or paper is None or paper.error is None:
        return None
    return own.next_low <= paper.error <= own.next_high


def _summary_entries(condition: Condition, value: Value) -> list[Entry]:
    summary, form = condition.summary, f"{{:.{value.digits}f}}"
    if (some := condition.partial) is not None:
        n = Entry(text=f"{some.n} of {len(condition.cells)}", value=some.n, partial=True)
        mean = Entry(text=form.format(some.mean), value=some.mean, partial=True)
        return [n, mean, replace(number_entry(some.sd, form), partial=True), NONE]
    if summary is None:
        n = Entry(text=str(len(condition.values)), value=len(condition.values))
        return [n, Entry(text=condition.hole, hole=True), NONE, NONE]
    return [
        Entry(text=str(summary.n), value=summary.n),
        Entry(text=f"{form.format(summary.mean)}{at_chance_note(condition)}", value=summary.mean, bold=condition.best),
        number_entry(summary.sd, form),
        bounded((summary.low, summary.high), value),
    ]


def _paper_entries(condition: Condition, value: Value) -> list[Entry]:
    paper, own = condition.paper, condition.summary
    if paper is None:
        return [NONE] * 5
    if paper.error is None:
        return [Entry(text="new"), NONE, NONE, NONE, NONE]
    printed = Entry(text=f"{paper.error:.2f}" + ("" if paper.certain else "?"), value=paper.error)
    parameters = Entry(text=paper.parameters) if paper.parameters else NONE
    if own is None:
        return [printed, parameters, NONE, NONE, NONE]
    apart = Entry(text=f"{gap(condition):+.2f}", value=gap(condition))
    lies = {None: "-", True: "yes", False: "no"}[compatible(condition)]
    prediction = bounded((own.next_low, own.next_high), value)
    return [printed, parameters, apart, prediction, Entry(text=lies)]
