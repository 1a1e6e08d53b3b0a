"""Whether a sweep's question is decided, and if not, what would decide it."""

from collections.abc import Sequence
from enum import StrEnum, auto

from strive.results.conditions import Condition


class State(StrEnum):
    """How far the cells answer the question."""

    decided = auto()
    undecided = auto()  # every cell is there, and they do not show it
    incomplete = auto()  # cells are missing, cannot be compared, or contradict each other


def state_of(conditions: Sequence[Condition], contradictions: Sequence[str] = ()) -> State:
    """Return whether the question is decided: every difference, or without a baseline which condition is best."""
    if contradictions or any(condition.hole for condition in conditions):
        return State.incomplete
    compared = [condition for condition in conditions if condition.baseline]
    if any(condition.difference is None for condition in compared):
        return State.incomplete
    return State.undecided if undecided(conditions) else State.decided


def undecided(conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions about which nothing is shown yet."""
    compared = [condition for condition in conditions if condition.baseline]
    if compared:
        return [condition for condition in compared if not condition.decided]
    if len(conditions) < 2 or any(condition.best for condition in conditions):
        return []
    return list(conditions)
