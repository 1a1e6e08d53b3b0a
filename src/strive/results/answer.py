"""The answer to a sweep's question in one sentence, as far as its cells give one."""

from collections.abc import Sequence

from strive.results.conditions import Place
from strive.results.labels import place_label
from strive.statistics.inference import Verdict
from strive.sweeps.table_spec import Table

_NAMED = 4  # places that a sentence names before it counts them


def answer(places: Sequence[Place], layout: Table) -> str:
    """Return one sentence: what is shown, what is not, and how much is still missing."""
    cells = sum(len(place.cells) for place in places)
    done = sum(int((place.cells["status"] == "done").sum()) for place in places)
    if not done:
        return f"Nothing is known yet: none of {cells} cells is done."
    if any(place.baseline for place in places):
        sentence = _compared(places, layout)
    else:
        sentence = (_by_row(places, layout) if layout.rows and layout.columns else "") or _smallest(places, layout)
    mixed = [place for place in places if "versions of" in place.hole]
    holes = sum(bool(place.hole) for place in places) - len(mixed)
    apart = [place.label for place in places if place.no_difference.startswith("other ")]
    parts = [
        f" {_are(holes)} without a mean, for want of cells." if holes else "",
        f" {_are(len(mixed))} without a mean, with cells of several versions." if mixed else "",
        f" Not compared, for other code or images: {_listed(apart, len(places))}." if apart else "",
    ]
    return sentence + "".join(parts)


def _compared(places: Sequence[Place], layout: Table) -> str:
    baselines = sorted({place.baseline for place in places if place.baseline})
    against = ", ".join(baselines) if len(baselines) <= _NAMED else f"{len(baselines)} baselines"
    judged = [place for place in places if place.judgement is not None]
    if not judged:
        return f"No difference from {against} can be told yet."
    parts = []
    for verdict in Verdict:
        labels = [place.label for place in judged if place.judgement and place.judgement.verdict is verdict]
        if labels:
            parts.append(f"{verdict.value} for {_listed(labels, len(judged))}")
    margin = f"{layout.margin:g} {layout.value.unit}"
    return f"Against {against}, with a margin of {margin}: {'; '.join(parts)}."


def _by_row(places: Sequence[Place], layout: Table) -> str:
    """Return which column is smallest in how many rows; "" while no row is complete."""
    rows: dict[str, list[Place]] = {}
    for place in places:
        rows.setdefault(place_label({key: place.key[key] for key in layout.rows}), []).append(place)
    won: dict[str, list[str]] = {}
    for label, row in rows.items():
        means = [place.summary.mean for place in row if place.summary]
        if len(means) == len(row):
            first = row[means.index(min(means))]
            won.setdefault(place_label({key: first.key[key] for key in layout.columns}), []).append(label)
    complete = sum(map(len, won.values()))
    parts = [
        f"{column} for {_listed(labels, complete)}"
        for column, labels in sorted(won.items(), key=lambda each: -len(each[1]))
    ]
    return f"Smallest {layout.value.value.replace('_', ' ')}: {'; '.join(parts)}." if parts else ""


def _smallest(places: Sequence[Place], layout: Table) -> str:
    known = [place for place in places if place.summary is not None]
    if not known:
        return "No mean can be told yet."
    first = min(known, key=lambda place: place.summary.mean if place.summary else 0.0)
    assert first.summary is not None
    value = f"{layout.value.value.replace('_', ' ')} {first.summary.mean:.2f}{'%' if layout.value.is_error else ''}"
    if len(places) == 1:
        return f"{first.label[:1].upper()}{first.label[1:]}: {value}, n = {first.summary.n}."
    if first.best:
        return f"{first.label} is best, {value}, and shown to be better than every other."
    return f"{first.label} has the smallest {value}, but is not shown to be better than every other."


def _listed(labels: Sequence[str], among: int) -> str:
    if len(labels) > _NAMED:
        return f"{len(labels)} of {among}"
    return ", ".join(labels)


def _are(holes: int) -> str:
    return "1 place is" if holes == 1 else f"{holes} places are"
