"""The table of values that were chosen from other sweeps, and how far to trust each choice."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from strive.format import counted
from strive.results.conditions import Condition
from strive.results.load import Loaded
from strive.sweeps.choice import Choice
from strive.sweeps.table_spec import TableSpec
from strive.tables.condition_lines import text_of
from strive.tables.table import Column, Entry, Row, Table


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
        texts = (text_of(per, labels), labels.title(chosen.key), labels.text(chosen.key, chosen.value), chosen.why)
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
