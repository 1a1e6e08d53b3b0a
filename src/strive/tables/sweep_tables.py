"""The tables of one sweep, from its places: what each says, not how it looks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from strive.results.conditions import Place
from strive.results.labels import knob_title, place_label, short_label, value_text, value_texts
from strive.results.load import Loaded
from strive.statistics.factorial import Effects
from strive.statistics.inference import LEVEL
from strive.sweeps import table_spec
from strive.tables.table import Column, Entry, Row, Table

_NONE = Entry(text="-")


def value_title(table: table_spec.Table) -> str:
    """Return what the table shows, with its unit."""
    return f"{table.value.value.replace('_', ' ')}, {'%' if table.value.is_error else 'nats'}"


def error_table(places: Sequence[Place], table: table_spec.Table, caption: str) -> Table:
    """Return one line for each place: parameters, n, mean, spread, interval, and the paper's number beside it."""
    papers = any(place.paper is not None for place in places)
    columns = [
        Column(title="net" if "model.variant" in table.keys else "cells of", numeric=False),
        Column(title="parameters", help="trainable numbers of the net, biases included"),
        Column(title="n", help="cells that differ in seed alone and are done"),
        Column(title=value_title(table), help="mean over seeds; for n = 1 the one value"),
        Column(title="sd", help="sample standard deviation over seeds (n - 1)"),
        Column(title="95% interval", help="of the mean, Student's t over seeds"),
    ]
    if papers:
        columns += [
            Column(title="paper", help="the paper's number; 'new' where it has none"),
            Column(title="paper's parameters", latex=False),
            Column(title="gap", help="our mean minus the paper's number, in points"),
            Column(title="in interval", numeric=False, help="whether the paper's number lies in our 95% interval"),
        ]
    rows = []
    for place, rule in ruled(places, table):
        entries = [Entry(text=place.label), _count(place.parameters), *_summary_entries(place)]
        rows.append(_row(place, [*entries, *_paper_entries(place)] if papers else entries, rule))
    return Table(
        name="errors", title=_title(value_title(table)), caption=caption, columns=tuple(columns), rows=tuple(rows)
    )


def matrix(places: Sequence[Place], table: table_spec.Table, caption: str) -> Table:
    """Return the table's rows and columns as the sweep file has them: mean, spread, n."""
    by_row: dict[str, dict[str, Place]] = {}
    for place in places:
        row, column = (_words(place, keys) for keys in (table.rows, table.columns))
        by_row.setdefault(row, {})[column] = place
    titles = list(dict.fromkeys(_words(place, table.columns) for place in places))
    first = ", ".join(map(knob_title, table.rows)) or "all cells"
    rows = []
    for row, found in by_row.items():
        entries = [Entry(text=row), *(_short(found.get(title)) for title in titles)]
        some = next(iter(found.values()))
        rows.append(Row(entries=tuple(entries), factors=value_texts({key: some.key[key] for key in table.rows})))
    sizes = {place.summary.n for place in places if place.summary}
    size = f" n = {sizes.pop()}." if len(sizes) == 1 else ""
    return Table(
        name="overview",
        title=_title(f"{value_title(table)}, by {', '.join(map(knob_title, table.columns))}"),
        caption=f"{caption} Mean ± sample standard deviation over seeds.{size}",
        columns=(Column(title=first, numeric=False), *(Column(title=title) for title in titles)),
        rows=tuple(rows),
    )


def difference_table(places: Sequence[Place], table: table_spec.Table) -> Table:
    """Return one line for each place that has a baseline: the paired difference and what it shows."""
    unit = table.value.unit
    columns = (
        Column(title="net" if "model.variant" in table.keys else "cells of", numeric=False),
        Column(title="baseline", numeric=False),
        Column(title="pairs", help=f"cells that agree in {', '.join(table.pair)}", latex=False),
        Column(title=f"difference, {unit}", help="own minus baseline: above 0 is worse"),
        Column(title="95% interval", help="of the mean difference, Student's t over pairs; not corrected"),
        Column(title="p", help="two-sided paired t-test", latex=False),
        Column(title="p, Holm", help="corrected for the number of differences in this table"),
        Column(title=f"loss, margin {table.margin:g}", numeric=False, help="non-inferiority, Holm-corrected"),
        Column(
            title="seeds to add",
            help="that would decide it with power 0.8, if mean and spread stay as they are",
            latex=False,
        ),
    )
    rows = [
        _row(place, _difference_entries(place), rule) for place, rule in ruled([p for p in places if p.baseline], table)
    ]
    return Table(
        name="differences",
        title=f"Difference from the baseline, {unit}",
        caption=(
            f"Differences of the {table.value.value.replace('_', ' ')}, paired by {', '.join(table.pair)}: own minus"
            f" baseline, above 0 is worse. 'No loss shown': the mean difference is shown to be below {table.margin:g}"
            f" {unit} (one-sided paired t-test at 0.025, Holm-corrected over the lines of this table); 'loss shown':"
            " shown to be above it; else there are not enough seeds. An interval is of its line alone, so it may clear"
            " the margin without a verdict. Seeds that are added until a verdict comes spoil it: plan their number."
        ),
        columns=columns,
        rows=tuple(rows),
    )


