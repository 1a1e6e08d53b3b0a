"""Retry policy of a launch, by how a cell ended."""

from dataclasses import dataclass

from strive.cells.records import Status
from strive.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class Retries:
    """hydra.launcher.retries: what a machine did to a cell is tried again, what the cell did itself is not."""

    timeout: int = 20  # goes on from its checkpoint
    preempted: int = 100  # goes on from its checkpoint
    node_fail: int = 3
    killed: int = 1
    out_of_memory: int = 0
    error: int = 0

    def __post_init__(self) -> None:
        for status in _FAILURES:
            if (times := getattr(self, status)) < 0:
                raise ConfigError(f"hydra.launcher.retries.{status} must be 0 or more, got {times}")

    def allow(self, status: Status, times_so_far: int) -> bool:
        """Return whether a cell that ended so is tried again, after so many tries for the same reason."""
        return not status.finished and times_so_far < int(getattr(self, status.value))


_FAILURES = [status.value for status in Status if not status.finished]
