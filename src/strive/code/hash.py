"""Hash of the source that determines numbers: nets, data, training, and everything that a user's own net imports."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from strive.code.files import Module, reached
from strive.code.form import Import, Use
from strive.user_modules import importable, user_folder

_SHOWN = 5  # changed files that are named


@dataclass(frozen=True, slots=True)
class Code:
    """The code that trains a cell."""

    hash: str  # ten hex digits
    files: Mapping[str, str]  # {file: ten hex digits of its own}, sorted by name


def code_of(module: str, builders: Sequence[str] = (), without: frozenset[str] = frozenset()) -> Code:
    """Return the code that trains a cell, as it was at the first call.

    Its hash changes if and only if that code changes. Comments, docstrings, the spelling of imports, and files' names
    and locations do not count; imported code does. "" if a builder's module is not found.

    module: reaches by its imports all that decides numbers. builders: the user's own functions that the cell calls,
    package.module:function each. without: modules that are reached as well, but where nothing is computed.
    """
    return _code(module, tuple(each.partition(":")[0] for each in builders if each), without, user_folder())


def changed_files_text(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return some of the files that have changed, as part of a sentence.

    "" if that is unknown or only their use of each other has changed.

    before, now: Code.files. Renamed files do not count.
    """
    if not before:
        return ""
    names = {name for name, digest in now.items() if digest not in before.values()}
    names |= {name for name, digest in before.items() if digest not in now.values()}
    shown = sorted(names)[:_SHOWN]
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join((*shown, *more))


# Cached: the process has already imported its code, so later edits do not count.
@lru_cache(maxsize=64)
def _code(module: str, builders: tuple[str, ...], without: frozenset[str], folder: str) -> Code:
    with importable():
        modules = reached([module, *builders], without)
    if any(builder not in modules for builder in builders):
        return Code("", {})
    decide = {name: module for name, module in modules.items() if module.form.text}
    uses = {name: [_definition_of(module, use, modules) for use in module.form.uses] for name, module in decide.items()}
    own = {name: _digest(module.form.text, *(text for _, text in uses[name])) for name, module in decide.items()}
    whole = _with_what_they_use(own, uses)
    # A set, so that the split into files does not matter. Only the files with the user's builders are singled out.
    own_files = [whole.get(builder, "") for builder in builders] or [""]
    digest = _digest(*own_files, *sorted(set(whole.values())))
    files = {decide[name].file: each[:10] for name, each in own.items()}
    return Code(digest[:10], dict(sorted(files.items())))


def _with_what_they_use(own: Mapping[str, str], uses: Mapping[str, list[tuple[str, str]]]) -> dict[str, str]:
    """Return {module: hash of its form and of all forms that it uses, directly or indirectly}.

    Modules refer to each other by hash instead of by name and may import each other in circles. So the hashes
    are computed repeatedly.
    """
    whole, distinct = dict(own), 0
    while len(set(whole.values())) > distinct:  # until a round tells no further modules apart
        distinct = len(set(whole.values()))
        whole = {name: _digest(own[name], *(whole.get(used, "") for used, _ in uses[name])) for name in own}
    return whole


def _definition_of(module: Module, use: Use, modules: Mapping[str, Module]) -> tuple[str, str]:
    """Return the module in `modules` that a use refers to ("" if none), and the name used from it.

    Follows re-exports through packages to the module that defines the name: pkg.relu, which pkg has from pkg.ops, is
    ("pkg.ops", ".relu").
    """
    seen = set[tuple[str, Use]]()
    while True:
        seen.add((module.name, use))
        place = module.source(use.source)
        rest = [*filter(None, (use.source.name,)), *use.attributes]
        while rest and f"{place}.{rest[0]}" in modules and rest[0] not in _names(modules, place):
            place = f"{place}.{rest.pop(0)}"
        if place not in modules:
            return "", ".".join((place, *rest))
        further = _names(modules, place).get(rest[0]) if rest else None
        following = Use(further, tuple(rest[1:])) if further else None
        if following is None or (place, following) in seen:
            return place, ".".join(("", *rest))
        module, use = modules[place], following


def _names(modules: Mapping[str, Module], name: str) -> Mapping[str, Import]:
    return modules[name].form.names if name in modules else {}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
