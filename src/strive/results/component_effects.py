"""Effects of the components of a factorial design, and of their interactions, from the conditions of its arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from strive.errors import EffectsError
from strive.results.conditions import Condition, apart
from strive.statistics.inference import LEVEL
from strive.statistics.two_level import Contrast, Contrasts, two_level_effects
from strive.sweeps.design import WITHOUT, Design, Word
from strive.sweeps.labels import ARM
from strive.sweeps.table_spec import TableSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentEffect:
    """The effect of one component, or an interaction of several, over all arms."""

    words: tuple[Word, ...]  # its components, then those of its aliases: what is estimated is the sum of all
    place: Mapping[str, Any]  # {key of the table: value} of the cells that it is of, if the table has other keys
    label: str
    aliases: str  # such as "augmentation x whitening"; "" if there are none
    found: Contrast
    decided: bool = False  # shown to differ from 0
    stepwise: bool = False  # only by a later step of Holm's correction, so that its interval contains 0
    p: float | None = None  # the p that decides


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentEffects:
    """The effects of a design at one place of the table's other keys, the largest first."""

    place: Mapping[str, Any]
    effects: tuple[ComponentEffect, ...]
    contrasts: Contrasts
    arms: int


def component_effects(
    conditions: Sequence[Condition], layout: TableSpec, *, mix: bool
) -> tuple[list[ComponentEffects], str]:
    """Return the effects of a two-level design, and why there are none where there could be; "" if there are all.

    Every combination of the table's other keys has effects of its own.
    """
    design = layout.design
    if design is None or not design.effects or ARM not in layout.keys:
        return [], ""
    by_place: dict[str, list[Condition]] = {}
    for condition in conditions:
        if condition.key[ARM] in design.arms:
            by_place.setdefault(repr(_place(condition)), []).append(condition)
    found, reasons = list[ComponentEffects](), list[str]()
    for members in by_place.values():
        place = _place(members[0])
        try:
            found.append(_effects(members, design, layout, place, mix=mix))
        except EffectsError as error:
            where = f" of {layout.labels.name(place)}" if place else ""
            reasons.append(f"No effects of the components{where}: {error}.")
    return found, " ".join(dict.fromkeys(reasons))


def _place(condition: Condition) -> dict[str, Any]:
    return {key: value for key, value in condition.key.items() if key != ARM}


def _effects(
    members: Sequence[Condition], design: Design, layout: TableSpec, place: Mapping[str, Any], *, mix: bool
) -> ComponentEffects:
    by_arm = {condition.key[ARM]: condition for condition in members}
    if lacking := [arm for arm in design.arms if arm not in by_arm or by_arm[arm].hole]:
        have = "has" if len(lacking) == 1 else "have"
        raise EffectsError(f"they need every cell, and {len(lacking)} of {len(design.arms)} arms {have} no mean")
    first = members[0]
    if not mix and (why := next(filter(None, (apart(each, first, layout.labels) for each in members)), "")):
        raise EffectsError(f"some arms have {why}")
    there = [{name: level != WITHOUT for name, level in design.arms[arm].levels.items()} for arm in design.arms]
    signs = [[-1 if sum(not run[name] for name in words[0]) % 2 else 1 for run in there] for words in design.effects]
    contrasts = two_level_effects([by_arm[arm].values for arm in design.arms], signs)
    effects = [
        _effect(words, each, contrasts, layout, place)
        for words, each in zip(design.effects, contrasts.contrasts, strict=True)
    ]
    effects.sort(key=lambda each: -abs(each.found.estimate))
    return ComponentEffects(place=place, effects=tuple(effects), contrasts=contrasts, arms=len(design.arms))


def _effect(
    words: tuple[Word, ...], found: Contrast, contrasts: Contrasts, layout: TableSpec, place: Mapping[str, Any]
) -> ComponentEffect:
    label = effect_text(words[0])
    effect = ComponentEffect(
        words=words,
        place=place,
        label=f"{label}, {layout.labels.name(place)}" if place else label,
        aliases=_aliases_text(words[1:]),
        found=found,
    )
    return with_test(effect, found.p if contrasts.pooled else found.p_unequal)


def with_test(effect: ComponentEffect, p: float | None) -> ComponentEffect:
    """Return an effect as this p decides it."""
    low, high = effect.found.simultaneous
    decided = p is not None and p <= 1 - LEVEL
    stepwise = decided and low is not None and high is not None and low <= 0 <= high
    return replace(effect, p=p, decided=decided, stepwise=stepwise)


def effect_text(word: Word) -> str:
    """Return the name of an effect: a component, or the components of an interaction."""
    return " x ".join(word)


def _aliases_text(words: Sequence[Word], most: int = 3) -> str:
    texts = map(effect_text, words[:most])
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return f"{', '.join(texts)}{more}"


def component_columns(cells: pd.DataFrame, design: Design) -> dict[str, list[str]]:
    """Return a column for each component with its level in each cell, by the cells' arms."""
    return {each.name: [design.arms[arm].levels[each.name] for arm in cells[ARM]] for each in design.components}
