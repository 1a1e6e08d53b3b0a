"""Identity of a cell: its id, derived from the keys that determine its numbers. Imports no torch."""

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

# Increased if a change of the science part would give old records a wrong id; see CONTRIBUTING.
SCHEMA = 1
KWARGS = "model.kwargs"

_encode = json.JSONEncoder(sort_keys=True, allow_nan=False).encode
# Same text as JSON's encoder, which is ten times slower for single numbers: 100,000 cells have millions of them.
_ENCODERS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: float.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
}


def flat(config: CellConfig) -> dict[str, Any]:
    """Return every knob as {dotted key: JSON value}, both science and logistics."""
    return {key: _json_value(value) for key, _, value in knobs(config)}


@cache
def science_keys() -> frozenset[str]:
    """Return the keys of the current app that determine a cell's numbers."""
    return frozenset(key for key, meaning, _ in knobs(app.current().Config()) if meaning.science)


@cache
def _names() -> list[tuple[str, str]]:
    """Return the science keys, each with its part of the hashed text, in the order of that text."""
    return [(key, f"{json.dumps(key)}: ") for key in sorted(science_keys())]


def with_argument_keys(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `flat(config)`, or a record's config, with an additional key for each argument of a builder.

    The keys are as a user types them: model.kwargs.channels, or model.kwargs.norm.eps inside a mapping.
    """
    return {**flat_config, **_leaves(KWARGS, flat_config.get(KWARGS) or {})}


def decides(key: str) -> bool:
    """Return whether a key of `flat` or `spread` determines a cell's numbers."""
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
    """Return the config from which `flat` was made; raise ConfigError if it is invalid.

    Unknown keys are skipped, because they may be logistics of another version: the caller must compare the
    cell's id.
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
    """Return every knob as YAML that Hydra can read."""
    return yaml.safe_dump(nested(flat(config)), sort_keys=False)


def nested(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return {group: {name: value}} for {"group.name": value}, in order; keys without a dot do not change."""
    groups: dict[str, Any] = {}
    for key, value in flat_config.items():
        group, dot, name = key.partition(".")
        if dot:
            groups.setdefault(group, {})[name] = value
        else:
            groups[group] = value
    return groups


def science_of(config: Any) -> dict[str, Any]:
    """Return the part of a config that determines its numbers, as {dotted key: JSON value}."""
    return science(flat(config))


def science(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `flat(config)` that determines the numbers."""
    return {key: value for key, value in flat_config.items() if key in science_keys()}


def cell_id(config: CellConfig) -> str:
    """Return the cell's id, such as all_cnn_c-cifar10-flip_shift-lr0.05-s0-1a2b3c4d5e.

    The last ten digits hash the whole science part, not only its difference from the defaults. Otherwise,
    after a change of a default, old and new results would share an id.
    """
    return f"{app.current().cell_name(config)}-{science_hash(flat(config))}"


def science_hash(flat_config: Mapping[str, Any]) -> str:
    """Return ten hex digits that depend only on the science part and the schema version."""
    return _hash([f"{name}{_text(flat_config[key])}" for key, name in _names() if key in flat_config])


def hash_of(science: Mapping[str, Any]) -> str:
    """Return the ten digits of a whole science part, as a record's config is one; asks no app what is science."""
    return _hash([f"{encode_basestring_ascii(key)}: {_text(science[key])}" for key in sorted(science)])


def science_hashes(common: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return science_hash(common | each) for many cells that differ in the same few keys.

    The common part is encoded only once, because a plan may have 100,000 cells.
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
    """Return ten hex digits for the science part, given its keys and values in JSON."""
    return hashlib.sha256(f"[{SCHEMA}, {{{', '.join(texts)}}}]".encode()).hexdigest()[:10]


def _text(value: Any) -> str:
    return _ENCODERS.get(type(value), _encode)(value)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {key: (value in a, value in b)} of the keys that differ; None for a missing value.

    a, b: science parts, as configs of records are.
    """
    ours, theirs = (with_argument_keys(one) for one in (a, b))
    for each in (ours, theirs):
        each.pop(KWARGS, None)
    absent = object()
    return {
        key: (ours.get(key), theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key, absent) != theirs.get(key, absent)
    }


def _typed(key: str, value: Any, kind: type) -> Any:
    """Return the JSON value converted to the knob's type; a knob whose default is null accepts true and false."""
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
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        # Turns -0.0 into 0.0, and infinity into text because JSON has none.
        return value + 0.0 if math.isfinite(value) else str(value)
    return value
