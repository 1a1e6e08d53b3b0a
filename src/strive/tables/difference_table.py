"""The table of differences from the baseline, with their intervals, tests and verdicts."""

from collections.abc import Sequence
from dataclasses import replace

from strive.format import counted
from strive.results.conditions import Condition, in_order
from strive.results.line_look import looks_text
from strive.statistics.inference import SIDE
from strive.sweeps.design import Design, DesignName
from strive.sweeps.table_spec import TableSpec
from strive.tables.condition_lines import (
    BETTER_MARK,
    DEAD_PAIRS,
    LATER,
    STEPWISE,
    WORSE_MARK,
    condition_row,
    decision_text,
    marks_note,
    ruled,
    simultaneous_level,
    verdict_mark,
)
from strive.tables.entries import NONE, bounded, cut_notes, p_text
from strive.tables.table import Column, Entry, Table

_PLAN = "Do not add seeds until a test turns significant: fix their number, or looks, beforehand."
_LOOK_COLUMNS = (
    Column(title="newest look", numeric=False, help="that decided the line, or the last one that it had all seeds for"),
    Column(
        title="died",
        numeric=False,
        help="pairs with a dead cell, one that diverged or ended no better than chance; the rate of such pairs is at"
        " most the one given (Clopper and Pearson's upper limit, 95%)",
    ),
)


def difference_table(conditions: Sequence[Condition], table: TableSpec, chosen: Sequence[str] = ()) -> Table:
    """Return one line for each condition that has a baseline: the paired difference and the verdict.

    chosen: keys whose values were chosen for each line.
    """
    unit = table.value.unit
    comma = f", {unit}" if unit else ""
    worse = f": {table.value.worse}" if table.value.better else ""
    level = simultaneous_level(table)
    over = ", for all lines at once" + (" and over all looks" if table.looks is not None else "")
    refs = {condition.label: condition.ref for condition in conditions}
    columns = (
        Column(title=table.labels.heading(table.keys), numeric=False),
        Column(title="baseline", numeric=False),
        Column(title="pairs", help=f"cells that agree in {', '.join(table.pair)}", latex=False),
        Column(title=f"difference{comma}", help=f"own minus baseline{worse}{_bold_decided(conditions, table)}"),
        Column(title="simultaneous interval", help=f"{level}{over}: Student's t over pairs, Bonferroni"),
        Column(title="of the line alone", help=f"its {level} interval, not corrected for the other lines", latex=False),
        *_test_columns(table),
        *(_LOOK_COLUMNS if table.looks is not None else ()),
    )
    rows = [
        replace(
            condition_row(condition, _difference_entries(condition, table), rule),
            baseline_ref=refs.get(condition.baseline, ""),
        )
        for condition, rule in ruled(in_order(conditions, table), table)
    ]
    return Table(
        name="differences",
        title=f"Difference from the baseline{comma}",
        caption=f"{_difference_caption(table)}{_pairs_text(conditions)}{_other_choices(conditions, table, chosen)}",
        aside=_PLAN if table.margin and table.value.better and table.looks is None else "",
        latex_notes=marks_note(conditions, table),
        columns=columns,
        rows=tuple(rows),
        notes=(
            *((STEPWISE,) if any(condition.stepwise for condition in conditions) else ()),
            *((DEAD_PAIRS,) if not table.looks and any(condition.dead_pairs for condition in conditions) else ()),
            *cut_notes(rows),
            *_look_notes(conditions),
        ),
        in_caption=_compared(conditions, table),
    )


def _bold_decided(conditions: Sequence[Condition], table: TableSpec) -> str:
    """Return what a bold difference is, for better or worse; "" if none is."""
    if not any(condition.decided for condition in conditions):
        return ""
    if table.value.better is None:
        return "; bold: shown to differ"
    what = "with a verdict, whichever it is" if table.margin else "shown to differ, for better or worse"
    return f"; bold, on paper {BETTER_MARK} or {WORSE_MARK}: {what}"


def _compared(conditions: Sequence[Condition], table: TableSpec) -> dict[str, Entry]:
    """Return how many differences there are and have a verdict, and the margin."""
    found = [condition for condition in conditions if condition.difference is not None]
    counts = {"compared": len(found), "decided": sum(condition.decided for condition in found)}
    numbers = {name: Entry(text=str(count), value=count) for name, count in counts.items()}
    return numbers | ({"margin": Entry(text=f"{table.margin:g}", value=table.margin)} if table.margin else {})


def _look_notes(conditions: Sequence[Condition]) -> list[str]:
    """Return why lines have no verdict, a sentence each."""
    withheld = dict.fromkeys(condition.withheld for condition in conditions if condition.withheld)
    open_ = [(each.label, each.look.line.reason) for each in conditions if each.look and each.look.line.reason]
    return [*(f"{why[:1].upper()}{why[1:]}." for why in withheld), *(f"{label}: {reason}." for label, reason in open_)]


