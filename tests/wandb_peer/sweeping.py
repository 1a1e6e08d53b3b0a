"""A sweep of W&B: which settings its agents get, in which order."""

import datetime
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wandb_peer.store import RefusedError, now

Point = dict[str, Any]


@dataclass(eq=False)
class Sweep:
    """A sweep, and what is still to be handed out of it."""

    id: str
    entity: str
    project: str
    text: str  # the configuration as it came, YAML
    config: dict[str, Any]
    state: str = "PENDING"
    created: datetime.datetime = field(default_factory=now)
    started: list[str] = field(default_factory=list)  # ids of the runs that agents were told to start

    def __post_init__(self) -> None:
        self._points = _points(self.config)

    def next_point(self) -> Point | None:
        """Return the next settings, or None when the sweep has no more."""
        cap = self.config.get("run_cap")
        return None if cap is not None and len(self.started) >= cap else next(self._points, None)


def _points(config: dict[str, Any]) -> Iterator[Point]:
    match config.get("method"):
        case "grid":
            return _grid(config["parameters"])
        case "random":
            return _random(config["parameters"], random.Random(0))
    raise RefusedError(f"the peer schedules grid and random, not {config.get('method')!r}")


def _grid(parameters: dict[str, Any]) -> Iterator[Point]:
    choices = [[(name, choice) for choice in _choices(name, given)] for name, given in parameters.items()]
    return map(dict, itertools.product(*choices))


def _choices(name: str, given: dict[str, Any]) -> list[Any]:
    match given:
        case {"value": value}:
            return [value]
        case {"values": values}:
            return list(values)
        case {"parameters": inner}:
            return list(_grid(inner))
        case {"min": int(low), "max": int(high)}:
            return list(range(low, high + 1))
    raise RefusedError(f"a grid needs values for the parameter {name}, got {given}")


def _random(parameters: dict[str, Any], draws: random.Random) -> Iterator[Point]:
    while True:
        yield _draw_all(parameters, draws)


def _draw_all(parameters: dict[str, Any], draws: random.Random) -> Point:
    return {name: _draw(name, given, draws) for name, given in parameters.items()}


def _draw(name: str, given: dict[str, Any], draws: random.Random) -> Any:
    match given:
        case {"value": value}:
            return value
        case {"values": values}:
            return draws.choices(values, given.get("probabilities"))[0]
        case {"parameters": inner}:
            return _draw_all(inner, draws)
    low, high = given.get("min", 0), given.get("max", 0)
    match given.get("distribution"):
        case "int_uniform":
            return draws.randint(low, high)
        case "uniform":
            return draws.uniform(low, high)
        case "log_uniform":  # the limits are exponents of e
            return math.exp(draws.uniform(low, high))
        case "log_uniform_values":
            return math.exp(draws.uniform(math.log(low), math.log(high)))
    raise RefusedError(f"the peer cannot draw the parameter {name} from {given}")
