"""Looks at the lines of a table: each is judged with the first seeds of the sweep, and stops when it is decided."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from strive.errors import ConfigError
from strive.look_design import LookDesign
from strive.results.code_versions import versions
from strive.results.conditions import (
    Condition,
    apart,
    baseline_key,
    compared,
    condition_of,
    key_text,
    make_conditions,
    uncompared,
    with_difference,
)
from strive.results.fixed_looks import FixedLine, FixedLooks
from strive.results.line_look import LineLook
from strive.results.load import Loaded
from strive.results.record_row import CONTRADICTORY, MISSING, UNREADABLE, metric_column
from strive.statistics.inference import Difference, Judgement, Verdict, cut
from strive.statistics.looks import Line, verdicts
from strive.sweeps.labels import CONFIG, in_sentence
from strive.sweeps.table_spec import TEST_ERROR, TableSpec

_RANK = " rank"  # a column that no cell has
_WITHOUT_VALUE = {
    MISSING: "",
    "diverged": "diverged",
    CONTRADICTORY: "has files that contradict each other",
    UNREADABLE: "has a record that cannot be read",
}  # {status: what is said of a cell without a value}; any other is a failure


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lines:
    """The lines of a table with looks, and all cells of its conditions."""

    design: LookDesign
    layout: TableSpec
    mix: bool  # also compare cells of several versions
    column: str  # of the seeds
    seeds: tuple[Any, ...]  # in the order of the sweep file
    conditions: Mapping[str, Condition]  # {ref: a condition with all of its cells}
    baselines: Mapping[str, str]  # {ref of a line's condition: ref of its baseline}

    def first(self, ref: str, number: int) -> pd.DataFrame:
        """Return the cells of a condition with the first seeds, in the order of the file."""
        cells = self.conditions[ref].cells
        ranks = {json.dumps(seed): rank for rank, seed in enumerate(self.seeds[:number])}
        rank = cells[self.column].map(json.dumps).map(ranks)
        return cells[rank.notna()].assign(**{_RANK: rank}).sort_values(_RANK, kind="stable").drop(columns=_RANK)

    def cells(self, ref: str, number: int) -> tuple[str, ...]:
        """Return the ids of `first`."""
        return tuple(map(str, self.first(ref, number)["cell"]))

    def with_first(self, ref: str, number: int) -> Condition:
        """Return a condition of its first seeds alone."""
        whole = self.conditions[ref]
        part = condition_of(ref, dict(whole.key), self.first(ref, number), self.layout, self.mix)
        return replace(part, data_keys=whole.data_keys)


def conditions_of(loaded: Loaded, layout: TableSpec, *, mix: bool) -> list[Condition]:
    """Return the conditions of a table, row by row, judged by looks where its sweep file has them.

    mix: also average cells of different code or images. A condition has the cells that its newest look is about, and
    its line the repeated p-values and intervals of that look. What does not go with the looks that were fixed gets
    no verdict (Condition.withheld).
    """
    fixed = loaded.fixed_looks
    if layout.looks is None and fixed is None:
        return make_conditions(loaded, layout, mix=mix)
    try:
        lines = _lines(loaded, layout, mix=mix)
    except ConfigError as error:
        return [_withheld(each, str(error)) for each in compared(uncompared(loaded, layout, mix=mix), layout, mix)]
    known = fixed.resolution if fixed is not None else None
    found = _judged(lines, _resolution(lines) if known is None else known)
    changed = _changed(fixed, _declared(lines))
    return [_withheld(each, changed) for each in found] if changed else found


def not_needed(loaded: Loaded, conditions: Sequence[Condition]) -> frozenset[str]:
    """Return the cells that neither a look so far nor the next one needs; none where every cell belongs to its line."""
    needed = {cell for condition in conditions for cell in condition.needed}
    return frozenset(map(str, loaded.cells["cell"])) - needed if needed else frozenset()


def declared_looks(loaded: Loaded, layout: TableSpec) -> FixedLooks:
    """Return the looks that a sweep's file declares for its cells.

    Raises ConfigError for cells that do not go with the looks: too few seeds, or a condition without a baseline.
    """
    lines = _lines(loaded, layout, mix=True)
    return _declared(lines)


def resolution(loaded: Loaded, layout: TableSpec) -> float:
    """Return the step between two values of the metric, by the cells of the first look; 0 if none is known."""
    return _resolution(_lines(loaded, layout, mix=True))


def _lines(loaded: Loaded, layout: TableSpec, *, mix: bool) -> _Lines:
    if layout.looks is None:
        raise ConfigError(
            "seeds: looks were fixed for these cells (looks.json beside the plan), and the sweep file has none now"
        )
    conditions = uncompared(loaded, layout, mix=mix)
    column = f"{CONFIG}{loaded.plan.seed}" if f"{CONFIG}{loaded.plan.seed}" in loaded.cells else loaded.plan.seed
    lines = _Lines(
        design=layout.looks,
        layout=layout,
        mix=mix,
        column=column,
        seeds=tuple({json.dumps(seed): seed for seed in loaded.cells[column]}.values()),
        conditions={condition.ref: condition for condition in conditions},
        baselines=dict(_baselines(conditions, layout)),
    )
    _check(lines)
    return lines


def _baselines(conditions: Sequence[Condition], layout: TableSpec) -> list[tuple[str, str]]:
    by_key = {key_text(condition.key): condition.ref for condition in conditions}
    wanted = {condition.ref: baseline_key(condition.key, layout) for condition in conditions}
    other = {ref: by_key.get(key_text(key)) for ref, key in wanted.items() if key is not None}
    return [(ref, there) for ref, there in other.items() if there is not None and there != ref]


def _check(lines: _Lines) -> None:
    """Raise ConfigError if the cells do not go with the looks."""
    looks, column, seeds = lines.design.looks, lines.column, lines.seeds
    if len(seeds) < looks[-1]:
        raise ConfigError(
            f"seeds: the last of looks {list(looks)} needs {looks[-1]} seeds, and the sweep has {len(seeds)}; give the"
            f" grid more, such as {column}: range(0,{looks[-1]}), or end the looks earlier"
        )
    if column not in lines.layout.pair:
        raise ConfigError(
            f"seeds: looks are taken at differences of equal seeds, so pair of the table must contain {column}; got"
            f" {list(lines.layout.pair)}"
        )
    for ref, condition in lines.conditions.items():
        if ref not in {*lines.baselines, *lines.baselines.values()}:
            raise ConfigError(f"seeds: {condition.label} has no baseline in the table, so no look can decide it")
        there = set(condition.cells[column].map(json.dumps))
        if lacking := [seed for seed in seeds[: looks[-1]] if json.dumps(seed) not in there]:
            raise ConfigError(
                f"seeds: every line and every baseline needs the first {looks[-1]} seeds of the sweep, and"
                f" {condition.label} has no cell with {column}={lacking[0]}"
            )


# -- what was fixed


def _declared(lines: _Lines) -> FixedLooks:
    last, value = lines.design.looks[-1], lines.layout.value
    cells = {ref: list(lines.cells(ref, last)) for ref in lines.conditions}
    return FixedLooks(
        looks=list(lines.design.looks),
        alpha=lines.design.alpha,
        shape=lines.design.shape,
        margin=lines.layout.margin,
        metric=value.name,
        better=value.better.value if value.better else "",
        seeds=list(lines.seeds[:last]),
        lines=[
            FixedLine(
                label=lines.conditions[own].label,
                baseline=lines.conditions[other].label,
                cells=cells[own],
                baseline_cells=cells[other],
            )
            for own, other in lines.baselines.items()
        ],
    )


def _changed(fixed: FixedLooks | None, now: FixedLooks) -> str:
    """Return what is not as it was at the first look, and what follows; "" if nothing has changed."""
    if fixed is None:
        return "no verdict: looks.json, where a launch keeps what is fixed at the first look, is not beside the plan"
    changes = fixed.changes(now)
    return f"no verdict: since the first look, {'; '.join(changes)}" if changes else ""


def _withheld(condition: Condition, why: str) -> Condition:
    """Return a condition without a verdict, tests or interval of tests."""
    if not condition.baseline:
        return replace(condition, withheld=why)
    nothing = Judgement(verdict=Verdict.undecided, p_no_loss=None, p_loss=None)
    found = condition.difference
    return replace(
        condition,
        withheld=why,
        look=None,
        judgement=nothing if found is not None else None,
        p_holm=None,
        simultaneous=None,
        stepwise=False,
        best=False,
        difference=replace(found, low=None, high=None, p=None) if found is not None else None,
    )


# -- the looks themselves


def _judged(lines: _Lines, step: float) -> list[Condition]:
    """Replay all looks, and return each condition with the cells of its newest one. step: of _resolution."""
    pairs = [_line(lines, own, other) for own, other in lines.baselines.items()]
    replayed = verdicts(lines.design, pairs, lines.layout.margin, step)
    looked = {
        ref: LineLook(line=line, looks=lines.design.looks) for ref, line in zip(lines.baselines, replayed, strict=True)
    }
    shown, needed = dict[str, int](), dict[str, int]()
    for ref, state in looked.items():
        for each in (ref, lines.baselines[ref]):
            shown[each] = max(shown.get(each, 0), state.n or state.needs)
            needed[each] = max(needed.get(each, 0), state.needs)
    found = []
    for ref in lines.conditions:
        condition = lines.with_first(ref, shown[ref])
        condition = replace(
            condition, needed=lines.cells(ref, needed[ref]), first_look=lines.cells(ref, lines.design.looks[0])
        )
        found.append(_with_look(lines, condition, looked[ref]) if ref in looked else condition)
    return found


def _line(lines: _Lines, own: str, other: str) -> Line:
    """Return a line's differences, a loss positive.

    None from the look on at which its cells are of several versions of code or data.
    """
    usable, notes = 0, dict[int, list[str]]()
    for number in lines.design.looks:
        if not lines.mix and _mixed(lines, own, other, number):
            notes[usable] = [f"cells of the first {number} seeds are of several versions of the code or the data"]
            break
        usable = number
    ours, theirs = (_by_seed(lines, ref) for ref in (own, other))
    differences, dead = list[float | None](), list[bool]()
    for at, seed in enumerate(map(json.dumps, lines.seeds[: lines.design.looks[-1]])):
        values, others = ours[seed].values, theirs[seed].values
        there = at < usable and bool(values) and values.keys() == others.keys()
        total = math.fsum(values[key] - others[key] for key in values) if there else 0.0
        differences.append(lines.layout.value.sign * total / len(values) if there else None)
        dead.append(ours[seed].dead or theirs[seed].dead)
        baseline = f" of {in_sentence(lines.conditions[other].label)}"
        for whose, note in (("", ours[seed].note), (baseline, theirs[seed].note)):
            if note:
                notes.setdefault(at, []).append(f"seed {lines.seeds[at]}{whose} {note}")
    return Line(
        differences=tuple(differences),
        dead=tuple(dead),
        notes={at: ", ".join(each) for at, each in notes.items()},
    )


def _mixed(lines: _Lines, own: str, other: str, number: int) -> bool:
    """Return whether the done cells of a line and its baseline are of several versions of code or data."""
    done = []
    for ref in (own, other):
        cells = lines.first(ref, number)
        done.append(cells[cells["status"] == "done"])
    if not all(map(len, done)):
        return False  # cells are missing, which is said instead
    if any(versions(cells) > 1 or cells["data_fingerprint"].nunique() > 1 for cells in done):
        return True
    one, two = (replace(lines.conditions[ref], cells=cells) for ref, cells in zip((own, other), done, strict=True))
    return bool(apart(one, two, lines.layout.labels))


@dataclass(frozen=True, slots=True)
class _OfSeed:
    values: Mapping[tuple[Any, ...], float]  # of its cells; empty if one of them has none
    dead: bool  # whether one of them diverged or ended no better than chance
    note: str  # how one of them died, or why it has no value though it has ended; "" if neither


def _by_seed(lines: _Lines, ref: str) -> dict[str, _OfSeed]:
    """Return what the cells of each seed have, for most tables one cell. The keys are JSON texts."""
    condition, place = lines.conditions[ref], lines.layout.pair.index(lines.column)
    found, name = {}, lines.layout.value.name
    for seed, cells in condition.cells.groupby(condition.cells[lines.column].map(json.dumps), sort=False):
        values = {key: value for key, value in condition.values.items() if json.dumps(key[place]) == seed}
        whole = len(values) == len(cells)
        dead = bool((cells["dead"].map(bool) | (cells["status"] == "diverged")).any())
        has_value = cells[metric_column(name)].notna()
        notes = map(_note, cells["status"], cells["dead"].map(bool), has_value, repeat(name))
        found[str(seed)] = _OfSeed(values if whole else {}, dead, next(filter(None, notes), ""))
    return found


def _note(status: str, at_chance: bool, has_value: bool, metric: str) -> str:
    """Return how a cell died or why it has no value, as what follows its name; "" if there is nothing to say."""
    if status == "done":
        return "ended no better than chance" if at_chance else "" if has_value else f"has no {metric}"
    return _WITHOUT_VALUE.get(status, f"failed: {status.replace('_', ' ')}")


def _resolution(lines: _Lines) -> float:
    """Return the step between two values of the metric: of an error over N examples 100/N points.

    Of another metric the largest step of which all values of the first look are multiples apart: 0 for a loss.
    """
    value = lines.layout.value
    if value.name == TEST_ERROR.name:
        tested = {int(number) for each in lines.conditions.values() for number in each.cells["num_tested"].dropna()}
        if tested:
            return value.factor / min(tested)
    first = set(map(json.dumps, lines.seeds[: lines.design.looks[0]]))
    of_all = [_by_seed(lines, ref).items() for ref in lines.conditions]
    return _common_step(
        [each for seeds in of_all for seed, of in seeds if seed in first for each in of.values.values()]
    )


def _common_step(values: Sequence[float]) -> float:
    """Return the largest step of which all values are multiples apart, as far as rounding lets it be seen; 0: none."""
    if not values or min(values) == max(values):
        return 0.0
    apart_by = np.array(values) - min(values)
    rounding = 3e-7 * max(map(abs, values))  # of single precision, which many metrics are computed in
    most = int(apart_by.max() / (50 * rounding))  # of finer steps every number is a multiple
    for counts in np.array_split(np.arange(1, most + 1), most // 1000 + 1):
        steps = apart_by.max() / counts[:, None]
        fits = (np.abs(apart_by - steps * np.round(apart_by / steps)) <= rounding).all(axis=1)
        if fits.any():
            # Its last digits depend on which cells are there.
            return float(f"{steps[fits.argmax(), 0]:.10g}")
    return 0.0


def _with_look(lines: _Lines, condition: Condition, looked: LineLook) -> Condition:
    """Return a line's condition with the difference, tests and intervals of its newest look."""
    ref, number = condition.ref, looked.n or looked.needs
    own, other = (lines.with_first(each, number) for each in (ref, lines.baselines[ref]))
    tested = with_difference(own, {key_text(other.key): other}, lines.layout, lines.mix)
    found, line = tested.difference, looked.line
    condition = replace(condition, look=looked, baseline=other.label, dead_pairs=line.dead_pairs)
    if found is None or line.mean is None:
        return replace(condition, no_difference=tested.no_difference or line.reason)
    sign, bounds = lines.layout.value.sign, lines.layout.value.difference_bounds
    mean = sign * line.mean
    low, high = cut(mean, _signed(line.own, sign), bounds)
    both = cut(mean, _signed(line.simultaneous, sign), bounds)
    margin = sign * lines.layout.margin
    interval = None if both[0] is None or both[1] is None else (both[0], both[1])
    return replace(
        condition,
        difference=Difference(n=looked.n, mean=mean, sd=line.sd, low=low, high=high, p=None),
        judgement=Judgement(verdict=line.verdict, p_no_loss=line.p_no_loss, p_loss=line.p_loss),
        simultaneous=interval,
        differences=tuple(own.values[key] - other.values[key] for key in own.values),
        stepwise=looked.decided and interval is not None and interval[0] <= margin <= interval[1],
    )


def _signed(interval: tuple[float, float] | None, sign: int) -> tuple[float | None, float | None]:
    """Return an interval of a loss as one of own minus baseline."""
    if interval is None:
        return None, None
    low, high = interval
    return (low, high) if sign > 0 else (-high, -low)
