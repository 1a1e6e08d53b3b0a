"""A composed config as text from which the very same typed config is made: dataclass names, enums, ??? and
interpolations are kept. YAML and OmegaConf.to_container lose the types, and a pickle would execute what it holds.
"""

import enum
import importlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.base import Container, Node

from strive.errors import ConfigError
from strive.hydra_app.leaves import json_value
from strive.hydra_internals import hydra_config, resolvers


def frozen(config: DictConfig) -> str:
    """Return the config as one line of JSON, unresolved. Raises ConfigError for a value that JSON has no form for."""
    return json.dumps(_dumped(config, ""))


def thawed(text: str) -> DictConfig:
    """Return the config that `frozen` made into text. Imports the modules of its dataclasses and enums."""
    config = _built(json.loads(text))
    assert isinstance(config, DictConfig)
    return config


def frozen_cell(config: DictConfig) -> dict[str, str]:
    """Return a cell's config, and what its resolvers give here and now; `${hydra:...}` must be readable."""
    pinned = {key: value for key, node in _calling(config, "") if (value := _resolved(node)) is not _UNRESOLVED}
    return {"config": frozen(config), "pinned": json.dumps(pinned)}


def thawed_cell(content: Mapping[str, str]) -> DictConfig:
    """Return the config of a cell in which each resolver but hydra: gives what it gave when the cell was frozen.

    What depends on such a value stays an interpolation, so that it follows an app that assigns to its config.
    """
    config = thawed(content["config"])
    pinned = json.loads(content["pinned"])
    with hydra_config(config):
        changed = {
            key: pinned[key] for key, node in _calling(config, "") if key in pinned and _resolved(node) != pinned[key]
        }
    with flag_override(config, ["struct", "readonly"], [False, False]):
        for key, value in changed.items():
            OmegaConf.update(config, key, value, force_add=True)
    return config


_UNRESOLVED = object()


def _calling(node: Any, key: str) -> Iterator[tuple[str, Node]]:
    """Yield (key, node) for each interpolation of a mapping or list that calls a resolver itself; not below hydra."""
    names: Any = node if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        if not key and name == "hydra":
            continue
        child = node._get_node(name)
        below = f"{key}[{name}]" if isinstance(node, ListConfig) else f"{key}.{name}".lstrip(".")
        if child._is_interpolation():
            if resolvers(child._value()) - {"hydra"}:
                yield below, child
        elif isinstance(child, Container) and not (child._is_none() or child._is_missing()):
            yield from _calling(child, below)


def _resolved(node: Node) -> Any:
    """Return the value of an interpolation as JSON has it, _UNRESOLVED where it has none."""
    try:
        value = node._dereference_node()
        plain = OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value._value()
        return json.loads(json.dumps(plain, default=json_value))
    except Exception:  # the user's own resolver; it may need what is only there in the function
        return _UNRESOLVED


def _dumped(node: Any, key: str) -> dict[str, Any]:
    if node._is_missing():
        return {"missing": True}
    if node._is_interpolation():
        return {"interpolation": node._value()}
    if not isinstance(node, Container):
        return {"value": _plain(node._value(), key)}
    if node._is_none():
        return {"value": None}
    flags = {name: value for name, value in (node._metadata.flags or {}).items() if value is not None}
    more: dict[str, Any] = {"flags": flags} if flags else {}
    if isinstance(node, ListConfig):
        return {"list": [_child(node, number, f"{key}[{number}]") for number in range(len(node))]} | more
    assert isinstance(node, DictConfig)
    kind = OmegaConf.get_type(node)
    if kind not in (dict, None) and _found(_name(kind)) is kind:
        more["type"] = _name(kind)
    return {"items": [[_plain(name, key), _child(node, name, f"{key}.{name!s}".lstrip("."))] for name in node]} | more


def _child(node: Container, name: Any, key: str) -> dict[str, Any]:
    child = node._get_node(name)
    assert isinstance(child, Node)
    return _dumped(child, key)


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, enum.Enum):
        return {"enum": value.name, "type": _name(type(value))}
    if isinstance(value, pathlib.PurePath):
        return {"path": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if value is None or isinstance(value, str | int | float):
        return value  # json writes and reads NaN and Infinity of Python
    raise ConfigError(
        f"{key} is {value!r}, of {type(value).__name__}, which cannot be kept in a file; legal: numbers, text, true,"
        " false, null, enums, paths, and lists and mappings of them. Build it in the function, from such values"
    )


def _built(content: dict[str, Any]) -> Any:
    if "items" in content:
        return _mapping(content)
    if "list" in content:
        return _flagged(ListConfig([_built(each) for each in content["list"]]), content)
    if "interpolation" in content:
        return content["interpolation"]
    return "???" if "missing" in content else _value(content["value"])


def _mapping(content: dict[str, Any]) -> Any:
    items = {_value(name): _built(each) for name, each in content["items"]}
    if "type" not in content:
        return _flagged(DictConfig(items), content)
    kind = _found(content["type"])
    if kind is None:
        raise ConfigError(f"{content['type']} is the type of a part of the config, and is not there any more")
    config = OmegaConf.structured(kind)
    with flag_override(config, ["struct", "readonly"], [False, False]):
        for name in [name for name in config if name not in items]:
            del config[name]
        for name, value in items.items():
            config[name] = value
    assert isinstance(config, DictConfig)
    return _flagged(config, content)


def _flagged(config: Any, content: dict[str, Any]) -> Any:
    for name, value in content.get("flags", {}).items():
        config._set_flag(name, value)
    return config


def _value(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    if "enum" in content:
        kind = _found(content["type"])
        if kind is None:
            raise ConfigError(f"{content['type']} is the type of a value of the config, and is not there any more")
        return kind[content["enum"]]
    return pathlib.Path(content["path"]) if "path" in content else bytes.fromhex(content["bytes"])


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _found(name: str) -> Any:
    """Return the class of this name, None if it is not there: one that was defined in a function is not."""
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found
