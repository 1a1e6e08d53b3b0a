"""Identity of a cell: its id, derived from the keys that determine its numbers. Imports no torch."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from json.encoder import encode_basestring_ascii
from typing import Any

import yaml

from strive import app
from strive.config.platform_keys import CellConfig

# Increased if a change of the science part would give old records a wrong id; see CONTRIBUTING.
SCHEMA = 1
# Keys that hold the arguments of a user's own function, and the key that names each function.
BUILDERS = {"model.kwargs": "model.builder", "augment.kwargs": "augment.builder"}

_encode = json.JSONEncoder(sort_keys=True, allow_nan=False).encode
# Same text as JSON's encoder, which is ten times slower for single numbers: 100,000 cells have millions of them.
_ENCODERS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: float.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}


def with_argument_keys(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as App.flat has it, or a record's config, with an additional key for each argument of a builder.

    The keys are as a user types them: model.kwargs.channels, or model.kwargs.norm.eps inside a mapping.
    """
    return {**flat_config, **arguments_of(flat_config)}


def arguments_of(flat_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return {key: value} of the arguments of builders alone, as `with_argument_keys` has them."""
    found: dict[str, Any] = {}
    for key in BUILDERS:
        found |= _leaves(key, flat_config.get(key) or {})
    return found


def builders(science: Mapping[str, Any]) -> list[str]:
    """Return the user's own functions that a cell calls, package.module:function each; science: its config."""
    return [str(science[key]) for key in BUILDERS.values() if science.get(key)]


def argument_name(key: str) -> str:
    """Return a builder's argument without the key that holds it; "" for another key."""
    return next((key.removeprefix(f"{each}.") for each in BUILDERS if key.startswith(f"{each}.")), "")


def decides(key: str) -> bool:
    """Return whether a key of a config, or of `with_argument_keys`, determines a cell's numbers."""
    return app.in_use().decides(key)


def science_keys() -> frozenset[str]:
    """Return the known keys of the current app that determine a cell's numbers."""
    return frozenset(filter(decides, app.in_use().defaults()))


def is_open_key(key: str) -> bool:
    """Return whether a key need not be in every cell, such as model.kwargs.channels, an argument of a builder."""
    return app.in_use().is_open(key)


def _leaves(prefix: str, value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in value.items():
        key = f"{prefix}.{name}"
        found |= _leaves(key, each) if isinstance(each, Mapping) and each else {key: each}
    return found


def to_yaml(config: CellConfig) -> str:
    """Return every knob as YAML that Hydra can read."""
    return yaml.safe_dump(nested(app.in_use().flat(config)), sort_keys=False)


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


def deciding(config: CellConfig) -> dict[str, Any]:
    """Return what determines the numbers, with the keys, too, that are absent from the identity at their value."""
    flat = app.in_use().flat(config)
    return {key: flat[key] for key in app.in_use().absent() if key in flat} | app.in_use().science(config)


def without(absent: Mapping[str, Any], science: Mapping[str, Any]) -> dict[str, Any]:
    """Return a science part without the keys that have the value that their absence means. absent: {key: value}."""
    return {key: value for key, value in science.items() if key not in absent or absent[key] != value}


def cell_id(config: CellConfig) -> str:
    """Return the cell's id, such as all_cnn_c-cifar10-flip_shift-lr0.05-s0-1a2b3c4d5e.

    The last ten digits hash the whole science part, not only its difference from the defaults. Otherwise,
    after a change of a default, old and new results would share an id.
    """
    return f"{app.in_use().cell_name(config)}-{hash_of(app.in_use().science(config))}"


def hash_of(science: Mapping[str, Any]) -> str:
    """Return the ten hex digits of a whole science part, as a record's config is one."""
    try:
        return _digest(_encode(dict(science)))  # at once: of all that is done for a record this takes the longest
    except ValueError:  # a number without end, which JSON lacks; 1e999 in a record is read as one
        return _hash([f"{_name(key)}{_text(science[key])}" for key in sorted(science)])


def hashes_of(common: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return hash_of(common | each) for many cells that differ in a few keys.

    The common part is encoded only once, because a plan may have 100,000 cells.
    """
    texts = {key: f"{_name(key)}{_text(value)}" for key, value in common.items()}
    names: dict[tuple[str, ...], list[str]] = {}  # sorted once for all cells with the same keys
    found = []
    for each in own:
        keys = tuple(each)
        if keys not in names:
            names[keys] = sorted({*common, *keys})
        texts |= {key: f"{_name(key)}{_text(value)}" for key, value in each.items()}
        found.append(_hash([texts[key] for key in names[keys]]))
    return found


@cache
def _name(key: str) -> str:
    return f"{encode_basestring_ascii(key)}: "


def _hash(texts: list[str]) -> str:
    """Return ten hex digits for the science part, given its keys and values in JSON."""
    return _digest(f"{{{', '.join(texts)}}}")


def _digest(text: str) -> str:
    return hashlib.sha256(f"[{SCHEMA}, {text}]".encode()).hexdigest()[:10]


def _text(value: Any) -> str:
    return _ENCODERS.get(type(value), _encode)(value)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {key: (value in a, value in b)} of the keys that differ; None for a missing value.

    a, b: science parts, as configs of records are.
    """
    ours, theirs = (with_argument_keys(one) for one in (a, b))
    for each in (ours, theirs):
        for key in BUILDERS:
            each.pop(key, None)
    absent = object()
    return {
        key: (ours.get(key), theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key, absent) != theirs.get(key, absent)
    }
