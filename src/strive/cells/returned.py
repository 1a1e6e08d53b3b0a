"""Metrics of a cell, from what an app's function returned or logged. Imports the standard library."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from strive.errors import ContractError

OBJECTIVE = "objective"  # the name of a number that is returned alone
_NUMBER = "a number, None, or what has .item(), such as a tensor of one element"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with what chance gives: at or beyond that, nothing was learned."""

    value: Any  # a number, None, or what has .item()
    chance: Any = None  # a number, in the metric's unit; None: unknown


def returned_metrics(returned: Any) -> tuple[dict[str, int | float | None], dict[str, float]]:
    """Return the metrics, and what chance gives for those that say it: a number alone is `objective`.

    A number that is not finite is None. Raises ContractError for what is neither a number, nor a mapping of names to
    numbers, nor None.
    """
    if returned is None:
        return {}, {}
    if not isinstance(returned, Mapping):
        if not isinstance(returned, Metric) and not _has_item(returned):
            raise ContractError(
                f"the function returned {_shown(returned)}; legal: a number (it becomes the metric {OBJECTIVE}), a"
                " mapping of names to numbers, or None. A model goes into a file in strive.current().folder"
            )
        returned = {OBJECTIVE: returned}
    metrics: dict[str, int | float | None] = {}
    chance: dict[str, float] = {}
    for name, value in returned.items():
        check_name(name)
        if name in metrics:
            raise ContractError(f"two metrics have the name {name}; give one of them another name")
        is_metric = isinstance(value, Metric)
        metrics[name] = number(name, value.value if is_metric else value)
        if is_metric and (by_chance := number(f"the chance of {name}", value.chance)) is not None:
            chance[name] = float(by_chance)
    return metrics, chance


def check_name(name: object) -> None:
    """Raise ContractError for what cannot name a metric."""
    if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable():
        raise ContractError(
            f"{name!r} is no name of a metric; legal: a text that can be printed, without spaces at its ends"
        )


def number(name: str, value: Any) -> int | float | None:
    """Return a value as a number of JSON; None if it is not finite. Raises ContractError for what is no number.

    name: what the message calls it.
    """
    if value is None:
        return None
    found = value if isinstance(value, Real) else _item(name, value)
    if isinstance(found, Integral):
        whole = int(found)
        return whole if abs(whole) < 2**63 else float(whole)
    if isinstance(found, Real):
        real = float(found)
        return real if math.isfinite(real) else None
    raise _no_number(name, value)


def _item(name: str, value: Any) -> Any:
    if not _has_item(value):
        raise _no_number(name, value)
    try:
        return value.item()
    except Exception as error:
        raise _no_number(name, value) from error


def _has_item(value: Any) -> bool:
    return isinstance(value, Real) or (not isinstance(value, type) and callable(getattr(value, "item", None)))


def _no_number(name: str, value: Any) -> ContractError:
    several = hasattr(value, "__len__") and not isinstance(value, str | bytes)
    apart = "; give each of its numbers a name of its own" if several else ""
    return ContractError(f"{name} is {_shown(value)}; legal: {_NUMBER}{apart}")


def _shown(value: Any) -> str:
    """Return the type and the beginning of a value in one line."""
    try:
        text = " ".join(reprlib.repr(value).split())
    except Exception:  # of a class of the app
        text = "..."
    kind = type(value).__name__
    return f"the {kind} {text if len(text) <= 80 else text[:77] + '...'}"
