"""The answer to a sweep's question in one sentence, as far as the finished cells allow one."""

from collections.abc import Sequence

from strive.format import counted
from strive.results.component_effects import ComponentEffects, effect_text
from strive.results.conditions import Condition
from strive.results.line_look import looks_text
from strive.results.record_row import CONTRADICTORY
from strive.statistics.inference import Verdict
from strive.sweeps.design import DesignName
from strive.sweeps.labels import in_sentence
from strive.sweeps.table_spec import TableSpec

_SHOWN = {
    Verdict.not_worse: "shown not to be worse",
    Verdict.worse: "shown to be worse",
    Verdict.undecided: "undecided",
}
_NAMED = 4  # longer lists of names are replaced by their number


def answer(conditions: Sequence[Condition], layout: TableSpec, components: Sequence[ComponentEffects] = ()) -> str:
    """Return a short answer: what the cells show, what they do not show, and how much is still missing.

    components: the effects of a factorial design, which are its answer.
    """
    cells = sum(len(condition.cells) for condition in conditions)
    done = sum(int((condition.cells["status"] == "done").sum()) for condition in conditions)
    contradicted = sum(int((condition.cells["status"] == CONTRADICTORY).sum()) for condition in conditions)
    if not done and contradicted:
        which = f"{contradicted} of {counted(cells, 'cell')}"
        return f"No answer: the plan, the records and the files of {which} contradict each other."
    if not done:
        return f"No result yet: {'its 1 cell is not' if cells == 1 else f'none of {cells} cells is'} done."
    if components:
        sentence = " ".join(_effects(each, layout) for each in components)
    elif any(condition.baseline for condition in conditions):
        sentence = _compared(conditions, layout)
    else:
        by_row = _by_row(conditions, layout) if layout.rows and layout.columns and layout.value.better else ""
        sentence = by_row or _best(conditions, layout)
    mixed = [condition for condition in conditions if "versions of" in condition.hole]
    false = [condition for condition in conditions if CONTRADICTORY in condition.hole]
    diverged = [condition for condition in conditions if condition.hole and _only_diverged(condition)]
    holes = sum(bool(condition.hole) for condition in conditions) - len(mixed) - len(false) - len(diverged)
    apart = [condition.label for condition in conditions if condition.no_difference.startswith("other ")]
    dead = [condition.label for condition in conditions if condition.dead]
    parts = [
        f" {_have(holes)} no mean: not every cell there has a number." if holes else "",
        f" {_have(len(diverged))} no mean, as cells diverged: {_listed(_diverged(diverged), len(conditions))}."
        if diverged
        else "",
        f" {_have(len(false))} no mean: files of cells contradict each other." if false else "",
        f" {_have(len(mixed))} no mean: cells are of several versions of the code or the data." if mixed else "",
        f" Cells that ended no better than chance are in {_listed(dead, len(conditions))}." if dead else "",
        f" Not compared, as code or data are not the baseline's: {_listed(apart, len(conditions))}." if apart else "",
    ]
    return sentence + "".join(parts)


def _only_diverged(condition: Condition) -> bool:
    """Return whether cells that diverged are all that its mean lacks."""
    statuses = set(condition.cells["status"])
    return "diverged" in statuses and statuses <= {"done", "diverged"}


def _diverged(conditions: Sequence[Condition]) -> list[str]:
    """Return for each condition how many of its cells diverged."""
    return [
        f"{in_sentence(each.label)} ({int((each.cells['status'] == 'diverged').sum())} of {len(each.cells)})"
        for each in conditions
    ]


def _effects(found: ComponentEffects, layout: TableSpec) -> str:
    """Return which effects are shown to differ from 0, the largest first, as a sentence."""
    value = layout.value
    where = f"{layout.labels.name(found.place)}: " if found.place else ""
    shown = [
        f"{effect_text(each.words[0])} ({f'{each.found.estimate:+.{value.digits}f} {value.unit}'.rstrip()})"
        for each in found.effects
        if each.decided
    ]
    if not shown:
        return f"{where}All {len(found.effects)} effects are undecided: none is shown to differ from 0."
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    rest = len(found.effects) - len(shown)
    open_ = f"; undecided: {rest} of {len(found.effects)} effects" if rest else ""
    aliases = ", each added to its aliases" if any(len(each.words) > 1 for each in found.effects) else ""
    return f"{where}Effects shown to differ from 0{aliases}: {', '.join(shown[:_NAMED])}{more}{open_}."


