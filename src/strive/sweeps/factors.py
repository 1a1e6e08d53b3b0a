"""Factors among the keys that vary in a sweep: what was swept, without what follows from it."""

from collections.abc import Mapping, Sequence
from typing import Any


def independent(keys: Sequence[str], configs: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> list[str]:
    """Return the keys that tell the cells apart, in the order of `keys`, without those that follow from others.

    An option of a group brings many values, and interpolations repeat others; one key of them says it all.
    keys: that vary. first: keys that are kept before others, such as those that were swept.
    """
    chosen: list[str] = []
    groups = [0] * len(configs)  # number of the group of cells that the chosen keys do not tell apart
    for key in (*(each for each in first if each in keys), *(each for each in keys if each not in first)):
        numbers: dict[tuple[int, str], int] = {}
        finer = [
            numbers.setdefault((group, repr(config.get(key))), len(numbers))
            for group, config in zip(groups, configs, strict=True)
        ]
        if key in first or len(numbers) > len(set(groups)):
            chosen.append(key)
            groups = finer
    return [key for key in keys if key in chosen]