def _test_columns(table: TableSpec) -> tuple[Column, ...]:
    """Return the columns with the p-values of the tests that decide, and the verdict if the table has a margin."""
    if not table.margin:
        return (Column(title="p", help="two-sided paired t-test, Holm-corrected over the lines of this table"),)
    margin, below, above = _margin_sides(table)
    test = "one-sided paired t-test, Holm-corrected" + (", over all looks" if table.looks is not None else "")
    return (
        Column(title="p, not worse", help=f"small if the difference is {below} {margin}: {test}"),
        Column(title="p, worse", help=f"small if it is {above} {margin}: {test}"),
        Column(title=f"verdict, margin {table.margin:g}", numeric=False, help="of these two tests", latex=False),
    )


def _margin_sides(table: TableSpec) -> tuple[str, str, str]:
    """Return the margin with its sign and unit, the side of it that is not worse, and the side that is."""
    sides = ("below", "above") if table.value.sign > 0 else ("above", "below")
    return table.value.amount(table.value.sign * table.margin), *sides


def _difference_caption(table: TableSpec) -> str:
    value = table.value
    design = f"{table.design.title}{_order_text(table.design)}. " if table.design is not None else ""
    what = f"{design}Differences of the {value.words}, paired by {', '.join(table.pair)}: own minus baseline"
    if value.better is None:
        return (
            f"{what}. Nobody says whether a smaller or a larger {value.words} is better, so no line is called better or"
            " worse."
        )
    what = f"{what}, {value.worse}."
    if not table.margin:
        return (
            f"{what} No margin says which difference is negligible, so each line is either shown to differ from its"
            " baseline (p at most 0.05; the simultaneous interval excludes 0) or undecided, and none is shown to be as"
            " good."
        )
    margin, below, above = _margin_sides(table)
    level = table.looks.alpha / 2 if table.looks is not None else SIDE
    what = (
        f"{what} 'Not worse': the mean difference is shown to be {below} {margin}; 'worse': it is shown to be"
        f" {above} it (one-sided paired t-tests, each p at most {level:g}, Holm-corrected over the lines of this"
        " table); 'undecided': neither is shown. With a verdict, the simultaneous interval lies wholly on one side of"
        f" the margin, unless {LATER} marks it."
    )
    if table.looks is None:
        return what
    return (
        f"{what} The lines have {looks_text(table.looks.looks)}, in the order of the sweep file; p and intervals are"
        " repeated ones (Jennison and Turnbull): they hold over all looks. A decided line keeps its verdict and gets no"
        " more seeds. The tests assume differences near normal; one-sided skew is not cured by looking again."
    )


def _pairs_text(conditions: Sequence[Condition]) -> str:
    """Return how many pairs each line has, as a sentence; "" if they differ."""
    pairs = {condition.difference.n for condition in conditions if condition.difference is not None}
    return f" {counted(pairs.pop(), 'pair')} a line." if len(pairs) == 1 else ""


def _other_choices(conditions: Sequence[Condition], table: TableSpec, chosen: Sequence[str]) -> str:
    """Return in how many lines a chosen value is another than the baseline's, a sentence for each key."""
    compared = [condition for condition in conditions if condition.difference is not None]
    of = {condition.label: condition for condition in conditions}
    sentences = []
    for key in chosen:
        if key in table.keys or any(key not in condition.cells for condition in conditions):
            continue
        other = sum(set(each.cells[key]) != set(of[each.baseline].cells[key]) for each in compared)
        if other:
            sentences.append(
                f" Each line has the {table.labels.title(key)} that was chosen for it; in {other} of"
                f" {len(compared)} it is another than the baseline's."
            )
    return "".join(sentences)


def _order_text(design: Design) -> str:
    return ": each step against the one before" if design.name is DesignName.cumulative else ", sorted by size"


def _difference_entries(condition: Condition, table: TableSpec) -> list[Entry]:
    form = f"{{:+.{table.value.digits}f}}"
    start = [Entry(text=condition.label), Entry(text=condition.baseline)]
    found, judged = condition.difference, condition.judgement
    if found is None:
        rest = [NONE] * (2 + len(_test_columns(table)))
        return [*start, NONE, Entry(text=condition.no_difference, hole=True), *rest, *_look_entries(condition, table)]
    low, high = condition.simultaneous or (None, None)
    if judged is None:
        tests = [Entry(text=decision_text(condition), value=condition.p_holm)]
    else:
        tests = [Entry(text=p_text(p), value=p) for p in (judged.p_no_loss, judged.p_loss)]
        tests.append(Entry(text=decision_text(condition)))
    return [
        *start,
        Entry(text=str(found.n), value=found.n),
        Entry(
            text=form.format(found.mean),
            value=found.mean,
            bold=condition.decided,
            mark=verdict_mark(condition, table.value) + LATER * condition.stepwise,
        ),
        bounded((low, high), table.value, difference=True),
        bounded((found.low, found.high), table.value, difference=True),
        *tests,
        *_look_entries(condition, table),
    ]


def _look_entries(condition: Condition, table: TableSpec) -> list[Entry]:
    if table.looks is None:
        return []
    looked = condition.look
    return [Entry(text=looked.at), Entry(text=looked.died)] if looked is not None else [NONE, NONE]
