"""The comparisons of a table as entries of the ledger, and verdicts that are corrected for all of its entries."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from strive.cells.ledger import Kind, LedgerEntry, entry_id, scorings
from strive.format import counted
from strive.results.component_effects import ComponentEffect, ComponentEffects, effect_text, with_test
from strive.results.conditions import Condition
from strive.results.load import Loaded
from strive.results.record_row import metric_column
from strive.statistics.factorial import Effects
from strive.statistics.inference import SIDE, Interval, Judgement, difference, holm, one_sided, simultaneous
from strive.sweeps.table_spec import TableSpec

_EFFECT = "effect of "


def comparisons(
    name: str,
    conditions: Sequence[Condition],
    layout: TableSpec,
    effects: Effects | None,
    components: Sequence[ComponentEffects] = (),
) -> dict[str, LedgerEntry]:
    """Return {ref of a condition, or an effect: entry} for all that a table compares.

    With a baseline these are its differences; without one each condition against the best, as the table marks it. name:
    of the plan. components: effects of a design.
    """
    found = {}
    for condition, other in _pairs(conditions, layout):
        if condition.withheld:
            continue
        what, n, sides = _of_looks(condition, other) if condition.look is not None else _of(condition, other, layout)
        found[condition.ref] = LedgerEntry(
            id=entry_id(what[0], layout.value.name, layout.margin, *what[1:]),
            kind=Kind.comparison,
            what=f"{condition.label} against {other.label}",
            metric=layout.value.name,
            sweep=name,
            n=n,
            margin=layout.margin,
            p_no_loss=sides[0],
            p_loss=sides[1],
        )
    values = [_numbers(condition) for condition in conditions] if effects or components else []
    for source, sides in _effect_tests(effects, components, layout.value.sign):
        found[f"{_EFFECT}{source}"] = LedgerEntry(
            id=entry_id("effect", layout.value.name, source, values),
            kind=Kind.comparison,
            what=f"{_EFFECT}{source}",
            metric=layout.value.name,
            sweep=name,
            n=min(len(condition.values) for condition in conditions),
            p_no_loss=sides[0],
            p_loss=sides[1],
        )
    return found


# (what tells it from other comparisons, pairs, p-values of the two sides)
_Comparison = tuple[tuple[Any, ...], int, Interval]


def _of(condition: Condition, other: Condition, layout: TableSpec) -> _Comparison:
    """Return a comparison that is made once, on these numbers."""
    own = difference(condition.values, other.values)
    sides = one_sided(own, layout.value.sign * layout.margin)
    better, worse = sides if layout.value.sign > 0 else sides[::-1]
    return ("comparison", _numbers(condition), _numbers(other)), own.n, (better, worse)


def _of_looks(condition: Condition, other: Condition) -> _Comparison:
    """Return that of a line that is looked at several times: all looks are one comparison, as its p says."""
    found, judged = condition.difference, condition.judgement
    assert found is not None
    sides = (judged.p_no_loss, judged.p_loss) if judged else (None, None)
    return ("looks", condition.first_look, other.first_look), found.n, sides


def _effect_tests(
    effects: Effects | None, components: Sequence[ComponentEffects], sign: int
) -> Iterable[tuple[str, Interval]]:
    """Yield (name, p-values of the two sides of this effect alone) of what is tested over all conditions.

    sign: of a loss. Of an effect that has lines in both tables the one of two levels counts, which has a direction.
    """
    own = {each.label: _sides(each, sign) for place in components for each in place.effects}
    for effect in effects.effects if effects is not None else ():
        if (name := effect_text(effect.source)) not in own:
            p = effect.p if effect.p_unequal is None else effect.p_unequal
            yield name, (p, p)  # a test without sides counts on both
    yield from own.items()


def _sides(effect: ComponentEffect, sign: int) -> Interval:
    """Return the one-sided p-values of an effect: that it is no loss, and that it is one."""
    p = effect.found.p_alone
    if p is None:
        return None, None
    return (1 - p / 2, p / 2) if sign * effect.found.estimate > 0 else (p / 2, 1 - p / 2)


def scored(loaded: Loaded, ledger: Mapping[str, LedgerEntry]) -> list[LedgerEntry]:
    """Return the scorings on test data of cells that the ledger does not have yet."""
    known = {entry.what for entry in ledger.values() if entry.kind is Kind.scoring}
    names = [name for name in loaded.metrics if name.startswith("test")]
    there = loaded.cells[loaded.cells["status"].isin(["done", "diverged"])]
    columns = zip(there["cell"], *(there[metric_column(name)] for name in names), strict=True)
    return [
        entry
        for cell, *values in columns
        if cell not in known
        for entry in scorings(cell, {k: None if v != v else float(v) for k, v in zip(names, values, strict=True)})
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerCounts:
    """How many comparisons and scorings the ledger of a runs folder has."""

    comparisons: int
    scorings: int
    own: int  # comparisons of this table

    @classmethod
    def of(cls, ledger: Mapping[str, LedgerEntry], own: Mapping[str, LedgerEntry]) -> Self:
        """Count a ledger. own: the entries of a table."""
        every = {**ledger, **{entry.id: entry for entry in own.values()}}
        kinds = Counter(entry.kind for entry in every.values())
        differences = sum(not ref.startswith(_EFFECT) for ref in own)
        return cls(comparisons=kinds[Kind.comparison], scorings=kinds[Kind.scoring], own=differences)

    def text(self, *, corrected_for_all: bool = False) -> str:
        """Return it as a sentence below a table. corrected_for_all: whether its verdicts are."""
        looked = f"{counted(self.comparisons, 'comparison')} and {counted(self.scorings, 'scoring')} of a test set"
        what = f"Looked at with strive in this folder so far, in all sweeps: {looked} (ledger.jsonl)."
        if self.own == self.comparisons or not (self.own or corrected_for_all):
            return what
        if corrected_for_all:
            return f"{what} Verdicts and simultaneous intervals here are corrected for all of these comparisons."
        return f"{what} Verdicts and simultaneous intervals here are corrected for the {self.own} of this table alone."


def corrected(
    conditions: Sequence[Condition],
    layout: TableSpec,
    own: Mapping[str, LedgerEntry],
    ledger: Mapping[str, LedgerEntry],
) -> list[Condition]:
    """Return the conditions with their verdicts corrected, by Holm, for everything in a ledger.

    own: the entries of these conditions. The chance of any wrong verdict among all that was ever looked at is 5% at
    most, half of it on either side.
    """
    sides_of = _over_all(own, ledger)
    found = []
    # The best is compared with each other one, and has to be better than all.
    worse = [sides_of[entry.id][1] for ref, entry in own.items() if any(ref == each.ref for each in conditions)]
    shown = all(p is not None and p <= SIDE for p in worse)
    for condition in conditions:
        entry = own.get(condition.ref)
        if entry is None or condition.difference is None:
            found.append(replace(condition, best=condition.best and shown))
            continue
        sides = sides_of[entry.id]
        (interval,) = simultaneous([condition.difference], layout.value.difference_bounds, among=len(sides_of))
        # That of the looks holds for this table's lines alone.
        condition = replace(condition, simultaneous=interval if condition.look is None else None)
        if layout.margin:
            condition = replace(condition, judgement=Judgement.of(*sides))
        else:
            condition = replace(condition, p_holm=_of_both(sides))
        found.append(replace(condition, stepwise=False))
    return found


def corrected_effects(
    components: Sequence[ComponentEffects], own: Mapping[str, LedgerEntry], ledger: Mapping[str, LedgerEntry]
) -> list[ComponentEffects]:
    """Return the effects of a design with p-values, intervals and verdicts corrected for everything in a ledger.

    As `corrected`. own: the entries of the sweep that they are of.
    """
    sides_of = _over_all(own, ledger)

    def one(effect: ComponentEffect) -> ComponentEffect:
        p = _of_both(sides_of[own[f"{_EFFECT}{effect.label}"].id])
        interval = effect.found.simultaneous_among(len(sides_of))
        return with_test(replace(effect, found=replace(effect.found, simultaneous=interval)), p)

    return [replace(place, effects=tuple(map(one, place.effects))) for place in components]


def _over_all(own: Mapping[str, LedgerEntry], ledger: Mapping[str, LedgerEntry]) -> dict[str, Interval]:
    """Return {id: p-values of the two sides}, each corrected by Holm for all comparisons of a ledger and of a table."""
    every = dict(ledger) | {entry.id: entry for entry in own.values()}
    entries = [entry for entry in every.values() if entry.kind is Kind.comparison]
    sides = (_holm([getattr(entry, name) for entry in entries]) for name in ("p_no_loss", "p_loss"))
    return dict(zip((entry.id for entry in entries), zip(*sides, strict=True), strict=True))


def _of_both(sides: Interval) -> float | None:
    """Return the two-sided p of two one-sided ones; None without a test."""
    known = [p for p in sides if p is not None]
    return min(1.0, 2 * min(known)) if known else None


def _holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return Holm's p-values. What was looked at without a test, such as a single seed, counts as one that failed."""
    found = holm([1.0 if p is None else p for p in ps])
    return [None if p is None else each for p, each in zip(ps, found, strict=True)]


def _pairs(conditions: Sequence[Condition], layout: TableSpec) -> Iterable[tuple[Condition, Condition]]:
    """Yield (condition, the one that it is compared with)."""
    by_label = {condition.label: condition for condition in conditions}
    if any(condition.baseline for condition in conditions):
        for condition in conditions:
            if condition.difference is not None:
                yield condition, by_label[condition.baseline]
        return
    whole = [condition for condition in conditions if condition.summary is not None]
    if len(whole) < 2 or layout.value.better is None:
        return
    first = min(whole, key=lambda each: layout.value.sign * each.summary.mean if each.summary else 0.0)
    for condition in whole:
        if condition is not first and condition.values.keys() == first.values.keys() and len(first.values) > 1:
            yield condition, first


def _numbers(condition: Condition) -> tuple[list[str], list[float]]:
    """Return what makes a condition what it is: its cells, and their values."""
    return sorted(map(str, condition.cells["cell"])), sorted(condition.values.values())
