"""The tables of one sweep, built from its conditions as data that the renderers print."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from strive.format import counted
from strive.results.conditions import Condition, in_order
from strive.results.failures import holes_note
from strive.results.line_look import looks_text
from strive.results.load import Loaded
from strive.statistics.factorial import Assumptions, Effect, Effects
from strive.statistics.inference import SIDE, Interval, Verdict, cut
from strive.sweeps.choice import Choice
from strive.sweeps.design import Design, DesignName
from strive.sweeps.labels import ARM, Labels
from strive.sweeps.table_spec import TEST_ERROR, TableSpec, Value
from strive.tables.table import Column, Entry, Row, Table

_NONE = Entry(text="-")
LATER = "†"  # after what only a later step of Holm's correction decides
_CUT = "‡"  # after the end of an interval that was cut
_BETTER, _WORSE = "\u2217", "•"  # after a value with a verdict
_MOST_COLUMNS = 6  # of a matrix that the sweep file does not ask for
_CUT_NOTE = f"{_CUT}: cut at what there can be: percentages from 0 to 100, differences of two from -100 to 100."
_PLAN = "Do not add seeds until a test turns significant: fix their number, or looks, beforehand."
DEAD_PAIRS = "Dead: a pair with a cell that ended no better than chance."
STEPWISE = (
    f"{LATER}: decided by a later step of Holm's correction. The simultaneous interval is that of the first step, so it"
    " contains what is ruled out."
)


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
            help=f"mean over the n cells of the line; for n = 1 the one value{_bold_best(conditions)}",
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
        parameters = [_count(condition.parameters)] if sized else []
        entries = [Entry(text=condition.label), *parameters, *_summary_entries(condition, table.value)]
        paper = _paper_entries(condition, table.value) if papers else []
        rows.append(_row(condition, [*entries, *paper], rule))
    return Table(
        name="errors",
        title=_title(table.value.title),
        caption=caption,
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(*cut_notes(rows), *_partial_note(conditions)),
        in_caption=in_caption,
        aside=aside,
    )


def matrix_keys(conditions: Sequence[Condition], table: TableSpec) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the keys of a matrix's rows and of its columns; None if there is none to show.

    They are the sweep file's, or where it has rows alone, the last of several keys becomes columns.
    """
    if table.columns:
        return table.rows, table.columns
    if len(table.rows) < 2 or ARM in table.rows:
        return None
    keys = table.rows[:-1], table.rows[-1:]
    sizes = [len({_words(condition, each) for condition in conditions}) for each in keys]
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
        title=_title(f"{table.value.title}, by {', '.join(map(table.labels.title, (*keys[0], *keys[1])))}"),
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
        f"{one}{_bold_best(conditions)}.{paper}",
        *marks_note(conditions, table),
        *_partial_note(conditions),
    )


def _bold_best(conditions: Sequence[Condition]) -> str:
    """Return what a bold mean is, as a sentence's end; "" if none is."""
    if not any(condition.best for condition in conditions):
        return ""
    return "; bold: shown to be better than every other with the same data (paired t-tests, Holm-corrected)"


def _partial_note(conditions: Sequence[Condition]) -> tuple[str, ...]:
    """Return what numbers are of which not all cells are done, if there are any."""
    found = any(condition.partial is not None for condition in conditions)
    return ("Grey or italic: not all cells are done. It is no result, and nothing is compared with it.",) * found


def marks_note(conditions: Sequence[Condition], table: TableSpec) -> tuple[str, ...]:
    """Return what the marks of verdicts mean, if a line is compared with a baseline."""
    compared = sum(condition.difference is not None for condition in conditions)
    if not compared or table.value.better is None:
        return ()
    against = f"Against its baseline, corrected for {counted(compared, 'comparison')}"
    if not table.margin:
        return (f"{against}: {_BETTER} shown to be better, {_WORSE} shown to be worse; without a mark: undecided.",)
    return (
        f"{against}, where up to {table.value.amount(table.margin)} worse counts as equal:"
        f" {_BETTER} {Verdict.not_worse.value}, {_WORSE} {Verdict.worse.value}; without a mark: undecided.",
    )


def verdict_mark(condition: Condition, value: Value) -> str:
    """Return the sign of a verdict on a condition's difference; "" if there is none."""
    if not condition.decided or condition.difference is None or condition.withheld or value.better is None:
        return ""
    if condition.judgement is not None:
        return _BETTER if condition.judgement.verdict is Verdict.not_worse else _WORSE
    return _WORSE if value.sign * condition.difference.mean > 0 else _BETTER


