"""Conversion of Hydra's mapping to the app's own dataclasses.

No other code uses OmegaConf's containers.
"""

import dataclasses
from typing import Any

from omegaconf import DictConfig, OmegaConf

from strive import app
from strive.errors import ConfigError, UnknownKeyError


def is_typed(composed: DictConfig) -> bool:
    """Return whether a composed config has the class of the app in use, which has named itself by strive.app.use."""
    schema = app.in_use().config_class
    return schema is not None and OmegaConf.get_type(composed) is schema


def to_config(composed: DictConfig) -> Any:
    """Convert Hydra's mapping to plain dataclasses and check every value.

    The result contains no OmegaConf objects: attributes are typed, and using a missing one raises AttributeError.

    Raises ConfigError with one line for each illegal value.
    """
    return app.in_use().checked(to_dataclass(composed))


def to_dataclass(composed: DictConfig) -> Any:
    """Convert Hydra's mapping to plain dataclasses, checking only keys and types.

    Raises UnknownKeyError for a key added by +KEY=VALUE, ConfigError for one removed by ~KEY,
    and OmegaConf's errors for values of another type.
    """
    schema = app.in_use().config_class
    _check_keys(composed, schema(), "")
    config = OmegaConf.to_object(composed)
    assert isinstance(config, schema)
    return config


def _check_keys(composed: DictConfig, node: Any, prefix: str) -> None:
    legal = {item.name: getattr(node, item.name) for item in dataclasses.fields(node)}
    for name in map(str, composed):
        if name not in legal:
            raise UnknownKeyError(f"{prefix}{name}")
    for name, value in legal.items():
        if name not in composed and name != "sweeps":
            raise ConfigError(f"~{prefix}{name} takes away what every cell has; leave it out")
        if dataclasses.is_dataclass(value) and isinstance(below := composed._get_node(name), DictConfig):
            _check_keys(below, value, f"{prefix}{name}.")
