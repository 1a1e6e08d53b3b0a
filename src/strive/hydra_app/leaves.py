"""Leaves of a composed config: their values, and what each asked for while OmegaConf resolved it.

Parsing interpolations would miss oc.select, nested and whole-node interpolations, so the calls themselves are traced.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, Node
from omegaconf.base import Container
from omegaconf.errors import OmegaConfBaseException

from strive.config.error_text import unresolved
from strive.config.json_value import json_scalar
from strive.hydra_internals import reads_config

# It reads the config, but by a key that is traced.
_TRACED = frozenset({"oc.select"})


@dataclass(frozen=True, slots=True)
class Call:
    """A resolver that was called, such as ${oc.env:HOME}."""

    resolver: str
    argument: str  # the first one; "" if there is none
    default: str = ""  # the second one, where there is one

    def __str__(self) -> str:
        return f"{self.resolver}:{self.argument}" if self.argument else self.resolver


@dataclass(slots=True)
class Trace:
    """Everything that was read while one leaf was resolved."""

    origin: str  # key of the interpolation in the config; the leaf may lie below it
    calls: dict[Call, None] = field(default_factory=dict)  # in order, each once
    keys: set[str] = field(default_factory=set)  # dotted, of the nodes that interpolations named

    @property
    def opaque(self) -> bool:
        """Return whether a resolver was called that may read any key of the config (_root_, _parent_)."""
        return any(call.resolver not in _TRACED and reads_config(call.resolver) for call in self.calls)

    def touches(self, key: str) -> bool:
        """Return whether a change of this key may change the leaf."""
        return self.opaque or any(f"{key}.".startswith(f"{read}.") or read.startswith(f"{key}.") for read in self.keys)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of the resolved config, as JSON has it."""

    value: Any
    trace: Trace | None = None  # None: it is no interpolation
    problem: str = ""  # why it has no value here; then `value` is its text

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return the resolvers that its value comes from."""
        return tuple(self.trace.calls) if self.trace else ()


def leaves(config: DictConfig, skip: frozenset[str] = frozenset({"hydra"})) -> dict[str, Leaf]:
    """Return {dotted key: leaf} of a composed config. skip: top-level keys that are left out.

    A list is one leaf, an empty mapping is one. What cannot be resolved is its own text.
    """
    found: dict[str, Leaf] = {}
    with _traced() as trace:
        for name in config:
            if name not in skip:
                child = config._get_node(name)
                assert isinstance(child, Node)
                found.update(_below(_joined("", name), child, trace, None))
    return found


def leaf_of(key: str, node: Node) -> dict[str, Leaf]:
    """Return the leaves of one node of a config, as `leaves` does."""
    with _traced() as trace:
        return dict(_below(key, node, trace, None))


@contextmanager
def _traced() -> Iterator[list[Trace]]:
    """Record what OmegaConf resolves in the block in the last trace of the list."""
    stack: list[Trace] = []
    call, read = Container._evaluate_custom_resolver, Container._resolve_node_interpolation

    def traced_call(self: Container, *args: Any, **kwargs: Any) -> Any:
        if stack:
            name = kwargs.get("inter_type", args[2] if len(args) > 2 else "")
            given = kwargs.get("inter_args", args[3] if len(args) > 3 else ())
            stack[-1].calls[Call(str(name), *map(str, given[:2] or [""]))] = None
            if name == "oc.select" and given:
                stack[-1].keys.add(str(given[0]).lstrip("."))
        return call(self, *args, **kwargs)

    def traced_read(self: Container, *args: Any, **kwargs: Any) -> Any:
        if stack:
            asked = kwargs.get("inter_key", args[0] if args else "")
            stack[-1].keys.add(_absolute(self, str(getattr(asked, "raw", asked))))  # no text in OmegaConf 2.4
        return read(self, *args, **kwargs)

    Container._evaluate_custom_resolver = traced_call  # type: ignore[method-assign]
    Container._resolve_node_interpolation = traced_read  # type: ignore[method-assign]
    try:
        yield stack
    finally:
        Container._evaluate_custom_resolver = call  # type: ignore[method-assign]
        Container._resolve_node_interpolation = read  # type: ignore[method-assign]


def _absolute(node: Container, key: str) -> str:
    """Return the dotted key that an interpolation in a container means; .name and ..name are relative."""
    try:
        root, rest = node._resolve_key_and_root(key)
        return str(root._get_full_key(rest) if rest else root._get_full_key(""))
    except OmegaConfBaseException:
        return key.lstrip(".")


def _below(key: str, node: Node, stack: list[Trace], trace: Trace | None) -> Iterator[tuple[str, Leaf]]:
    """Yield (key, leaf) for a node. trace: of the interpolation that led to the node, if one did."""
    if node._is_interpolation():
        own = Trace(trace.origin, dict(trace.calls), set(trace.keys)) if trace else Trace(key)
        stack.append(own)
        try:
            target = node._dereference_node()
        except Exception as error:  # a resolver is the user's own code, and may not be registered yet
            yield key, Leaf(str(node._value()), own, unresolved(error))
            return
        finally:
            stack.pop()
        yield from _below(key, target, stack, own)
        return
    if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
        names = list(node.keys())
        if not names:
            yield key, Leaf({}, trace)
        for name in names:
            child = node._get_node(name)
            assert isinstance(child, Node)
            yield from _below(_joined(key, name), child, stack, trace)
        return
    if isinstance(node, ListConfig) and not (node._is_none() or node._is_missing()):
        yield from _list_leaves(key, node, stack, trace)
        return
    value = node._value()
    if node._is_missing():
        yield key, Leaf("???", trace, "it is ???, which a value must replace")
    elif isinstance(value, (set, frozenset)):
        yield key, Leaf(str(sorted(map(repr, value))), trace, f"it is the set {value!r}, and a config has lists")
    else:
        yield key, Leaf(json_value(value), trace)


def _list_leaves(key: str, node: ListConfig, stack: list[Trace], trace: Trace | None) -> Iterator[tuple[str, Leaf]]:
    """Yield a list as one leaf; each of its parts alone if resolvers were called for some of them."""
    parts: list[dict[str, Leaf]] = []
    for number in range(len(node)):
        child = node._get_node(number)
        assert isinstance(child, Node)
        parts.append(dict(_below(f"{key}[{number}]", child, stack, trace)))
    inherited = len(trace.calls) if trace else 0
    if any(len(leaf.calls) > inherited for part in parts for leaf in part.values()):
        for part in parts:
            yield from part.items()
        return
    keys = {key for part in parts for leaf in part.values() if leaf.trace for key in leaf.trace.keys}
    problem = next((leaf.problem for part in parts for leaf in part.values() if leaf.problem), "")
    own = trace
    if keys - (trace.keys if trace else set()):
        own = Trace(trace.origin if trace else key, dict(trace.calls) if trace else {}, keys)
    yield key, Leaf([_value_of(f"{key}[{number}]", part) for number, part in enumerate(parts)], own, problem)


def _value_of(key: str, part: Mapping[str, Leaf]) -> Any:
    """Return the JSON value whose leaves these are."""
    if list(part) == [key]:
        return part[key].value
    return {name.removeprefix(key).removeprefix("."): leaf.value for name, leaf in part.items()}


def _joined(prefix: str, name: object) -> str:
    # A name with a dot would look like two keys.
    text = json_key(name)
    text = f"[{text}]" if "." in text else text
    return f"{prefix}.{text}" if prefix else text


def json_key(name: object) -> str:
    """Return the key of a mapping as text; OmegaConf takes numbers, true, false, bytes and enums, too."""
    return str(json_scalar(name))


def json_value(value: Any) -> Any:
    """Return a leaf's value as JSON has it, bytes as text."""
    return value.hex() if isinstance(value, bytes) else json_scalar(value)
