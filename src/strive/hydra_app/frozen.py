"""A composed config as text from which the very same typed config is made: dataclass names, enums, ??? and
interpolations are kept. YAML and OmegaConf.to_container lose the types, and a pickle would execute what it holds.
"""

import enum
import importlib
import json
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.base import Container, Node

from strive.errors import ConfigError
from strive.hydra_app.leaves import json_value, leaves
from strive.hydra_internals import hydra_config, node_of, resolvers, set_values


def frozen(config: DictConfig) -> str:
    """Return the config as one line of JSON, unresolved. Raises ConfigError for a value that JSON has no form for."""
    return json.dumps(_dumped(config, ""))


def thawed(text: str) -> DictConfig:
    """Return the config that `frozen` made into text. Imports the modules of its dataclasses and enums."""
    config = _built(json.loads(text))
    assert isinstance(config, DictConfig)
    return config


def frozen_cell(config: DictConfig, text: str = "") -> dict[str, str]:
    """Return a cell's config, and what its resolvers give here and now; `${hydra:...}` must be readable.

    text: what `frozen` returns, if it is known already.
    """
    pinned = {key: value for key, node in _calling(config, "") if (value := _resolved(node)) is not _UNRESOLVED}
    return {"config": text or frozen(config), "pinned": json.dumps(pinned)}


class FrozenBase:
    """A frozen config that many cells share but for a few values."""

    def __init__(self, config: DictConfig) -> None:
        self._content = _dumped(config, "")

    def with_values(self, config: DictConfig, keys: Iterable[str]) -> str:
        """Return what `frozen` does of a config that differs from the base in these keys alone."""
        entries = {key: self._entry(key) for key in keys}
        kept = {key: entry[1] for key, entry in entries.items()}
        try:
            for key, entry in entries.items():
                entry[1] = _dumped(node_of(config, key), key)
            return json.dumps(self._content)
        finally:
            for key, entry in entries.items():
                entry[1] = kept[key]

    def _entry(self, key: str) -> list[Any]:
        """Return [name, content] of a key in the mapping that holds it."""
        entry: list[Any] = ["", self._content]
        for name in key.split("."):
            entry = next(each for each in entry[1]["items"] if each[0] == name)
        return entry


def with_overrides(content: Mapping[str, str], texts: Sequence[str], logistics: Collection[str]) -> dict[str, str]:
    """Return a frozen cell in which logistics are set when it is thawed. texts: KEY=VALUE. logistics: all its keys."""
    # What resolvers give for other logistics follows what is set.
    pinned = {key: value for key, value in json.loads(content["pinned"]).items() if not _holds(key, logistics)}
    return {**content, "pinned": json.dumps(pinned), "overrides": json.dumps(list(texts))}


def logistics_now(
    content: Mapping[str, str], science: Mapping[str, Any], logistics: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the logistics of a cell that `with_overrides` may have changed, {dotted key: JSON value} as both given.

    Raises ConfigError if its science would be another one.
    """
    if "overrides" not in content:
        return dict(logistics)
    config = thawed_cell(content)
    with hydra_config(config):
        now = {key: leaf.value for key, leaf in leaves(config).items()}
    for key, value in science.items():
        if key in now and now[key] != value:
            texts = " ".join(json.loads(content["overrides"]))
            raise ConfigError(f"{texts}: {key}, which decides numbers, would be {now[key]!r}, and is {value!r}")
    return {key: now.get(key, value) for key, value in logistics.items()}


def thawed_cell(content: Mapping[str, str]) -> DictConfig:
    """Return the config of a cell in which each resolver but hydra: gives what it gave when the cell was frozen.

    What depends on such a value stays an interpolation, so that it follows an app that assigns to its config.
    """
    config = thawed(content["config"])
    pinned = json.loads(content["pinned"])
    set_values(json.loads(content.get("overrides", "[]")), config)
    if not pinned:
        return config
    with hydra_config(config):
        changed = {
            key: pinned[key] for key, node in _calling(config, "") if key in pinned and _resolved(node) != pinned[key]
        }
    with flag_override(config, ["struct", "readonly"], [False, False]):
        for key, value in changed.items():
            OmegaConf.update(config, key, value, force_add=True)
    return config


_UNRESOLVED = object()


def _holds(key: str, below: Collection[str]) -> bool:
    return any(each == key or each.startswith((f"{key}.", f"{key}[")) for each in below)


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
    if kind := _type_name(node):
        more["type"] = kind
    return {"items": [[_plain(name, key), _child(node, name, f"{key}.{name!s}".lstrip("."))] for name in node]} | more


def _type_name(node: DictConfig) -> str:
    """Return the name of a mapping's dataclass; "" if it has none that can be found again."""
    kind = OmegaConf.get_type(node)
    return _name(kind) if kind not in (dict, None) and _found(_name(kind)) is kind else ""


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
        return _filled(_empty(content), content)
    if "list" in content:
        items = [_built(each) for each in content["list"]]
        return _flagged(ListConfig(items), content) if "flags" in content else items
    if "interpolation" in content:
        return content["interpolation"]
    return "???" if "missing" in content else _value(content["value"])


def _empty(content: dict[str, Any]) -> DictConfig:
    """Return a mapping of the frozen one's type."""
    if "type" not in content:
        return DictConfig({})
    kind = _found(content["type"])
    if kind is None:
        raise ConfigError(f"{content['type']} is the type of a part of the config, and is not there any more")
    config = OmegaConf.structured(kind)
    assert isinstance(config, DictConfig)
    return config


def _filled(config: DictConfig, content: dict[str, Any]) -> DictConfig:
    """Make a mapping what was frozen, in place: OmegaConf copies a node that is set, with all that is below it."""
    items = [(_value(name), each) for name, each in content["items"]]
    with flag_override(config, ["struct", "readonly"], [False, False]):
        for name in [*config.keys() - dict(items).keys()]:
            del config[name]
        for name, each in items:
            if "items" not in each:
                config[name] = _built(each)
                continue
            if not _has_type(config, name, each):
                config[name] = _empty(each) if "type" in each else {}
            _filled(config._get_node(name), each)  # type: ignore[arg-type]
    _flagged(config, content)
    return config


def _has_type(config: DictConfig, name: Any, content: dict[str, Any]) -> bool:
    """Return whether a mapping of the frozen one's type is there, as in a new one of a typed config."""
    node = config._get_node(name)
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
        return False
    return bool(_type_name(node) == content.get("type", ""))


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
