"""Decision of a sweep's question: decided, undecided, or incomplete, and what is undecided."""

from collections.abc import Sequence
from enum import StrEnum, auto

from strive.results.component_effects import ComponentEffect, ComponentEffects
from strive.results.conditions import Condition


class Decision(StrEnum):
    """How far the cells answer the question."""

    decided = auto()
    undecided = auto()  # every cell is there, and they do not show it
    incomplete = auto()  # cells are missing, cannot be compared, or contradict each other


def decision_of(
    conditions: Sequence[Condition],
    contradictions: Sequence[str] = (),
    components: Sequence[ComponentEffects] = (),
) -> Decision:
    """Return whether the question is decided.

    That is every difference, or without a baseline which condition is best. components: of a factorial design, whose
    question is whether each component has an effect.
    """
    if contradictions or any(condition.hole for condition in conditions):
        return Decision.incomplete
    compared = [condition for condition in conditions if condition.baseline]
    if any(condition.difference is None for condition in compared):
        return Decision.incomplete
    return Decision.undecided if undecided(conditions, components) else Decision.decided


def undecided(
    conditions: Sequence[Condition], components: Sequence[ComponentEffects] = ()
) -> Sequence[Condition | ComponentEffect]:
    """Return the conditions about which nothing is shown yet, or of a factorial design the components.

    Interactions do not count: there may well be none.
    """
    if components:
        every = [effect for each in components for effect in each.effects]
        return [effect for effect in every if len(effect.words[0]) == 1 and not effect.decided]
    compared = [condition for condition in conditions if condition.baseline]
    if compared:
        return [condition for condition in compared if not condition.decided]
    if len(conditions) < 2 or any(condition.best for condition in conditions):
        return []
    return list(conditions)
