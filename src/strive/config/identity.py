"""A cell's name, derived from what decides its numbers. Imports no torch."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cache
from json.encoder import encode_basestring_ascii
from types import NoneType
from typing import Any

import yaml

from strive import app
from strive.config.keys import knobs
from strive.config.platform_keys import CellConfig
from strive.errors import ConfigError

# Raised when a change of the science part would give old records a wrong name; see CONTRIBUTING.
SCHEMA = 1
KWARGS = "model.kwargs"

_encode = json.JSONEncoder(sort_keys=True, allow_nan=False).encode
# The same text as JSON's own, which takes ten times as long for a single number: 100,000 cells have millions.
_ENCODERS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: float.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
}


def flat(config: CellConfig) -> dict[str, Any]:
    """Return every knob as {dotted key: JSON value}, science and logistics."""
    return {key: _json_value(value) for key, _, value in knobs(config)}


@cache
def science_keys() -> frozenset[str]:
    """Return the keys of the app in use that decide a cell's numbers."""
    return frozenset(key for key, meaning, _ in knobs(app.current().Config()) if meaning.science)


@cache
def _names() -> list[tuple[str, str]]:
    """Return the science keys, each with its part of the hashed text, in the order of that text."""
    return [(key, f"{json.dumps(key)}: ") for key in sorted(science_keys())]


def with_argument_keys(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `flat(config)`, or the config of a record, with each argument of a builder as a key of its own, too.

    model.kwargs.channels, and model.kwargs.norm.eps of a mapping in it: as they are typed.
    """
    return {**flat_config, **_leaves(KWARGS, flat_config.get(KWARGS) or {})}


def decides(key: str) -> bool:
    """Return whether a key, of `flat` or of `spread`, decides a cell's numbers."""
    return key in science_keys() or is_argument(key)


def is_argument(key: str) -> bool:
    """Return whether a key is an argument of a builder, such as model.kwargs.channels."""
    return key.startswith(f"{KWARGS}.")


def _leaves(prefix: str, value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in value.items():
        key = f"{prefix}.{name}"
        found |= _leaves(key, each) if isinstance(each, Mapping) and each else {key: each}
    return found


def config_of(flat_config: Mapping[str, Any]) -> Any:
    """Return the config that `flat` was made of; raise ConfigError if it is none.

    Keys that this version does not know are left out where they are logistics of another version:
    the caller compares the cell's id.
    """
    parts: dict[str, dict[str, Any]] = {}
    defaults = app.current().Config()
    for key, _, default in knobs(defaults):
        group, _, name = key.rpartition(".")
        parts.setdefault(group, {})[name] = _typed(key, flat_config.get(key, default), type(default))
    top = parts.pop("")
    groups = {name: replace(getattr(defaults, name), **values) for name, values in parts.items()}
    return app.current().checked(type(defaults)(**top, **groups))


def to_yaml(config: CellConfig) -> str:
    """Return every knob as YAML, which Hydra reads back."""
    return yaml.safe_dump(nested(flat(config)), sort_keys=False)


def nested(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return {group: {name: value}} of {"group.name": value}, in the order of the keys; keys without a dot stay."""
    groups: dict[str, Any] = {}
    for key, value in flat_config.items():
        group, dot, name = key.partition(".")
        if dot:
            groups.setdefault(group, {})[name] = value
        else:
            groups[group] = value
    return groups


def science(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `flat(config)` that decides the numbers."""
    return {key: value for key, value in flat_config.items() if key in science_keys()}


def cell_id(config: CellConfig) -> str:
    """Return the cell's name, such as all_cnn_c-cifar10-flip_shift-lr0.05-s0-1a2b3c4d5e.

    The last ten digits depend on the whole science part, not on its difference from the
    defaults: a changed default must give a new name, or old and new results would share a folder.
    """
    return f"{app.current().cell_name(config)}-{science_hash(flat(config))}"


def science_hash(flat_config: Mapping[str, Any]) -> str:
    """Return ten hex digits that depend on the science part and the schema version alone."""
    return _hash([f"{name}{_text(flat_config[key])}" for key, name in _names() if key in flat_config])


def science_hashes(common: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return science_hash(common | each) of many cells that differ in the same few keys.

    What they share is turned into text once: a plan may have 100,000 cells.
    """
    names = [(key, name) for key, name in _names() if key in common or (own and key in own[0])]
    texts = {key: f"{name}{_text(common[key])}" for key, name in names if key in common}
    varying = [(key, name) for key, name in names if own and key in own[0]]
    found = []
    for each in own:
        texts |= {key: f"{name}{_text(each[key])}" for key, name in varying}
        found.append(_hash([texts[key] for key, _ in names]))
    return found


def _hash(texts: list[str]) -> str:
    """Return ten hex digits of the science part, as its keys and values in JSON."""
    return hashlib.sha256(f"[{SCHEMA}, {{{', '.join(texts)}}}]".encode()).hexdigest()[:10]


def _text(value: Any) -> str:
    return _ENCODERS.get(type(value), _encode)(value)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {key: (value in a, value in b)} of the science keys that make two ids differ; None where one is not there.

    Takes what `flat` returns, or the config of a record.
    """
    ours, theirs = (with_argument_keys(science(one)) for one in (a, b))
    for each in (ours, theirs):
        each.pop(KWARGS, None)
    absent = object()
    return {
        key: (ours.get(key), theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key, absent) != theirs.get(key, absent)
    }


def _typed(key: str, value: Any, kind: type) -> Any:
    """Return the JSON value as the knob's type; a knob whose default is null takes true and false."""
    if kind is NoneType:
        if value is None:
            return None
        kind = bool
    try:
        if issubclass(kind, StrEnum) or kind is float:
            return kind(value)  # "inf" is a number here
    except (TypeError, ValueError):
        pass
    else:
        if type(value) is kind:
            return value.copy() if isinstance(value, list | dict) else value
    raise ConfigError(f"{key}={value!r} is no {kind.__name__}")


def _json_value(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        # -0.0 is 0.0, and JSON has no infinity.
        return value + 0.0 if math.isfinite(value) else str(value)
    return value
