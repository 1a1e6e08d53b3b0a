"""The conditions of a table: each groups the cells that differ only in the seed, with their mean and differences."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from strive.cells.metrics import better_of, is_at_chance
from strive.format import counted
from strive.results.code_versions import versions
from strive.results.line_look import LineLook
from strive.results.load import Loaded, with_metrics
from strive.results.published import PaperValue, off_paper, paper_value
from strive.results.record_row import chance_column, metric_column
from strive.results.selection import Selection, select
from strive.statistics.inference import (
    LEVEL,
    Difference,
    Judgement,
    Summary,
    Verdict,
    best,
    difference,
    holm,
    judge,
    simultaneous,
    summarise,
)
from strive.sweeps.design import DesignName
from strive.sweeps.labels import ARM, PLAIN, Labels
from strive.sweeps.table_spec import TEST_ERROR, TableSpec

Pairs = Mapping[tuple[Any, ...], float]
PARAMETERS = "parameters"  # a metric that tables show beside a mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One combination of the table's rows and columns. Shares in percent, other metrics as they are."""

    ref: str  # its number in the footnote file, starting at "1"
    key: Mapping[str, Any]  # {knob of the table, or arm: value}
    label: str  # its name in tables: ALL-CNN-C, or model.width 0.5
    cells: pd.DataFrame  # its rows of Loaded.cells, after the selection
    hole: str  # why there is no mean, such as "2 of 3 done, 1 missing"; "" where there is one
    values: Pairs  # {pairing key: value} of its finished cells that did not diverge
    summary: Summary | None  # None if there is a hole
    parameters: int | None  # None if no cell has finished, or if they differ
    partial: Summary | None = None  # of the cells that are done, where there is a hole and it was asked for
    baseline: str = ""  # label of the condition that it is compared with
    difference: Difference | None = None  # own minus baseline; None for a baseline, or if there is a hole in either
    no_difference: str = ""  # the reason, if there is a baseline but no difference
    simultaneous: tuple[float, float] | None = None  # 95% interval of the difference, for all of the table at once
    p_holm: float | None = None  # two-sided, corrected over all differences of the table; None if it has a margin
    judgement: Judgement | None = None  # None if the table has no margin
    dead_pairs: int = 0  # of its pairs, those in which a cell is dead; of a line with looks, or has diverged
    stepwise: bool = False  # only a later step of Holm's correction decides: the interval contains margin (or 0)
    best: bool = False  # significantly better than every other condition on the same images
    paper: PaperValue | None = None  # None if the table does not correspond to one of the paper's
    selection: Selection | None = None  # the value that the table's `select` chose
    labels: Labels = PLAIN
    data_keys: tuple[str, ...] = ()  # knobs that say which data its cells read
    look: LineLook | None = None  # where the looks at it stand; None for a baseline, and if there are no looks
    needed: tuple[str, ...] = ()  # of its cells those that the looks so far and the next one need
    first_look: tuple[str, ...] = ()  # its cells of the first look
    differences: tuple[float, ...] = ()  # of the pairs of its newest look, in the order of the seeds
    withheld: str = ""  # why its line gets no verdict, whatever its cells say

    @property
    def decided(self) -> bool:
        """Return whether its difference has a verdict; without a margin, whether it is shown to differ from 0."""
        if self.judgement is not None:
            return self.judgement.verdict is not Verdict.undecided
        return self.p_holm is not None and self.p_holm <= 1 - LEVEL

    @property
    def dead(self) -> int:
        """Return the number of its finished cells that never left chance."""
        return sum(map(bool, self.cells["dead"]))


def make_conditions(loaded: Loaded, layout: TableSpec, *, mix: bool) -> list[Condition]:
    """Return the conditions of a table, row by row, each of all of its cells.

    mix: also average cells of different code or images.
    """
    return _with_best(compared(uncompared(loaded, layout, mix=mix), layout, mix), layout, mix)


