"""A cell's keys: what each means, in which unit, what is legal, and whether it decides the cell's numbers.

An app's config is a dataclass (of dataclasses) whose fields are made by `science` and `logistics`. Imports no torch.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from strive import app

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Meaning:
    """What a key means to people, and whether it decides a cell's numbers (science)."""

    text: str
    legal: str
    unit: str
    science: bool
    check: Check


def science(default: Any, text: str, legal: str = "", *, unit: str = "", check: Check | None = None) -> Any:
    """Return the field of a key that decides numbers. legal: in words; check: whether a value is."""
    return _key(default, Meaning(text, legal, unit, True, check or _anything))


def logistics(default: Any, text: str, legal: str = "", *, unit: str = "", check: Check | None = None) -> Any:
    """Return the field of a key that decides no number."""
    return _key(default, Meaning(text, legal, unit, False, check or _anything))


def knobs(node: Any, prefix: str = "") -> Iterator[tuple[str, Meaning, Any]]:
    """Yield (key, meaning, value) of every key below a config dataclass, in order of definition."""
    for item in dataclasses.fields(node):
        key, value = f"{prefix}{item.name}", getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            yield from knobs(value, f"{key}.")
        elif "meaning" in item.metadata:
            yield key, item.metadata["meaning"], value


@cache
def defaults() -> dict[str, Any]:
    """Return {dotted key: default} of the app in use."""
    return {key: value for key, _, value in knobs(app.current().Config())}


@cache
def groups() -> tuple[str, ...]:
    """Return the keys of the app in use that hold other keys, such as optimizer."""
    fields = dataclasses.fields(app.current().Config)
    return tuple(item.name for item in fields if dataclasses.is_dataclass(item.default_factory))


def not_negative(value: float) -> bool:
    """Return whether a number is 0 or more, and finite."""
    return math.isfinite(value) and value >= 0


def _anything(value: Any) -> bool:
    return True


def _key(default: Any, meaning: Meaning) -> Any:
    metadata = {"meaning": meaning}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)