def simultaneous_level(table: TableSpec) -> str:
    """Return the level of the intervals of differences, such as 95%."""
    return "95%" if table.looks is None else f"{100 * (1 - table.looks.alpha):g}%"


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
            _row(condition, _difference_entries(condition, table), rule), baseline_ref=refs.get(condition.baseline, "")
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
    return f"; bold, on paper {_BETTER} or {_WORSE}: {what}"


def _compared(conditions: Sequence[Condition], table: TableSpec) -> dict[str, Entry]:
    """Return how many differences there are and have a verdict, and the margin."""
    found = [condition for condition in conditions if condition.difference is not None]
    counts = {"compared": len(found), "decided": sum(condition.decided for condition in found)}
    numbers = {name: Entry(text=str(count), value=count) for name, count in counts.items()}
    return numbers | ({"margin": Entry(text=f"{table.margin:g}", value=table.margin)} if table.margin else {})


_LOOK_COLUMNS = (
    Column(title="newest look", numeric=False, help="that decided the line, or the last one that it had all seeds for"),
    Column(
        title="died",
        numeric=False,
        help="pairs with a dead cell, one that diverged or ended no better than chance; the rate of such pairs is at"
        " most the one given (Clopper and Pearson's upper limit, 95%)",
    ),
)


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


def effect_table(effects: Effects, table: TableSpec) -> Table:
    """Return one line for each main effect and interaction."""
    rows = []
    for each in effects.effects:
        source = " x ".join(map(table.labels.title, each.source))
        entries = (
            Entry(text=source),
            Entry(text=str(each.df), value=each.df),
            Entry(text=f"{each.f:.2f}", value=each.f),
            Entry(text=p_text(each.p), value=each.p),
            *_unequal_entries(each),
            Entry(text=f"{each.share:.2f}", value=each.share),
        )
        rows.append(Row(entries=entries))
    block = ", with the seed as a block" if effects.blocked else ""
    spread = f"{effects.residual_sd:.{table.value.digits}f}"
    return Table(
        name="effects",
        title="Main effects and interactions",
        caption=(
            f"Analysis of variance over all cells{block}; residual standard deviation {spread},"
            f" {effects.residual_df} degrees of freedom. Share: partial eta squared, of what no other"
            " effect explains; shares do not add up to 1. Each p is of its line alone, not corrected for the other"
            " lines; a large one does not show that there is no effect."
            f" {assumptions_text(effects.assumptions)}"
        ),
        columns=(
            Column(title="effect", numeric=False),
            Column(title="df"),
            Column(title="F"),
            Column(title="p", help="assumes that all combinations have the same spread"),
            Column(title="df, any spread"),
            Column(title="error df, any spread"),
            Column(title="F, any spread"),
            Column(title="p, any spread", help=_any_spread(effects)),
            Column(title="share"),
        ),
        rows=tuple(rows),
        in_caption=_assumptions(effects, spread),
    )


def _unequal_entries(effect: Effect) -> list[Entry]:
    """Return both degrees of freedom, F and p without equal spread."""
    test = effect.unequal
    if test is None:
        return [_NONE] * 4
    return [
        *(Entry(text=f"{number:.2f}", value=number) for number in (test.df, test.error_df, test.f)),
        Entry(text=p_text(test.p), value=test.p),
    ]


def _assumptions(effects: Effects, spread: str) -> dict[str, Entry]:
    """Return the numbers of the caption."""
    found = effects.assumptions
    return {
        "residual_sd": Entry(text=spread, value=effects.residual_sd),
        "residual_df": Entry(text=str(effects.residual_df), value=effects.residual_df),
        "variance_ratio": Entry(text=_ratio(found.variance_ratio), value=found.variance_ratio),
        "p_equal_spread": Entry(text=p_text(found.p_equal), value=found.p_equal),
        "p_normal": Entry(text=p_text(found.p_normal), value=found.p_normal),
    }


def _ratio(ratio: float) -> str:
    return "infinite" if math.isinf(ratio) else f"{ratio:,.{0 if ratio >= 10 else 1}f}"


