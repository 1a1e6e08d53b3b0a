"""One cell of a foreign app: what decides its numbers, what does not, and how it is frozen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from strive.cells.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What hydra.sweeper and hydra.launcher say of all cells of a foreign app."""

    settings: Settings
    logistics: Sequence[str] = ()  # patterns of keys that decide no number
    absent: Mapping[str, Any] = field(default_factory=dict)  # {key: the value that a cell without the key had}
    check: Callable[[DictConfig], object] | None = None  # raises for a config that cannot be trained
    code: Sequence[str] = ()  # patterns of files that decide numbers besides what is imported
    seed: str = "seed"  # the key that makes replicates
    fresh_process: bool = True  # whether each cell has a process of its own
    processes: int = 1  # of each cell
    resume_overrides: Sequence[str] = ()  # added where a cell goes on


@dataclass(frozen=True, kw_only=True, slots=True)
class HydraCell:
    """One cell of a foreign app."""

    science: Mapping[str, Any]  # {dotted key: JSON value} of the leaves that decide its numbers
    logistics: Mapping[str, Any]  # and of the others
    reasons: Mapping[str, str]  # {logistics key: why it is}
    settings: Settings
    name: str  # of the app: hydra.job.name
    composed: Callable[[], DictConfig] | None = None  # returns the whole config, with its hydra node
    freeze: Callable[[], dict[str, str]] | None = None  # returns it as `frozen.frozen_cell` does
    frozen: Mapping[str, str] = field(default_factory=dict)  # in a worker: what that was when it was frozen

    @property
    def flat(self) -> dict[str, Any]:
        """Return every key."""
        return {**self.science, **self.logistics}
