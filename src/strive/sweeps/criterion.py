"""The metric by which values are chosen, and how a sweep file names metrics and their directions. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strive.cells.metrics import HIGHER, LOWER, Better, better_of

if TYPE_CHECKING:  # imports Hydra, without which records are read
    from strive.sweeps.sections import Faults


@dataclass(frozen=True, slots=True)
class Criterion:
    """The metric by which a value is chosen: the value with the best mean wins."""

    metric: str  # val_error, of held-out images; test_error is the paper's own rule, and then biased
    better: Better

    def __str__(self) -> str:
        return self.metric

    @property
    def words(self) -> str:
        """Return its name in words, such as val error."""
        return self.metric.replace("_", " ")


def read_criterion(place: str, value: Any, faults: "Faults") -> Criterion | None:
    """Return the criterion that a sweep file names: METRIC, or {value: METRIC, better: lower or higher}."""
    entry = value if isinstance(value, dict) else {"value": value}
    name = entry.get("value")
    if not isinstance(name, str) or not name or set(entry) - {"value", "better"}:
        faults.add(f"{place} must be the name of a metric, or {{value: NAME, better: lower or higher}}, got {value!r}")
        return None
    better = read_better(place, entry.get("better"), faults) or better_of(name)
    if better is None:
        faults.add(direction_text(place, name))
        return None
    return Criterion(name, better)


def read_better(place: str, value: Any, faults: "Faults") -> Better | None:
    """Return the direction that a sweep file gives; None if it gives none."""
    if value is None:
        return None
    if value in Better.__members__:
        return Better(value)
    faults.add(f"{place}: better must be lower or higher, got {value!r}")
    return None


def direction_text(place: str, name: str) -> str:
    """Return that the direction of a metric must be said."""
    return (
        f"{place}: {name}: say better: lower or better: higher; only names that end in {', '.join(LOWER)} (lower) or"
        f" {', '.join(HIGHER)} (higher) tell it"
    )
