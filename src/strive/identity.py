"""A cell's name, derived from what decides its numbers. Imports no torch."""

import hashlib
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from omegaconf import OmegaConf

from strive.config import Config, knobs, to_config

# Raised when a change of the science part would give old records a wrong name; see CONTRIBUTING.
SCHEMA = 1


def flat(config: Config) -> dict[str, Any]:
    """Return every knob as {dotted key: JSON value}, science and logistics."""
    return {key: _json_value(value) for key, _, value in knobs(config)}


def config_of(flat_config: Mapping[str, Any]) -> Config:
    """Return the config that `flat` was made of; raise ConfigError if it is none.

    Keys that this version does not know are left out where they are logistics of another version:
    the caller compares the cell's id.
    """
    known = {key for key, _, _ in knobs(Config())}
    node = OmegaConf.structured(Config)
    for key, value in flat_config.items():
        if key in known:
            OmegaConf.update(node, key, value, force_add=True)
    return to_config(node)


def science(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `flat(config)` that decides the numbers."""
    return {key: value for key, value in flat_config.items() if key in SCIENCE_KEYS}


def cell_id(config: Config) -> str:
    """Return the cell's name, such as all_cnn_c-cifar10-flip_shift-lr0.05-s0-1a2b3c4d5e.

    The last ten digits depend on the whole science part, not on its difference from the
    defaults: a changed default must give a new name, or old and new results would share a folder.
    """
    readable = (
        f"{config.model.name}-{config.data.name}-{config.augment.kind.value}-lr{config.optimizer.lr:g}-s{config.seed}"
    )
    return f"{readable}-{science_hash(flat(config))}"


def science_hash(flat_config: Mapping[str, Any]) -> str:
    """Return ten hex digits that depend on the science part and the schema version alone."""
    text = json.dumps([SCHEMA, science(flat_config)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {key: (value in a, value in b)} of the science keys that make two ids differ.

    Takes what `flat` returns, or the config of a record.
    """
    return {key: (a[key], b[key]) for key in science(a) if a[key] != b[key]}


def _json_value(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        # -0.0 is 0.0, and JSON has no infinity.
        return value + 0.0 if math.isfinite(value) else str(value)
    return value


SCIENCE_KEYS = frozenset(key for key, meaning, _ in knobs(Config()) if meaning.science)
