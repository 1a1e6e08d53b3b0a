"""Factors among the keys that vary in a sweep: what was swept, without what follows from it."""

from collections.abc import Mapping, Sequence
from typing import Any

_OPTIONS = ("name", "kind", "source", "type", "_target_")


def names_option(key: str) -> bool:
    """Return whether a key says which option of its group was chosen, such as model.name."""
    return "." in key and key.rpartition(".")[2] in _OPTIONS


def independent(keys: Sequence[str], configs: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> list[str]:
    """Return the keys that tell the cells apart, in the order of `keys`, without those that follow from others.

    An option of a group brings many values, and interpolations repeat others; one key of them says it all, and best
    the one that names the option.
    keys: that vary. first: keys that are kept before others, such as those that were swept.
    """
    chosen: list[str] = []
    groups = [0] * len(configs)  # number of the group of cells that the chosen keys do not tell apart
    for key in sorted(keys, key=lambda each: (each not in first, not names_option(each))):
        numbers: dict[tuple[int, str], int] = {}
        finer = [
            numbers.setdefault((group, repr(config.get(key))), len(numbers))
            for group, config in zip(groups, configs, strict=True)
        ]
        if key in first or len(numbers) > len(set(groups)):
            chosen.append(key)
            groups = finer
    return [key for key in keys if key in chosen]
