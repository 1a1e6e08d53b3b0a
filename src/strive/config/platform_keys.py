"""Keys that every cell has because the platform reads them: where it runs, what it needs, where it is shown."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from strive.config.keys import logistics, not_negative


class Tracker(StrEnum):
    """Whether a cell is shown on W&B."""

    auto = "auto"
    none = "none"
    wandb = "wandb"


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """Where W&B shows a cell. Nothing here is part of its identity, and training waits for none of it."""

    kind: Tracker = logistics(
        Tracker.auto, "auto: W&B where its client and a key are there; none: never; wandb: refuse to start without them"
    )
    project: str = logistics(
        "",
        "W&B project; empty takes WANDB_PROJECT, or else strive",
        "at most 128 characters, none of / \\ # ? % :",
        check=lambda name: re.fullmatch(r"[^/\\#?%:\x00-\x1f]{0,128}", name) is not None,
    )
    entity: str = logistics(
        "",
        "W&B user or team; empty takes WANDB_ENTITY, or else the key's own",
        "letters, digits, - and _",
        check=lambda name: re.fullmatch(r"[\w.-]*", name) is not None,
    )
    images: int = logistics(
        0,
        "sample pictures: so many training images as the net sees them, and so many of its worst mistakes",
        "0 to 256",
        unit="images",
        check=lambda n: 0 <= n <= 256,
    )
    weights: bool = logistics(False, "upload the final weights as an artifact")


@dataclass(kw_only=True, slots=True)
class NeedsConfig:
    """What a SLURM job must ask for to train this cell; 0 and empty leave it to hydra.launcher."""

    timeout_min: int = logistics(
        0, "time limit of the job", "0 or more", unit="minutes", check=lambda minutes: minutes >= 0
    )
    mem_gb: float = logistics(0.0, "memory of the job", "0 or more", unit="GB", check=not_negative)
    gres: str = logistics("", "generic resources of the job, such as gpu:1")


class TrainerKeys(Protocol):
    """What the platform reads of `trainer`."""

    threads: int
    checkpoint_minutes: float
    lease_seconds: float
    progress: bool


class CellConfig(Protocol):
    """A cell's config as the platform knows it: a dataclass of the app's own, of which it reads these."""

    @property
    def seed(self) -> int:
        """What makes replicates."""

    @property
    def runs(self) -> str:
        """Folder that records are written to."""

    @property
    def trainer(self) -> TrainerKeys:
        """Where and how the cell runs."""

    @property
    def tracker(self) -> TrackerConfig:
        """Where it is shown."""

    @property
    def needs(self) -> NeedsConfig:
        """What its SLURM job asks for."""
