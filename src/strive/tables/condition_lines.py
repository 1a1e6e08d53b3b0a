"""A condition as a line of a table: its heading, its verdict in words and as a mark, and what the marks mean."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from strive.format import counted
from strive.results.conditions import Condition
from strive.statistics.inference import Verdict
from strive.sweeps.labels import ARM, Labels
from strive.sweeps.table_spec import TableSpec, Value
from strive.tables.entries import NONE, p_text
from strive.tables.table import Entry, Row

LATER = "†"  # after what only a later step of Holm's correction decides
BETTER_MARK, WORSE_MARK = "\u2217", "•"  # after a value with a verdict
DEAD_PAIRS = "Dead: a pair with a cell that ended no better than chance."
STEPWISE = (
    f"{LATER}: decided by a later step of Holm's correction. The simultaneous interval is that of the first step, so it"
    " contains what is ruled out."
)


def best_note(conditions: Sequence[Condition]) -> str:
    """Return what a bold mean is, as a sentence's end; "" if none is."""
    if not any(condition.best for condition in conditions):
        return ""
    return "; bold: shown to be better than every other with the same data (paired t-tests, Holm-corrected)"


def partial_note(conditions: Sequence[Condition]) -> tuple[str, ...]:
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
        return (
            f"{against}: {BETTER_MARK} shown to be better, {WORSE_MARK} shown to be worse; without a mark: undecided.",
        )
    return (
        f"{against}, where up to {table.value.amount(table.margin)} worse counts as equal:"
        f" {BETTER_MARK} {Verdict.not_worse.value}, {WORSE_MARK} {Verdict.worse.value}; without a mark: undecided.",
    )


def verdict_mark(condition: Condition, value: Value) -> str:
    """Return the sign of a verdict on a condition's difference; "" if there is none."""
    if not condition.decided or condition.difference is None or condition.withheld or value.better is None:
        return ""
    if condition.judgement is not None:
        return BETTER_MARK if condition.judgement.verdict is Verdict.not_worse else WORSE_MARK
    return WORSE_MARK if value.sign * condition.difference.mean > 0 else BETTER_MARK


def simultaneous_level(table: TableSpec) -> str:
    """Return the level of the intervals of differences, such as 95%."""
    return "95%" if table.looks is None else f"{100 * (1 - table.looks.alpha):g}%"


def decision_text(condition: Condition) -> str:
    """Return the verdict on a difference, without a margin its p, with marks; "-" if there is no difference."""
    if condition.difference is None:
        return NONE.text
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


def condition_row(condition: Condition, entries: Sequence[Entry], rule: bool) -> Row:
    """Return a condition's line. rule: draw one above it."""
    return Row(entries=tuple(entries), ref=condition.ref, factors=condition.labels.texts(condition.key), rule=rule)


def ruled(conditions: Sequence[Condition], table: TableSpec) -> list[tuple[Condition, bool]]:
    """Return each condition, and whether to draw a line above it because the first of several keys has changed."""
    if len(table.keys) < 2 or not conditions:
        return [(condition, False) for condition in conditions]
    first = [condition.key[table.keys[0]] for condition in conditions]
    return list(zip(conditions, [False, *(one != other for one, other in pairwise(first))], strict=True))


def heading(condition: Condition, keys: Sequence[str]) -> str:
    """Return the values of keys in words: Strided, but Base A, and model.width 0.5."""
    if len(keys) != 1:
        return words_of(condition, keys)
    (key,), labels = keys, condition.labels
    text = labels.text(key, condition.key[key])
    clear = key == ARM or key in labels.clear or re.search("[A-Za-z]{3}", re.sub("true|false", "", text))
    text = text if clear else f"{labels.title(key)} {text}"
    return as_title(text) if text.replace(" ", "").isalpha() else text


def words_of(condition: Condition, keys: Sequence[str]) -> str:
    """Return the values of some of a condition's keys in words."""
    return text_of({key: condition.key[key] for key in keys}, condition.labels)


def text_of(key: Mapping[str, Any], labels: Labels) -> str:
    """Return {key: value} in words, by its short name if it has one."""
    return labels.short(key) or labels.name(key)


def as_title(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]