def effect_table(effects: Effects) -> Table:
    """Return one line for each main effect and interaction."""
    rows = []
    for each in effects.effects:
        source = " x ".join(map(knob_title, each.source))
        texts = [str(each.df), f"{each.f:.2f}", p_text(each.p), f"{each.share:.2f}"]
        values = [float(each.df), each.f, each.p, each.share]
        entries = [Entry(text=source), *(Entry(text=t, value=v) for t, v in zip(texts, values, strict=True))]
        rows.append(Row(entries=tuple(entries)))
    block = ", with the seed as a block" if effects.blocked else ""
    return Table(
        name="effects",
        title="Main effects and interactions",
        caption=(
            f"Analysis of variance over all cells{block}; residual standard deviation {effects.residual_sd:.2f},"
            f" {effects.residual_df} degrees of freedom. Share: partial eta squared. Each p is of its line alone."
        ),
        columns=(
            Column(title="effect", numeric=False),
            Column(title="df"),
            Column(title="F"),
            Column(title="p"),
            Column(title="share"),
        ),
        rows=tuple(rows),
    )


def level_table(effects: Effects, table: table_spec.Table) -> Table:
    """Return the marginal mean of each level of each factor."""
    rows = []
    last = ""
    for each in effects.levels:
        entries = (
            Entry(text=knob_title(each.factor)),
            Entry(text=value_text(each.factor, each.value)),
            Entry(text=f"{each.mean:.2f}", value=each.mean),
            Entry(text=f"{each.low:.2f} to {each.high:.2f}"),
        )
        rows.append(Row(entries=entries, rule=bool(last) and last != each.factor))
        last = each.factor
    return Table(
        name="levels",
        title="Means by factor",
        caption=(
            "Each mean is over all cells with that value, its interval about further seeds. Whether the values of a"
            " factor differ, the analysis of variance says: what seeds share is in the intervals and not in it."
        ),
        columns=(
            Column(title="factor", numeric=False),
            Column(title="value", numeric=False),
            Column(title=value_title(table)),
            Column(title="95% interval"),
        ),
        rows=tuple(rows),
    )


def choice_table(loaded: Loaded, places: Sequence[Place], table: table_spec.Table) -> Table | None:
    """Return what was chosen for each net, by which error, over what; None if nothing was."""
    rows = []
    order = {place.label: number for number, place in enumerate(places)}
    for chosen in loaded.choices:
        per = {key: value for key, value in chosen.per.items() if key in loaded.factors}
        texts = (_text_of(per), knob_title(chosen.key), value_text(chosen.key, chosen.value), chosen.why)
        rows.append(Row(entries=tuple(Entry(text=text) for text in texts)))
    rows.sort(key=lambda row: order.get(row.entries[0].text, len(order)))
    for place in places:
        if place.selection is not None and place.selection.value is not None:
            (knob,) = table.select
            texts = (place.label, knob_title(knob), value_text(knob, place.selection.value), place.selection.why)
            rows.append(Row(entries=tuple(Entry(text=text) for text in texts), ref=place.ref))
    if not rows:
        return None
    sweeps = sorted({name for chosen in loaded.choices for name in chosen.sweeps})
    where = f" from the cells of {' and '.join(sweeps)}" if sweeps else ""
    by = {chosen.by for chosen in loaded.choices} | {criterion.value for criterion in table.select.values()}
    return Table(
        name="choices",
        title="What was chosen, and over what",
        caption=f"Chosen by {' and '.join(each.replace('_', ' ') for each in sorted(by))}{where}.{paper_rule(by)}",
        columns=tuple(Column(title=title, numeric=False) for title in ("for", "knob", "value", "why")),
        rows=tuple(rows),
    )


def paper_rule(by: set[str]) -> str:
    """Return what a reader must know where test images chose a value, or ""."""
    if "test_error" not in by:
        return ""
    return (
        " This is the paper's own rule, as it appears: the images that are tested on chose the value, so the errors are"
        " too small."
    )


def hole_table(loaded: Loaded) -> Table | None:
    """Return every cell that has no number in a mean, with the cause; None if there is none."""
    holes = loaded.cells[loaded.cells["status"] != "done"]
    rows = [
        Row(entries=(Entry(text=cell), Entry(text=status.replace("_", " ")), Entry(text=cause)))
        for cell, status, cause in zip(holes["cell"], holes["status"], holes["cause"], strict=True)
    ]
    if not rows:
        return None
    counted = Counter(map(str, holes["status"])).most_common()
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counted)
    return Table(
        name="holes",
        title="Cells without a number",
        caption=f"Of {len(loaded.cells)} cells: {counts}. No mean is taken where one of its cells is among these.",
        columns=tuple(Column(title=title, numeric=False) for title in ("cell", "status", "cause")),
        rows=tuple(rows),
    )


