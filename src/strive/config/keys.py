"""Keys of a cell's config: meaning, unit and legal values, and whether the key determines the cell's numbers.

An app's config is a dataclass (of dataclasses) whose fields are made by `science` and `logistics`. Imports no torch.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any

from strive import app

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Meaning:
    """The meaning of a key for users, and whether it determines a cell's numbers (science)."""

    text: str
    legal: str
    unit: str
    science: bool
    check: Check
    absent: bool = False  # the key came later: at its default it is left out of the identity, as in older cells


def science(
    default: Any, text: str, legal: str = "", *, unit: str = "", check: Check | None = None, absent: bool = False
) -> Any:
    """Return the field of a key that determines numbers. legal: description; check: tests a value.

    absent: at its default the key is left out of a cell's identity. So a key that is added later renames no cell that
    was trained without it.
    """
    return _key(default, Meaning(text, legal, unit, True, check or _anything, absent))


def logistics(default: Any, text: str, legal: str = "", *, unit: str = "", check: Check | None = None) -> Any:
    """Return the field of a key that does not change any number."""
    return _key(default, Meaning(text, legal, unit, False, check or _anything))


def knobs(node: Any) -> Iterator[tuple[str, Meaning, Any]]:
    """Yield (key, meaning, value) for every key of a config dataclass, in order of definition."""
    keys, meanings, values_in = _known(node.__class__)
    return zip(keys, meanings, values_in(node), strict=True)


@cache  # a plan of 10,000 cells asks some ten times for each
def _known(kind: type) -> tuple[tuple[str, ...], tuple[Meaning, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the keys of a config dataclass, their meanings, and what returns all their values of an instance."""
    found = dict(_meanings(kind))
    return tuple(found), tuple(found.values()), values_of(found)


def values_of(keys: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what returns the values of dotted keys of a config dataclass, in this order."""
    getters = [attrgetter(key) for key in keys]
    return attrgetter(*keys) if len(getters) > 1 else lambda node: tuple(value_in(node) for value_in in getters)


def _meanings(kind: type, prefix: str = "") -> Iterator[tuple[str, Meaning]]:
    for item in dataclasses.fields(kind):
        key, below = f"{prefix}{item.name}", item.default_factory
        if isinstance(below, type) and dataclasses.is_dataclass(below):
            yield from _meanings(below, f"{key}.")
        elif "meaning" in item.metadata:
            yield key, item.metadata["meaning"]


def wrong_values(node: Any) -> list[str]:
    """Return a line for each key of a config dataclass whose value its check refuses."""
    return [
        f"{key} must be {meaning.legal}, got {value!r}"
        for key, meaning, value in knobs(node)
        if not meaning.check(value)
    ]


def defaults() -> Mapping[str, Any]:
    """Return {dotted key: default} for the current app."""
    return app.in_use().defaults()


def groups() -> Sequence[str]:
    """Return the keys of the current app that contain other keys, such as optimizer."""
    return app.in_use().groups()


def not_negative(value: float) -> bool:
    """Return whether a number is finite and at least 0."""
    return math.isfinite(value) and value >= 0


def _anything(value: Any) -> bool:
    return True


def _key(default: Any, meaning: Meaning) -> Any:
    metadata = {"meaning": meaning}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)