def uncompared(loaded: Loaded, layout: TableSpec, *, mix: bool) -> list[Condition]:
    """Return the conditions of a table, row by row, before they are compared."""
    loaded = _with_at_chance(
        with_metrics(loaded, layout.value.name, PARAMETERS, *map(str, layout.select.values())), layout
    )
    return [
        replace(condition_of(str(number), key, cells, layout, mix), data_keys=loaded.data_keys)
        for number, (key, cells) in enumerate(_grouped(loaded, layout), 1)
    ]


def with_partial(conditions: Sequence[Condition], layout: TableSpec, *, mix: bool) -> list[Condition]:
    """Return the conditions with a summary of what is done where others of its cells are not."""
    found = []
    for condition in conditions:
        done = condition.cells[condition.cells["status"] == "done"]
        if condition.hole and condition.values and not _hole(done, layout, mix):
            summary = summarise(list(condition.values.values()), layout.value.bounds)
            condition = replace(condition, partial=summary)
        found.append(condition)
    return found


def _with_at_chance(loaded: Loaded, layout: TableSpec) -> Loaded:
    """Return the sweep with dead cells marked by the table's direction, where the metric's name gives none."""
    cells, value = loaded.cells, layout.value
    column, chance = metric_column(value.name), chance_column(value.name)
    if chance not in cells or better_of(value.name) is not None:
        return loaded
    dead = [
        bool(was) or (status == "done" and is_at_chance(_known(own), _known(level), value.better))
        for was, status, own, level in zip(*(cells[key] for key in ("dead", "status", column, chance)), strict=True)
    ]
    return replace(loaded, cells=cells.assign(dead=pd.Series(dead, index=cells.index, dtype=object)))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def split_further(loaded: Loaded, layout: TableSpec) -> list[str]:
    """Return the knobs that must become additional rows because they differ within a condition.

    If the command line sweeps one more knob, cells with different values must not be averaged.
    """
    keys, added = list(layout.keys), list[str]()
    silent = {*layout.pair, *layout.select, ARM}
    for knob in loaded.factors:
        if loaded.decides(knob) and knob not in {*silent, *keys}:
            texts = loaded.cells[knob].map(json.dumps)
            groups = _texts(loaded.cells, keys)
            if texts.groupby(groups, sort=False).nunique().max() > 1:
                keys.append(knob)
                added.append(knob)
    return added


def _texts(cells: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """Return a text for each cell that identifies its condition: values may be lists, infinite, or of several types."""
    return pd.Series(
        list(map(json.dumps, cells[list(keys)].to_numpy(object).tolist())), index=cells.index, dtype=object
    )


def _grouped(loaded: Loaded, layout: TableSpec) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield (key, cells) for each condition: row by row, and within a row column by column."""
    cells = loaded.cells
    ranks = {key: _ranks(key, cells[key], layout.labels) for key in layout.keys}
    groups = [
        ({key: group[key].iloc[0] for key in layout.keys}, group)
        for _, group in cells.groupby(_texts(cells, layout.keys), sort=False)
    ]
    yield from sorted(groups, key=lambda each: [ranks[key][json.dumps(each[0][key])] for key in layout.keys])


def _ranks(key: str, values: pd.Series, labels: Labels) -> dict[str, int]:
    """Return {value: its rank}, in the order that the app gives, or else in the plan's order."""
    options = list(labels.values.get(key, ()))
    order = list(dict.fromkeys(map(json.dumps, values)))
    order.sort(key=lambda text: options.index(text) if text in options else len(options))
    return {text: rank for rank, text in enumerate(order)}


def condition_of(ref: str, key: dict[str, Any], cells: pd.DataFrame, layout: TableSpec, mix: bool) -> Condition:
    """Return the condition of these cells, before it is compared."""
    selection = None
    for knob, by in layout.select.items():
        selection = select(cells, knob, by)
        if selection.value is not None:
            cells = cells[cells[knob].map(json.dumps) == json.dumps(selection.value)]
    hole = selection.why if selection and selection.value is None else _hole(cells, layout, mix)
    column = metric_column(layout.value.name)
    good = cells[(cells["status"] == "done") & cells[column].notna()]
    # Rounded to twelve digits, which keep any two counts of images apart and make 100 x 0.0908 equal to 9.08.
    values = {
        tuple(pair): round(layout.value.factor * value, 12)
        for pair, value in zip(good[list(layout.pair)].to_numpy(object).tolist(), good[column], strict=True)
    }
    parameters = set(cells[PARAMETERS].dropna())
    return Condition(
        ref=ref,
        key=key,
        label=layout.labels.name(key),
        cells=cells,
        hole=hole,
        values=values,
        summary=None if hole else summarise(list(values.values()), layout.value.bounds),
        parameters=int(parameters.pop()) if len(parameters) == 1 else None,
        paper=_paper(layout, key, cells.iloc[0].to_dict()),
        selection=selection,
        labels=layout.labels,
    )


def _paper(layout: TableSpec, key: Mapping[str, Any], config: Mapping[Any, Any]) -> PaperValue | None:
    """Return the paper's number. Only test errors have one, and only conditions whose keys match the paper's set-up."""
    if layout.value.name != TEST_ERROR.name:
        return None
    # The paper may have used any learning rate, and a note mentions JPEG.
    own = {knob: value for knob, value in key.items() if knob not in ("optimizer.lr", "data.name")}
    return PaperValue(error=None) if off_paper(layout.paper, own) else paper_value(layout.paper, config)


def _hole(cells: pd.DataFrame, layout: TableSpec, mix: bool) -> str:
    counts = Counter(cells["status"])
    done = counts.pop("done", 0)
    if counts:
        rest = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())
        if len(cells) == 1:
            return rest.partition(" ")[2]
        return f"{done} of {len(cells)} done, {rest}" if done or len(counts) > 1 else f"all {rest}"
    name = layout.value.name
    if cells[metric_column(name)].isna().any():
        return f"no {name}" + (", nothing held out" if name.startswith("val") and "data.val_images" in cells else "")
    if not mix:
        if (found := versions(cells)) > 1:
            return f"{found} versions of the code"
        if (found := cells["data_fingerprint"].nunique()) > 1:
            return f"{found} versions of the data"
    return ""