def assumptions_text(found: Assumptions) -> str:
    """Return what the cells say of the assumptions of an analysis, and which p that leaves to read."""
    one = "A combination has no variance over seeds at all"
    if math.isfinite(found.variance_ratio):
        one = f"The largest variance over seeds is {_ratio(found.variance_ratio)} times the smallest"
    tests = [f"{one} (Bartlett's test of equal spread: {p_is(found.p_equal)})"]
    if found.p_normal is not None:
        tests.append(f"Shapiro and Wilk's test of normal residuals: {p_is(found.p_normal)}")
    said = "Neither assumption is rejected, which says little with few seeds"
    if found.p_normal is None:
        said = "Equal spread is not rejected, which says little with few seeds"
    if not found.equal_spread:
        said = "The cells contradict the equal spread that p assumes: read 'p, any spread', which does without"
        said += "" if found.normal else ", but assumes normal residuals, too, and the cells contradict these as well"
    elif not found.normal:
        said = "The cells contradict the normal residuals that both p assume"
    return f"{'; '.join(tests)}. {said}."


def _any_spread(effects: Effects) -> str:
    if effects.blocked:
        return "the effect over its own variation between seeds, degrees of freedom after Geisser and Greenhouse"
    return "each combination with its own variance, degrees of freedom after Brunner, Dette and Munk"


def level_table(effects: Effects, table: TableSpec) -> Table:
    """Return the marginal mean of each level of each factor."""
    rows, digits = [], table.value.digits
    last, doubt = "", "" if effects.assumptions.equal_spread else ", which the cells contradict"
    shared = ": what a seed changes in all cells alike is in them" if effects.blocked else ""
    for each in effects.levels:
        entries = (
            Entry(text=table.labels.title(each.factor)),
            Entry(text=table.labels.text(each.factor, each.value)),
            Entry(text=str(each.n), value=each.n),
            Entry(text=f"{each.mean:.{digits}f}", value=each.mean),
            bounded(cut(each.mean, (each.low, each.high), table.value.bounds), table.value),
        )
        rows.append(Row(entries=entries, rule=bool(last) and last != each.factor))
        last = each.factor
    return Table(
        name="levels",
        title="Means by factor",
        caption=(
            "Each mean is over all cells with that value. Its interval is about further seeds, and assumes that all"
            f" combinations have one spread{doubt}. To compare the values of a factor, read the analysis of variance,"
            f" not these intervals{shared}."
        ),
        columns=(
            Column(title="factor", numeric=False),
            Column(title="value", numeric=False),
            Column(title="n", help="cells with that value"),
            Column(title=table.value.title),
            Column(title="95% interval"),
        ),
        rows=tuple(rows),
        notes=cut_notes(rows),
    )


def choice_table(
    loaded: Loaded,
    conditions: Sequence[Condition],
    table: TableSpec,
    again: Mapping[tuple[str, str], Choice] = MappingProxyType({}),
) -> Table | None:
    """Return the value chosen for each net, with the error and the sweeps that decided; None if nothing was chosen.

    again: {(key, repr(per)): what the records choose now}, from which doubts are taken.
    """
    rows, labels, choices = [], table.labels, list[Choice]()
    order = {condition.label: number for number, condition in enumerate(conditions)}
    for chosen in loaded.choices:
        per = {key: value for key, value in chosen.per.items() if key in loaded.factors}
        choices.append(again.get((chosen.key, repr(chosen.per)), Choice(chosen.value, chosen.why)))
        texts = (_text_of(per, labels), labels.title(chosen.key), labels.text(chosen.key, chosen.value), chosen.why)
        rows.append(Row(entries=tuple(Entry(text=text) for text in (*texts, choices[-1].doubt))))
    rows.sort(key=lambda row: order.get(row.entries[0].text, len(order)))
    for condition in conditions:
        if condition.selection is not None and (choice := condition.selection.choice) is not None:
            (knob,) = table.select
            choices.append(choice)
            texts = (condition.label, labels.title(knob), labels.text(knob, choice.value), choice.why)
            rows.append(Row(entries=tuple(Entry(text=text) for text in (*texts, choice.doubt)), ref=condition.ref))
    if not rows:
        return None
    sweeps = sorted({name for chosen in loaded.choices for name in chosen.sweeps})
    where = f" from the cells of {' and '.join(sweeps)}" if sweeps else ""
    by = {chosen.by for chosen in loaded.choices} | set(map(str, table.select.values()))
    said = f"Chosen by {' and '.join(each.replace('_', ' ') for each in sorted(by))}{where}."
    return Table(
        name="choices",
        title="What was chosen, and over what",
        caption=f"{said}{chosen_by_test(by)}{_doubts(choices)}",
        columns=tuple(
            Column(title=title, numeric=False, latex=title not in ("why", "doubt"))
            for title in ("for", "knob", "value", "why", "doubt")
        ),
        rows=tuple(rows),
        in_caption={
            name: Entry(text=str(count), value=count)
            for name, count in zip(("chosen", "at_edge", "within_noise"), _doubted(choices), strict=True)
        },
    )


