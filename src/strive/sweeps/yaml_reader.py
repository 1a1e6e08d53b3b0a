"""YAML reader for sweep files: plain mappings and lists, read as Hydra reads YAML with two differences.

Names stay as typed, although YAML 1.1 would read on as a boolean and 1:30 or 012 as a number. Keys that
YAML considers equal, such as on and yes, are a fault, so that none is lost.
"""

from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from strive.hydra_internals import yaml_loader
from strive.sweeps.sections import Faults

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


def read_yaml(text: str, path: str, faults: Faults) -> Any:
    """Parse a file's text; add a fault for each name that YAML does not read as text and for each duplicate key.

    Raises yaml.YAMLError with the path for invalid YAML.
    """
    loader = yaml_loader()(text)
    loader.name = path
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_ends(root, set(), set())
        for place, node in _names(root):
            _check_name(loader, place, node, faults)
        _drop_twins(loader, "", root, faults, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_ends(node: yaml.Node, above: set[int], done: set[int]) -> None:
    """Raise yaml.YAMLError if a mapping or list contains itself through an anchor."""
    kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem=f"this {kind} holds itself", problem_mark=node.start_mark)
    if id(node) in done or not isinstance(node, yaml.CollectionNode):
        return
    for each in node.value:
        for below in each if isinstance(each, tuple) else (each,):
            _check_ends(below, above | {id(node)}, done)
    done.add(id(node))


def _names(root: yaml.Node) -> Iterator[tuple[str, yaml.Node | None]]:
    """Yield (place, node) for each name of an arm, a component or a sweep."""
    sections = _items(root)
    for key, _ in _pairs(sections.get("arms")):
        yield "arms", key
    for component, entry in _pairs(sections.get("components")):
        yield "components", component
        ways = _pairs(_items(entry).get("with"))
        if all(isinstance(each, yaml.MappingNode) for _, each in ways):
            yield from ((f"components: {component.value}: with", name) for name, _ in ways)
    of_arm = _items(_items(sections.get("table")).get("baseline")).get("arm")
    for node in (of_arm, *(each for pair in _pairs(of_arm) for each in pair)):
        yield "table: baseline: arm", node
    for chosen, entry in _items(sections.get("choose")).items():
        names = _items(entry).get("sweep")
        for node in names.value if isinstance(names, yaml.SequenceNode) else [names]:
            yield f"choose: {chosen}: sweep", node


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [(key, value) for key, value in pairs if key.tag != _MERGE]


def _items(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in _pairs(node) if isinstance(key, yaml.ScalarNode)}


def _check_name(loader: Any, place: str, node: yaml.Node | None, faults: Faults) -> None:
    if not isinstance(node, yaml.ScalarNode) or node.tag == _TEXT:
        return
    if not node.value:
        faults.add(f"{place}: a name is missing")
    else:
        faults.add(f"{place}: YAML reads the name {node.value} as {_meant(loader, node)}; quote it: '{node.value}'")
        node.tag = _TEXT  # continue as if it were text, to find the other faults


def _drop_twins(loader: Any, place: str, node: yaml.Node, faults: Faults, seen: set[int]) -> None:
    """Add a fault for keys of one mapping that YAML considers equal; Python would silently keep only the last."""
    if id(node) in seen:  # reached before through an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, each in enumerate(node.value):
            _drop_twins(loader, f"{place}[{number}]", each, faults, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[Hashable, str] = {}
    kept = []
    for key, value in node.value:
        typed = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
        _drop_twins(loader, f"{place}: {typed}" if place else typed, value, faults, seen)
        if not isinstance(key, yaml.ScalarNode):
            faults.add(f"{place}: a key must be text, got {typed}".removeprefix(": "))
            continue
        meant = typed if key.tag in (_TEXT, _MERGE) else loader.construct_object(key)
        if meant in first:
            once = f"{typed} is given twice" if first[meant] == typed else f"{first[meant]} and {typed} are one key"
            faults.add(f"{place}: {once}".removeprefix(": "))
            continue
        first[meant] = typed
        kept.append((key, value))
    node.value = kept


def _meant(loader: Any, node: yaml.ScalarNode) -> str:
    try:
        value = loader.construct_object(yaml.ScalarNode(node.tag, node.value))
    except (yaml.YAMLError, TypeError, ValueError):
        return "something else"
    if value is None:
        return "nothing"
    return f"the truth value {str(value).lower()}" if isinstance(value, bool) else f"the number {value}"