def compared(conditions: Sequence[Condition], layout: TableSpec, mix: bool) -> list[Condition]:
    """Return the conditions with their differences from their baselines, Holm-corrected over all of them."""
    by_key = {key_text(condition.key): condition for condition in conditions}
    having_baseline = [with_difference(condition, by_key, layout, mix) for condition in conditions]
    having = [condition for condition in having_baseline if condition.difference is not None]
    differences = [condition.difference for condition in having if condition.difference is not None]
    corrected: list[float | None] = [None] * len(having)
    judged: list[Judgement | None] = [None] * len(having)
    if layout.margin:
        judged = [*judge([_loss(each, layout) for each in differences], layout.margin)]
    else:
        corrected = holm([each.p for each in differences])
    found = {
        condition.ref: _decided(replace(condition, p_holm=p, judgement=judgement, simultaneous=interval), layout)
        for condition, p, judgement, interval in zip(
            having, corrected, judged, simultaneous(differences, layout.value.difference_bounds), strict=True
        )
    }
    return [found.get(condition.ref, condition) for condition in having_baseline]


def in_order(conditions: Sequence[Condition], layout: TableSpec) -> list[Condition]:
    """Return the conditions with a baseline, as tables and figures list them.

    The effects of a design come sorted by size, for each combination of the table's other keys; the steps of a ladder,
    and what has no design, in the order of the table.
    """
    compared = [condition for condition in conditions if condition.baseline]
    if layout.design is None or layout.design.name is DesignName.cumulative:
        return compared
    others = [key for key in layout.keys if key != ARM]
    places = {text: rank for rank, text in enumerate(dict.fromkeys(_part(each, others) for each in conditions))}
    return sorted(
        compared,
        key=lambda each: (
            places[_part(each, others)],
            -abs(each.difference.mean) if each.difference is not None else math.inf,
        ),
    )


def _part(condition: Condition, keys: Sequence[str]) -> str:
    return key_text({key: condition.key[key] for key in keys})


def _decided(condition: Condition, layout: TableSpec) -> Condition:
    """Mark a decision that the interval does not show, because a later step of Holm's correction made it."""
    tested = layout.value.sign * layout.margin
    contains = condition.simultaneous is not None and condition.simultaneous[0] <= tested <= condition.simultaneous[1]
    return replace(condition, stepwise=condition.decided and contains)


