"""The answer to a sweep's question in one sentence, as far as the finished cells allow one."""

from collections.abc import Sequence

from strive.format import counted
from strive.results.component_effects import ComponentEffects, effect_text
from strive.results.conditions import Condition
from strive.results.line_look import looks_text
from strive.results.record_row import CONTRADICTORY
from strive.statistics.inference import Verdict
from strive.sweeps.design import DesignName
from strive.sweeps.table_spec import TableSpec

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
        return f"Nothing is known yet: none of {counted(cells, 'cell')} is done."
    if components:
        sentence = " ".join(_effects(each, layout) for each in components)
    elif any(condition.baseline for condition in conditions):
        sentence = _compared(conditions, layout)
    else:
        by_row = _by_row(conditions, layout) if layout.rows and layout.columns and layout.value.better else ""
        sentence = by_row or _best(conditions, layout)
    mixed = [condition for condition in conditions if "versions of" in condition.hole]
    false = [condition for condition in conditions if CONTRADICTORY in condition.hole]
    holes = sum(bool(condition.hole) for condition in conditions) - len(mixed) - len(false)
    apart = [condition.label for condition in conditions if condition.no_difference.startswith("other ")]
    dead = [condition.label for condition in conditions if condition.dead]
    parts = [
        f" {_are(holes)} without a mean, for want of cells." if holes else "",
        f" {_are(len(false))} without a mean, with cells whose files contradict each other." if false else "",
        f" {_are(len(mixed))} without a mean, with cells of several versions." if mixed else "",
        f" Cells that learned nothing are in {_listed(dead, len(conditions))}." if dead else "",
        f" Not compared, for other code or images: {_listed(apart, len(conditions))}." if apart else "",
    ]
    return sentence + "".join(parts)


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
        return f"{where}No effect is shown among {len(found.effects)}."
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    aliases = ", each with its aliases" if any(len(each.words) > 1 for each in found.effects) else ""
    return f"{where}Shown to matter: {', '.join(shown[:_NAMED])}{more}, of {len(found.effects)} effects{aliases}."


def _compared(conditions: Sequence[Condition], layout: TableSpec) -> str:
    baselines = sorted({condition.baseline for condition in conditions if condition.baseline})
    against = ", ".join(map(_name, baselines)) if len(baselines) <= _NAMED else f"{len(baselines)} baselines"
    if layout.design is not None and layout.design.name is DesignName.cumulative:
        against = "the step before"
    if layout.value.better is None:
        return f"Compared with {against}; nobody says whether a smaller or a larger {layout.value.words} is better."
    if all(condition.difference is None for condition in conditions):
        return f"No difference from {against} is known yet."
    if not layout.margin:
        return f"Compared with {against}: {_differing(conditions, layout)}."
    if any(condition.withheld for condition in conditions):
        return f"Compared with {against}, without a verdict: the looks are not those that were fixed."
    judged = [condition for condition in conditions if condition.judgement is not None]
    parts = []
    for verdict in Verdict:
        labels = [
            _with_look(condition)
            for condition in judged
            if condition.judgement and condition.judgement.verdict is verdict
        ]
        if labels:
            parts.append(f"{verdict.value} for {_listed(labels, len(judged))}")
    margin = f"{layout.margin:g} {layout.value.unit}".rstrip()
    looks = f", {looks_text(layout.looks.looks)}" if layout.looks is not None else ""
    return f"Against {against}, where a loss of up to {margin} counts as none{looks}: {'; '.join(parts)}."


def _with_look(condition: Condition) -> str:
    """Return a line's label, and where looks decide, at which look it was."""
    return f"{condition.label} ({condition.look.at})" if condition.look is not None else condition.label


def _differing(conditions: Sequence[Condition], layout: TableSpec) -> str:
    """Return which conditions are shown to be better or worse than their baseline, without a margin."""
    found: dict[str, list[str]] = {"shown to be better": [], "shown to be worse": [], "undecided": []}
    for condition in conditions:
        if condition.difference is not None:
            worse = layout.value.sign * condition.difference.mean > 0
            what = f"shown to be {'worse' if worse else 'better'}" if condition.decided else "undecided"
            found[what].append(condition.label)
    among = sum(map(len, found.values()))
    return "; ".join(f"{what}: {_listed(labels, among)}" for what, labels in found.items() if labels)


def _by_row(conditions: Sequence[Condition], layout: TableSpec) -> str:
    """Return the best column of each complete row, as a sentence; "" if no row is complete."""
    rows: dict[str, list[Condition]] = {}
    for condition in conditions:
        rows.setdefault(layout.labels.name({key: condition.key[key] for key in layout.rows}), []).append(condition)
    won: dict[str, list[str]] = {}
    for label, row in rows.items():
        means = [condition.summary.mean for condition in row if condition.summary]
        if len(means) == len(row):
            first = row[means.index((max if layout.value.sign < 0 else min)(means))]
            won.setdefault(layout.labels.name({key: first.key[key] for key in layout.columns}), []).append(label)
    complete = sum(map(len, won.values()))
    parts = [
        f"{column} for {_listed(labels, complete)}"
        for column, labels in sorted(won.items(), key=lambda each: -len(each[1]))
    ]
    return f"{layout.value.best.capitalize()} mean {layout.value.words}, untested: {'; '.join(parts)}." if parts else ""


def _best(conditions: Sequence[Condition], layout: TableSpec) -> str:
    known = [condition for condition in conditions if condition.summary is not None]
    if not known:
        return "No mean can be told yet."
    value = layout.value
    first = min(known, key=lambda each: value.sign * each.summary.mean if each.summary else 0.0)
    assert first.summary is not None
    text = f"{value.words} {first.summary.mean:.{value.digits}f}{'%' if value.percent else ''}"
    if len(conditions) == 1:
        return f"{first.label[:1].upper()}{first.label[1:]}: {text}, n = {first.summary.n}."
    if value.better is None:
        return f"{first.label} has the smallest {text}; nobody says whether smaller or larger is better."
    if first.best:
        return f"{first.label} is best, {text}, and shown to be better than every other."
    return f"{first.label} has the {value.best} {text}, but is not shown to be better than every other."


def _listed(labels: Sequence[str], among: int) -> str:
    if len(labels) > _NAMED:
        return f"{len(labels)} of {among}"
    return ", ".join(map(_name, labels))


def _name(label: str) -> str:
    """Return a condition's label for a sentence: a design's arm without any component is called none."""
    return f"'{label}'" if label == "none" else label


def _are(holes: int) -> str:
    return "1 place is" if holes == 1 else f"{holes} places are"