def _doubted(choices: Sequence[Choice]) -> tuple[int, int, int]:
    """Return how many choices there are, lie at the edge of their grid, and lead by less than noise."""
    return len(choices), sum(bool(each.edge) for each in choices), sum(bool(each.noise) for each in choices)


def _doubts(choices: Sequence[Choice]) -> str:
    """Return how many choices lie at the edge of their grid, and how many lead by less than noise, as sentences."""
    _, edges, noisy = _doubted(choices)
    of = f"of {counted(len(choices), 'chosen value')}"
    texts = [
        f" {edges} {of} {'is' if edges == 1 else 'are'} the largest or smallest tried: a better one may lie beyond."
        if edges
        else "",
        f" {noisy} {of} {'has' if noisy == 1 else 'have'} a lead within noise: the next may be as good."
        if noisy
        else "",
    ]
    if any("examples each" in each.noise for each in choices):
        texts.append(
            " A standard error from examples is as if each value was scored on examples of its own: on the same ones,"
            " which are hard for both, it is smaller."
        )
    untested = "'Beats' is said of these numbers, with no test: none is shown to be the best, doubt or not."
    return f"{''.join(texts)} {untested}"


def chosen_by_test(by: set[str]) -> str:
    """Return a warning if values were chosen by test data, or ""."""
    if "test_error" in by:
        return (
            " This is the paper's own rule, as it appears: the images that are tested on chose the value, so the errors"
            " are too small."
        )
    if names := sorted(name for name in by if name.startswith("test")):
        return f" Test data chose the value, by {' and '.join(names)}, so its numbers are too good."
    return ""


