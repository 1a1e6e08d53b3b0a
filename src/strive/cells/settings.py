"""Settings of the platform for a cell: where its record goes, its resources, lease, checkpoints and tracker.

None of them is part of its identity.
"""

from dataclasses import dataclass, field
from typing import Any

from strive import app
from strive.config.platform_keys import NeedsConfig, TrackerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the platform has to know of a cell besides its config."""

    runs: str  # folder of records
    threads: int = 0  # CPU threads; 0: as many as its worker is given
    device: str = "auto"  # cpu: it leaves the GPUs alone
    checkpoint_minutes: float = 5.0
    lease_seconds: float = 120.0  # without a heartbeat for so long, its process counts as gone
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    needs: NeedsConfig = field(default_factory=NeedsConfig)


def settings_of(config: Any) -> Settings:
    """Return the settings of a cell's config, as the current app finds them."""
    return app.in_use().settings(config)
