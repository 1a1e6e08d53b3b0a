"""The config of an app that declares each key in a dataclass, by `keys.science` and `keys.logistics`: what
`strive.app.App` asks of a config, so that such an app has only to name its class.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any

from strive.config.json_value import json_scalar
from strive.config.keys import knobs
from strive.errors import ConfigError

_AS_THEY_ARE = (str, int, bool, NoneType)


@cache
def defaults(kind: type) -> dict[str, Any]:
    """Return {dotted key: default} of a config class."""
    return {key: value for key, _, value in knobs(kind())}


@cache
def groups(kind: type) -> tuple[str, ...]:
    """Return the keys of a config class that contain other keys, such as optimizer."""
    return tuple(item.name for item in dataclasses.fields(kind) if dataclasses.is_dataclass(item.default_factory))


@cache
def science_keys(kind: type) -> frozenset[str]:
    """Return the keys of a config class that determine a cell's numbers."""
    return frozenset(key for key, meaning, _ in knobs(kind()) if meaning.science)


@cache
def absent(kind: type) -> dict[str, Any]:
    """Return {dotted key: its default in JSON} of the keys that are left out of the identity at their default."""
    return {key: _json_value(value) for key, meaning, value in knobs(kind()) if meaning.absent}


def meaning_of(kind: type, key: str) -> tuple[type, str, str] | None:
    """Return (type, meaning, legal range) of a key, None if there is no such key."""
    for known, meaning, value in knobs(kind()):
        if known == key:
            return type(value), meaning.text, meaning.legal
    return None


def flat(config: Any) -> dict[str, Any]:
    """Return every key of a config as {dotted key: JSON value}, both science and logistics."""
    return {key: _json_value(value) for key, _, value in knobs(config)}


def config_of(kind: type, flat_config: Mapping[str, Any]) -> Any:
    """Return the config from which `flat` was made, unchecked; raise ConfigError for a value of another type.

    Unknown keys are skipped, because they may be logistics of another version: the caller must compare the
    cell's id.
    """
    parts: dict[str, dict[str, Any]] = {}
    config = kind()
    for key, _, default in knobs(config):
        group, _, name = key.rpartition(".")
        parts.setdefault(group, {})[name] = _typed(key, flat_config.get(key, default), type(default))
    top = parts.pop("")
    own = {name: replace(getattr(config, name), **values) for name, values in parts.items()}
    return kind(**top, **own)


def _typed(key: str, value: Any, kind: type) -> Any:
    """Return the JSON value converted to the key's type; a key whose default is null accepts true and false."""
    if kind is NoneType:
        if value is None:
            return None
        kind = bool
    try:
        if issubclass(kind, StrEnum) or kind is float:
            return kind(value)  # accepts "inf"
    except (TypeError, ValueError):
        pass
    else:
        if type(value) is kind:
            return value.copy() if isinstance(value, list | dict) else value
    raise ConfigError(f"{key}={value!r} is no {kind.__name__}")


def _json_value(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return json_scalar(value)