def gap(place: Place) -> float | None:
    """Return our mean minus the paper's number, in points; None where one is lacking."""
    if place.summary is None or place.paper is None or place.paper.error is None:
        return None
    return place.summary.mean - place.paper.error


def inside(place: Place) -> bool | None:
    """Return whether the paper's number lies in our 95% interval; None where one is lacking."""
    own, paper = place.summary, place.paper
    if own is None or own.low is None or own.high is None or paper is None or paper.error is None:
        return None
    return own.low <= paper.error <= own.high


def p_text(p: float | None) -> str:
    """Return a p value as papers print it."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _row(place: Place, entries: Sequence[Entry], rule: bool) -> Row:
    return Row(entries=tuple(entries), ref=place.ref, factors=value_texts(place.key), rule=rule)


def ruled(places: Sequence[Place], table: table_spec.Table) -> list[tuple[Place, bool]]:
    """Return each place, and whether a line stands above it: the first of several keys has changed."""
    if len(table.keys) < 2 or not places:
        return [(place, False) for place in places]
    first = [place.key[table.keys[0]] for place in places]
    return list(zip(places, [False, *(one != other for one, other in pairwise(first))], strict=True))


def _summary_entries(place: Place) -> list[Entry]:
    summary = place.summary
    if summary is None:
        n = Entry(text=str(len(place.values)), value=len(place.values))
        return [n, Entry(text=place.hole, hole=True), _NONE, _NONE]
    return [
        Entry(text=str(summary.n), value=summary.n),
        Entry(text=f"{summary.mean:.2f}{_dead(place)}", value=summary.mean, bold=place.best),
        _number(summary.sd, "{:.2f}"),
        _interval(summary.low, summary.high, "{:.2f}"),
    ]


def _paper_entries(place: Place) -> list[Entry]:
    paper = place.paper
    if paper is None:
        return [_NONE] * 4
    if paper.error is None:
        return [Entry(text="new"), _NONE, _NONE, _NONE]
    printed = Entry(text=f"{paper.error:.2f}" + ("" if paper.certain else "?"), value=paper.error)
    parameters = Entry(text=paper.parameters) if paper.parameters else _NONE
    if place.summary is None:
        return [printed, parameters, _NONE, _NONE]
    lies = {None: "-", True: "yes", False: "no"}[inside(place)]
    return [printed, parameters, Entry(text=f"{gap(place):+.2f}", value=gap(place)), Entry(text=lies)]


def _difference_entries(place: Place) -> list[Entry]:
    start = [Entry(text=place.label), Entry(text=place.baseline)]
    found, judged = place.difference, place.judgement
    if found is None or judged is None:
        return [*start, _NONE, Entry(text=place.no_difference, hole=True), _NONE, _NONE, _NONE, _NONE, _NONE]
    shown = place.p_holm is not None and place.p_holm < 1 - LEVEL
    return [
        *start,
        Entry(text=str(found.n), value=found.n),
        Entry(text=f"{found.mean:+.2f}", value=found.mean, bold=shown),
        _interval(found.low, found.high, "{:+.2f}"),
        Entry(text=p_text(found.p), value=found.p),
        Entry(text=p_text(place.p_holm), value=place.p_holm),
        Entry(text=judged.verdict.value),
        _count(judged.more_seeds),
    ]


def _short(place: Place | None) -> Entry:
    if place is None:
        return Entry(text="excluded", hole=True)
    if place.summary is None:
        return Entry(text=place.hole, hole=True, ref=place.ref)
    text = f"{place.summary.mean:.2f}"
    text += f" ± {place.summary.sd:.2f}" if place.summary.sd is not None else ""
    text += _dead(place)
    return Entry(text=text, value=place.summary.mean, bold=place.best, ref=place.ref)


def _dead(place: Place) -> str:
    """Return what stands behind a mean that contains replicates which never left chance."""
    return f", {place.dead} of {len(place.values)} dead" if place.dead else ""


def _words(place: Place, keys: Sequence[str]) -> str:
    return _text_of({key: place.key[key] for key in keys})


def _text_of(key: Mapping[str, Any]) -> str:
    return short_label(key) or place_label(key)


def _number(value: float | None, form: str) -> Entry:
    return _NONE if value is None else Entry(text=form.format(value), value=value)


def _count(value: int | None) -> Entry:
    return _NONE if value is None else Entry(text=f"{value:,}", value=value)


def _interval(low: float | None, high: float | None, form: str) -> Entry:
    return _NONE if low is None or high is None else Entry(text=f"{form.format(low)} to {form.format(high)}")


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]