def _compared(conditions: Sequence[Condition], layout: TableSpec) -> str:
    baselines = sorted({condition.baseline for condition in conditions if condition.baseline})
    against = "; ".join(map(in_sentence, baselines)) if len(baselines) <= _NAMED else f"{len(baselines)} of them"
    if len(baselines) > 1:  # no line is compared with all of them
        against = f"the baseline of each ({against})"
    if layout.design is not None and layout.design.name is DesignName.cumulative:
        against = "the step before"
    if layout.value.better is None:
        return f"Compared with {against}; nobody says whether a smaller or a larger {layout.value.words} is better."
    if all(condition.difference is None for condition in conditions):
        return f"Nothing can be compared with {against} yet: the table says why."
    if not layout.margin:
        return f"Compared with {against}: {_differing(conditions, layout)}."
    if any(condition.withheld for condition in conditions):
        return f"Compared with {against}, without a verdict: what was fixed for the looks has changed or is not there."
    judged = [condition for condition in conditions if condition.judgement is not None]
    parts = []
    for verdict in Verdict:
        labels = [
            _with_look(condition)
            for condition in judged
            if condition.judgement and condition.judgement.verdict is verdict
        ]
        if labels:
            parts.append(f"{_SHOWN[verdict]}: {_listed(labels, len(judged))}")
    margin = layout.value.amount(layout.margin)
    looks = f", {looks_text(layout.looks.looks)}" if layout.looks is not None else ""
    return f"Against {against}, where up to {margin} worse counts as equal{looks}: {'; '.join(parts)}."


def _with_look(condition: Condition) -> str:
    """Return a line's label, and where looks decide, at which look it was."""
    if condition.look is None:
        return condition.label
    return f"{condition.label} ({condition.look.at}{', left alone' if condition.look.left_alone else ''})"


def _differing(conditions: Sequence[Condition], layout: TableSpec) -> str:
    """Return which conditions are shown to be better or worse than their baseline, without a margin."""
    found: dict[str, list[str]] = {"shown to be better": [], "shown to be worse": [], "undecided": []}
    for condition in conditions:
        if condition.difference is not None:
            found[shown_text(condition, layout)].append(condition.label)
    among = sum(map(len, found.values()))
    return "; ".join(f"{what}: {_listed(labels, among)}" for what, labels in found.items() if labels)


def shown_text(condition: Condition, layout: TableSpec) -> str:
    """Return what a difference shows without a margin: better, worse, or nothing."""
    if condition.difference is None or not condition.decided:
        return "undecided"
    if layout.value.better is None:
        return "shown to differ"
    return f"shown to be {'worse' if layout.value.sign * condition.difference.mean > 0 else 'better'}"


def _by_row(conditions: Sequence[Condition], layout: TableSpec) -> str:
    """Return the best columns of each complete row, as a sentence; "" if no row is complete."""
    rows: dict[str, list[Condition]] = {}
    for condition in conditions:
        rows.setdefault(layout.labels.name({key: condition.key[key] for key in layout.rows}), []).append(condition)
    won: dict[str, list[str]] = {}
    for label, row in rows.items():
        means = [condition.summary.mean for condition in row if condition.summary]
        if len(means) == len(row):
            best = (max if layout.value.sign < 0 else min)(means)
            first = [each for each, mean in zip(row, means, strict=True) if mean == best]
            names = [layout.labels.name({key: each.key[key] for key in layout.columns}) for each in first]
            won.setdefault(" and ".join(names), []).append(label)
    complete = sum(map(len, won.values()))
    parts = [
        f"{column} for {_listed(labels, complete)}"
        for column, labels in sorted(won.items(), key=lambda each: -len(each[1]))
    ]
    what = f"{layout.value.best.capitalize()} mean {layout.value.words}, with no test against the others"
    return f"{what}: {'; '.join(parts)}." if parts else ""


def _best(conditions: Sequence[Condition], layout: TableSpec) -> str:
    known = [condition for condition in conditions if condition.summary is not None]
    if not known:
        return "No mean can be told yet."
    value = layout.value
    first = min(known, key=lambda each: value.sign * each.summary.mean if each.summary else 0.0)
    assert first.summary is not None
    name, n = in_sentence(first.label), first.summary.n
    unit = f" {value.own_unit}".replace(" %", "%").rstrip()
    number = f"{first.summary.mean:.{value.digits}f}{unit}"
    if len(known) == 1:
        over = f" (mean of {n} cells that differ in {', '.join(layout.pair)})" if n > 1 else " (one cell)"
        only = f"Of {len(conditions)} places of the table only {name} has a mean" if len(conditions) > 1 else ""
        return f"{only or f'{name[:1].upper()}{name[1:]}'}: {value.words} {number}{over}."
    among = f" of the {len(known)} known" if len(known) < len(conditions) else ""
    text = f"{value.words}{among}, {number}"
    if value.better is None:
        return f"{name} has the smallest mean {text}; nobody says whether smaller or larger is better."
    others = "every other" + (" with the same data" if _data_sets(conditions) > 1 else "")
    shown = f"and is shown to be better than {others}" if first.best else f"but is not shown to be better than {others}"
    return f"{name} has the {value.best} mean {text}, {shown}."


def _data_sets(conditions: Sequence[Condition]) -> int:
    """Return how many data sets the conditions are of: the best is shown on each alone."""
    return len({tuple(str(each.cells.iloc[0][key]) for key in each.data_keys) for each in conditions})


def _listed(labels: Sequence[str], among: int) -> str:
    if len(labels) > _NAMED:
        return f"{len(labels)} of {among}"
    return ", ".join(map(in_sentence, labels))


def _have(places: int) -> str:
    return "1 place of the table has" if places == 1 else f"{places} places of the table have"