def hole_table(loaded: Loaded, not_needed: Collection[str] = ()) -> Table | None:
    """Return all cells without a number, with the cause; None if there are none.

    not_needed: cells that are no holes, because the looks do without them.
    """
    holes = loaded.cells[(loaded.cells["status"] != "done") & ~loaded.cells["cell"].isin(list(not_needed))]
    rows = [
        Row(entries=(Entry(text=cell), Entry(text=status.replace("_", " ")), Entry(text=cause)))
        for cell, status, cause in zip(holes["cell"], holes["status"], holes["cause"], strict=True)
    ]
    if not rows:
        return None
    number, statuses = len(loaded.cells) - len(not_needed), Counter(map(str, holes["status"])).most_common()
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in statuses)
    return Table(
        name="holes",
        title="Cells without a number",
        caption=f"Of {counted(number, 'cell')}: {counts}. {holes_note(looks=bool(not_needed))}",
        columns=tuple(Column(title=title, numeric=False) for title in ("cell", "status", "cause")),
        rows=tuple(rows),
        latex=False,
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


def decision_text(condition: Condition) -> str:
    """Return the verdict on a difference, without a margin its p, with marks; "-" if there is no difference."""
    if condition.difference is None:
        return _NONE.text
    if condition.withheld:
        return "no verdict"
    text = condition.judgement.verdict.value if condition.judgement else p_text(condition.p_holm)
    text += ", left alone" if condition.look is not None and condition.look.left_alone else ""
    text += LATER if condition.stepwise else ""
    n = condition.difference.n
    return text + (f", {condition.dead_pairs} of {n} pairs dead" if condition.dead_pairs else "")


def at_chance_note(condition: Condition) -> str:
    """Return the note after a mean that contains replicates that never left chance."""
    return f", {condition.dead} of {len(condition.values)} dead" if condition.dead else ""


def p_text(p: float | None) -> str:
    """Return a p value as printed in papers."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float | None) -> str:
    """Return a p value for a sentence, such as p < 0.001."""
    return f"p = {text}" if (text := p_text(p))[0] != "<" else f"p < {text[1:]}"


def _row(condition: Condition, entries: Sequence[Entry], rule: bool) -> Row:
    return Row(entries=tuple(entries), ref=condition.ref, factors=condition.labels.texts(condition.key), rule=rule)


def ruled(conditions: Sequence[Condition], table: TableSpec) -> list[tuple[Condition, bool]]:
    """Return each condition, and whether to draw a line above it because the first of several keys has changed."""
    if len(table.keys) < 2 or not conditions:
        return [(condition, False) for condition in conditions]
    first = [condition.key[table.keys[0]] for condition in conditions]
    return list(zip(conditions, [False, *(one != other for one, other in pairwise(first))], strict=True))


def _summary_entries(condition: Condition, value: Value) -> list[Entry]:
    summary, form = condition.summary, f"{{:.{value.digits}f}}"
    if (some := condition.partial) is not None:
        n = Entry(text=f"{some.n} of {len(condition.cells)}", value=some.n, partial=True)
        mean = Entry(text=form.format(some.mean), value=some.mean, partial=True)
        return [n, mean, replace(_number(some.sd, form), partial=True), _NONE]
    if summary is None:
        n = Entry(text=str(len(condition.values)), value=len(condition.values))
        return [n, Entry(text=condition.hole, hole=True), _NONE, _NONE]
    return [
        Entry(text=str(summary.n), value=summary.n),
        Entry(text=f"{form.format(summary.mean)}{at_chance_note(condition)}", value=summary.mean, bold=condition.best),
        _number(summary.sd, form),
        bounded((summary.low, summary.high), value),
    ]


def _paper_entries(condition: Condition, value: Value) -> list[Entry]:
    paper, own = condition.paper, condition.summary
    if paper is None:
        return [_NONE] * 5
    if paper.error is None:
        return [Entry(text="new"), _NONE, _NONE, _NONE, _NONE]
    printed = Entry(text=f"{paper.error:.2f}" + ("" if paper.certain else "?"), value=paper.error)
    parameters = Entry(text=paper.parameters) if paper.parameters else _NONE
    if own is None:
        return [printed, parameters, _NONE, _NONE, _NONE]
    apart = Entry(text=f"{gap(condition):+.2f}", value=gap(condition))
    lies = {None: "-", True: "yes", False: "no"}[compatible(condition)]
    prediction = bounded((own.next_low, own.next_high), value)
    return [printed, parameters, apart, prediction, Entry(text=lies)]


def _difference_entries(condition: Condition, table: TableSpec) -> list[Entry]:
    form = f"{{:+.{table.value.digits}f}}"
    start = [Entry(text=condition.label), Entry(text=condition.baseline)]
    found, judged = condition.difference, condition.judgement
    if found is None:
        rest = [_NONE] * (2 + len(_test_columns(table)))
        return [*start, _NONE, Entry(text=condition.no_difference, hole=True), *rest, *_look_entries(condition, table)]
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
    return [Entry(text=looked.at), Entry(text=looked.died)] if looked is not None else [_NONE, _NONE]


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


def heading(condition: Condition, keys: Sequence[str]) -> str:
    """Return the values of keys in words: Strided, but Base A, and model.width 0.5."""
    if len(keys) != 1:
        return _words(condition, keys)
    (key,), labels = keys, condition.labels
    text = labels.text(key, condition.key[key])
    clear = key == ARM or key in labels.clear or re.search("[A-Za-z]{3}", re.sub("true|false", "", text))
    text = text if clear else f"{labels.title(key)} {text}"
    return _title(text) if text.replace(" ", "").isalpha() else text


def _words(condition: Condition, keys: Sequence[str]) -> str:
    return _text_of({key: condition.key[key] for key in keys}, condition.labels)


def _text_of(key: Mapping[str, Any], labels: Labels) -> str:
    return labels.short(key) or labels.name(key)


def _number(value: float | None, form: str) -> Entry:
    return _NONE if value is None else Entry(text=form.format(value), value=value)


def _count(value: int | None) -> Entry:
    return _NONE if value is None else Entry(text=f"{value:,}", value=value)


def bounded(interval: Interval, value: Value, *, difference: bool = False) -> Entry:
    """Return the interval of a value or of a difference, with a mark at an end that was cut."""
    low, high = interval
    if low is None or high is None:
        return _NONE
    form = f"{'+' if difference else ''}.{value.digits}f"
    bounds = value.difference_bounds if difference else value.bounds
    ends = (f"{end:{form}}{_CUT if end in bounds else ''}" for end in (low, high))
    return Entry(text=" to ".join(ends))


def cut_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the note on intervals that were cut, if there are any."""
    return (_CUT_NOTE,) if any(_CUT in entry.text for row in rows for entry in row.entries) else ()


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]
