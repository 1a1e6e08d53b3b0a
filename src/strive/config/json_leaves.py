"""Leaves of a config that no dataclass describes, as identity, records and config.yaml have them."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from strive.config.json_value import json_scalar
from strive.errors import ConfigError


def json_leaves(config: Any) -> dict[str, Any]:
    """Return {dotted key: JSON value} of every leaf; a list is one leaf, and so is an empty mapping.

    config: a mapping, an instance of a dataclass, or a node of OmegaConf, which is resolved. Infinity becomes text,
    because JSON has none.

    Raises ConfigError for a value that JSON lacks, and for a key that is no text.
    """
    found: dict[str, Any] = {}
    _add(found, "", _plain(config))
    return found


def _plain(config: Any) -> Any:
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    if isinstance(config, Mapping) and type(config).__module__.startswith("omegaconf."):
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(" ".join(str(error).split())) from error
    if isinstance(config, Mapping):
        return config
    raise ConfigError(
        f"a config is a mapping, a dataclass or a node of OmegaConf, got the {type(config).__name__} {config!r}"
    )


def _add(found: dict[str, Any], prefix: str, values: Mapping[Any, Any]) -> None:
    for name, value in values.items():
        if not isinstance(name, str):
            raise ConfigError(f"{prefix}{name!r}: a key of a config is a text, got the {type(name).__name__} {name!r}")
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            _add(found, f"{key}.", value)
        elif key in found:
            raise ConfigError(f"{key} is there twice, as a key with a dot and as a key below another")
        else:
            found[key] = _json_value(key, value)


def _json_value(key: str, value: Any) -> Any:
    value = json_scalar(value)
    if isinstance(value, Mapping):
        return {str(name): _json_value(f"{key}.{name}", each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(f"{key}[{place}]", each) for place, each in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigError(
        f"{key} is the {type(value).__name__} {value!r}; legal in a config: texts, numbers, true, false, null, and"
        " lists and mappings of them"
    )
