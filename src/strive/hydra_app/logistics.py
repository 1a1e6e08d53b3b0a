"""Division of a foreign config into what decides a cell's numbers (science) and what does not (logistics).

A wrong guess must cost time, never a number: all is science but what the clock, the output folder and paths of this
machine say, and what the user declares.
"""

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from strive.errors import ConfigError
from strive.hydra_app.leaves import Call, Leaf

# ${hydra:...} of these says where and when a cell runs; all else, such as runtime.choices, is science.
_PLACES = ("runtime.output_dir", "runtime.cwd", "run", "sweep", "job.id")
# The place of a cell in this launch: it would be another one in the next launch.
_NUMBERS = ("job.num",)


@dataclass(frozen=True, slots=True)
class DividedConfig:
    """The leaves of one cell's config, science and logistics apart, {dotted key: JSON value} each."""

    science: dict[str, Any]
    logistics: dict[str, Any]
    reasons: dict[str, str]  # {logistics key: why it is}
    unresolved: dict[str, str] = field(default_factory=dict)  # {science key: why it has no value}


def divided(leaves: Mapping[str, Leaf], declared: Sequence[str] = ()) -> DividedConfig:
    """Return the leaves of a config, divided. declared: patterns of hydra.sweeper.logistics, such as paths.*

    Raises ConfigError for a leaf that depends on the cell's place in the launch.
    """
    found, patterns = DividedConfig({}, {}, {}), tuple(declared)
    for key, leaf in leaves.items():
        if reason := _why(key, leaf.calls, patterns):
            found.logistics[key], found.reasons[key] = leaf.value, reason
        elif call := _numbered(leaf.calls):
            raise ConfigError(
                f"{key} comes from ${{{call}}}, the cell's place in this launch, which is another one in the next;"
                f" give it a value of its own, or declare it: hydra.sweeper.logistics=[{key}]"
            )
        else:
            found.science[key] = leaf.value
            if leaf.problem:
                found.unresolved[key] = leaf.problem
    return found


def why_logistics(key: str, leaf: Leaf, declared: Sequence[str] = ()) -> str:
    """Return why a leaf decides no number, "" if it may decide some."""
    return _why(key, leaf.calls, tuple(declared))


@cache  # of the few keys that 10,000 cells have
def _why(key: str, calls: tuple[Call, ...], declared: tuple[str, ...]) -> str:
    for pattern in declared:
        if matches(key, pattern):
            return f"declared: {pattern}"
    return next((reason for call in calls if (reason := _reason(call))), "")


def matches(key: str, pattern: str) -> bool:
    """Return whether a pattern names a key, or a mapping or list that holds it."""
    below = key.startswith((f"{pattern}.", f"{pattern}["))
    return key == pattern or below or fnmatch.fnmatchcase(key, pattern)


def check_constant(first: Mapping[str, Leaf], second: Mapping[str, Leaf], declared: Sequence[str] = ()) -> None:
    """Raise ConfigError for a science leaf that is another one when it is evaluated again: a clock, a random number."""
    changed = [
        key
        for key, leaf in first.items()
        if not why_logistics(key, leaf, declared) and (key not in second or second[key].value != leaf.value)
    ]
    if changed:
        key = changed[0]
        again = second[key].value if key in second else "nothing"
        raise ConfigError(
            f"{key} is {first[key].value!r} and, evaluated again, {again!r}: a cell whose config changes by itself can"
            " never be found again. If it decides no number, declare it:"
            f" hydra.sweeper.logistics=[{','.join(changed)}]"
        )


def _reason(call: Call) -> str:
    if call.resolver == "now":
        return "it is the time"
    if call.resolver == "hydra" and _is_below(call.argument, _PLACES):
        return f"it comes from ${{{call}}}"
    # The default counts as the variable's value does: a cell has one id, whether a machine has the variable or not.
    if call.resolver == "oc.env" and _is_path(os.environ.get(call.argument, call.default)):
        return f"it comes from the path in ${{{call}}}"
    return ""


def _numbered(calls: tuple[Call, ...]) -> Call | None:
    return next((call for call in calls if call.resolver == "hydra" and _is_below(call.argument, _NUMBERS)), None)


def _is_below(argument: str, keys: Sequence[str]) -> bool:
    return any(f"{argument}.".startswith(f"{key}.") for key in keys)


def _is_path(text: str) -> bool:
    return re.match(r"(/|~|\.{1,2}(/|$)|[A-Za-z]:[\\/])", text) is not None