def _loss(difference: Difference, layout: TableSpec) -> Difference:
    """Return a difference with the sign that makes a loss positive."""
    if layout.value.sign > 0:
        return difference
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    return replace(difference, mean=-difference.mean, low=low, high=high)


def with_difference(condition: Condition, by_key: Mapping[str, Condition], layout: TableSpec, mix: bool) -> Condition:
    """Return a condition with its difference from its baseline, or why there is none. by_key: {key_text: condition}."""
    wanted = baseline_key(condition.key, layout)
    if wanted is None or wanted == dict(condition.key):
        return condition
    other = by_key.get(key_text(wanted))
    if other is None:
        return replace(condition, baseline=layout.labels.name(wanted), no_difference="the sweep has no such baseline")
    condition = replace(condition, baseline=other.label)
    if condition.hole or other.hole:
        return replace(condition, no_difference=condition.hole or f"{other.label}: {other.hole}")
    if not mix and (why := apart(condition, other, layout.labels)):
        return replace(condition, no_difference=why)
    if lacking := set(condition.values) ^ set(other.values):
        return replace(
            condition,
            no_difference=f"unpaired: {counted(len(lacking), 'value')} of {', '.join(layout.pair)} on one side alone",
        )
    found = difference(condition.values, other.values, layout.value.difference_bounds)
    dead = _dead_keys(condition, layout) | _dead_keys(other, layout)
    return replace(condition, difference=found, dead_pairs=len(dead))


def _dead_keys(condition: Condition, layout: TableSpec) -> set[tuple[Any, ...]]:
    """Return the pairing keys of dead cells."""
    dead = condition.cells[condition.cells["dead"].map(bool)]
    return {tuple(pair) for pair in dead[list(layout.pair)].to_numpy(object).tolist()}


def baseline_key(key: Mapping[str, Any], layout: TableSpec) -> dict[str, Any] | None:
    """Return the key of the condition to compare with; for a baseline, its own key; None if neither applies."""
    if not layout.baseline:
        return None
    wanted = dict(key)
    for knob, rule in layout.baseline.items():
        if not isinstance(rule, Mapping):
            wanted[knob] = rule
        elif key[knob] in rule:
            wanted[knob] = rule[key[knob]]
        elif key[knob] not in rule.values():
            return None
    return wanted


def apart(one: Condition, other: Condition, labels: Labels) -> str:
    """Return why two conditions must not be compared: different code or different data."""
    ours, theirs = one.cells.iloc[0], other.cells.iloc[0]
    # A builder's files are part of the hash, so two builders differ in it legitimately.
    same_builders = all(ours.get(key) == theirs.get(key) for key in labels.builders)
    if same_builders and versions(one.cells, other.cells) > 1:
        return f"other code than {other.label}"
    same = all(ours[key] == theirs[key] for key in one.data_keys)
    if same and ours["data_fingerprint"] != theirs["data_fingerprint"]:
        return f"other {labels.examples} than {other.label}"
    return ""


def _with_best(conditions: list[Condition], layout: TableSpec, mix: bool) -> list[Condition]:
    """Mark the condition that is significantly the best on each data set, if there is one."""
    if layout.value.better is None:
        return conditions
    by_data: dict[str, list[Condition]] = {}
    for condition in conditions:
        row = condition.cells.iloc[0]
        by_data.setdefault(json.dumps([str(row[key]) for key in condition.data_keys]), []).append(condition)
    winners = set()
    for group in by_data.values():
        # The best condition might be one with a hole.
        if any(condition.hole or (not mix and apart(group[0], condition, layout.labels)) for condition in group):
            continue
        if len(group) > 1:
            number = best([{key: layout.value.sign * each for key, each in one.values.items()} for one in group])
            if number is not None:
                winners.add(group[number].ref)
    return [replace(condition, best=True) if condition.ref in winners else condition for condition in conditions]


def key_text(key: Mapping[str, Any]) -> str:
    """Return a condition's key as a text, to find it by."""
    return json.dumps(dict(key), sort_keys=True)
