"""Keys of a cell's tracker and of its resources, for an app's config and for the platform's settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from strive.config.keys import knobs, logistics, not_negative
from strive.errors import ConfigError

CellConfig = Any  # of the app's own class


class Tracker(StrEnum):
    """Tracker for a cell's metrics."""

    auto = "auto"
    none = "none"
    wandb = "wandb"
    csv = "csv"
    tensorboard = "tensorboard"


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """What mirrors a cell, and settings of its W&B run. None is part of its identity; training never waits for W&B."""

    kind: Tracker = logistics(
        Tracker.auto,
        "auto: W&B where its client and a key are there; none: never; wandb: refuse to start without them;"
        " csv, tensorboard: files beside the plan",
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


NEEDS = "needs"  # the group of these keys, in a sweep file of any app


@dataclass(kw_only=True, slots=True)
class NeedsConfig:
    """Resources of the SLURM job that trains this cell; 0 and empty leave them to hydra.launcher."""

    timeout_min: int = logistics(
        0, "time limit of the job", "0 or more", unit="minutes", check=lambda minutes: minutes >= 0
    )
    mem_gb: float = logistics(0.0, "memory of the job", "0 or more", unit="GB", check=not_negative)
    gres: str = logistics("", "generic resources of the job, such as gpu:1")
    cpus: int = logistics(0, "cores of the cell", "0 or more", check=lambda cores: cores >= 0)
    gpus: int = logistics(0, "GPUs that the cell sees, of its job's", "0 or more", check=lambda gpus: gpus >= 0)
    partition: str = logistics("", "partition of the job, or several: long,short")
    constraint: str = logistics("", "features that the job's node must have")
    qos: str = logistics("", "quality of service of the job")


def is_need(key: str) -> bool:
    """Return whether a key without Hydra's + is one of needs, or what would be one."""
    return key.partition(".")[0] == NEEDS


def check_need(key: str) -> None:
    """Raise ConfigError for a key of needs that there is not."""
    legal = [f"{NEEDS}.{item.name}" for item in fields(NeedsConfig)]
    if key not in legal:
        raise ConfigError(f"there is no key {key}; legal: {', '.join(legal)}")


def needs_with(values: Mapping[str, Any]) -> NeedsConfig:
    """Return the needs of {such as needs.gres: value}.

    Raises ConfigError for an unknown key, and for a value of another type or out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    node = OmegaConf.structured(NeedsConfig)
    for key, value in values.items():
        check_need(key)
        try:
            node[key.partition(".")[2]] = value
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from None
    needs = OmegaConf.to_object(node)
    assert isinstance(needs, NeedsConfig)
    for name, meaning, value in knobs(needs):
        if not meaning.check(value):
            raise ConfigError(f"{NEEDS}.{name} must be {meaning.legal}, got {value!r}")
    return needs
