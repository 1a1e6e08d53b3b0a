"""From Hydra's mapping to the app's own dataclasses: the one border between Hydra and the program.

Below it nobody sees OmegaConf.
"""

import dataclasses
from typing import Any

from omegaconf import DictConfig, OmegaConf

from strive import app
from strive.errors import ConfigError, UnknownKeyError


def to_config(composed: DictConfig) -> Any:
    """Turn Hydra's mapping into plain dataclasses and check every value.

    After this call no code sees OmegaConf: attributes are typed, and a missing one is an
    AttributeError where it is used.

    Raises ConfigError with one line for each wrong value.
    """
    return app.current().checked(to_dataclass(composed))


def to_dataclass(composed: DictConfig) -> Any:
    """Return Hydra's mapping as plain dataclasses, of which only keys and types were checked.

    Raises UnknownKeyError for a key that +KEY=VALUE added, ConfigError for one that ~KEY took away,
    OmegaConf's errors for values of another type.
    """
    schema = app.current().Config
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
