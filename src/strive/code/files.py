"""Search for the files that determine a cell's numbers: those that its net and the training loop import.

Works on the source text, without importing anything. It does not find modules that are named at run
time (`importlib.import_module`), other programs, and files that are not modules.
"""

import importlib.util
import pkgutil
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec
from pathlib import PurePath
from typing import Any

from strive.code.cache import known_form
from strive.code.form import Form, Import, bytes_form

# Imported by every app, but these compute no numbers.
_NO_CODE = frozenset(
    {
        "strive",
        "strive.app",
        "strive.errors",
        "strive.processes",
        "strive.config.identity",
        "strive.cells.records",
        "strive.user_modules",
    }
)
_INTERPRETER = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True, slots=True)
class Module:
    """A file that determines numbers."""

    name: str  # dotted name
    file: str  # path from its top package, such as mypkg/blocks.py
    is_package: bool
    form: Form

    def source(self, imported: Import) -> str:
        """Return the full dotted name of the module that an import in this file starts from."""
        if not imported.level:
            return imported.module
        parts = self.name.split(".")
        kept = parts[: len(parts) + self.is_package - imported.level]
        return ".".join(filter(None, (*kept, imported.module)))


def reached(roots: Sequence[str], without: frozenset[str] = frozenset()) -> dict[str, Module]:
    """Return {name: module} for everything that the roots import, directly or indirectly, with all parent packages.

    Skips the standard library, installed modules (except in the roots' own packages, which count wherever
    they are installed), modules without a file, and modules that compute no numbers: ours, and those of `without`.
    """
    no_code = _NO_CODE | without
    finder = _Finder({root.partition(".")[0] for root in roots})
    found: dict[str, Module] = {}
    waiting = [name for root in roots for name in _with_packages(root)]
    while waiting:
        name = waiting.pop()
        if name in found or name in no_code or (module := finder.module(name)) is None:
            continue
        found[name] = module
        for imported in module.form.imports:
            source = module.source(imported)
            waiting += _with_packages(source)
            if imported.name not in ("", "*"):
                waiting.append(f"{source}.{imported.name}")  # a module, or a name in a module
    return found


def _with_packages(name: str) -> Iterator[str]:
    """Yield the packages that Python loads before a module, and then the module."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


class _Finder:
    """Finds modules as Python would, without running them."""

    def __init__(self, own: set[str]) -> None:
        self._own = own  # top-level packages that count wherever they are installed
        self._specs: dict[str, ModuleSpec | None] = {}

    def module(self, name: str) -> Module | None:
        """Return a module that counts; None for any other."""
        spec = self._spec(name)
        if spec is None or not spec.has_location or spec.origin is None:
            return None
        if name.partition(".")[0] not in self._own and _is_installed(spec.origin):
            return None
        loader: Any = spec.loader
        try:
            content = loader.get_data(spec.origin)
        except (AttributeError, OSError):
            return None
        path = PurePath(spec.origin)
        form = known_form(content) if path.suffix in SOURCE_SUFFIXES else bytes_form(content)
        is_package = spec.submodule_search_locations is not None
        folders = name.split(".") if is_package else name.split(".")[:-1]
        return Module(name, "/".join((*folders, path.name)), is_package, form)

    def _spec(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            self._specs[name] = self._found(name)
        return self._specs[name]

    def _found(self, name: str) -> ModuleSpec | None:
        package, _, _ = name.rpartition(".")
        if not package:
            try:
                return importlib.util.find_spec(name)
            except (ImportError, ValueError):
                return None
        # find_spec would import the package.
        parent = self._spec(package)
        for folder in _locations(parent):
            importer: Any = pkgutil.get_importer(folder)
            spec: ModuleSpec | None = importer.find_spec(name) if importer is not None else None
            if spec is not None:
                return spec
        return None


def _locations(spec: ModuleSpec | None) -> list[str]:
    if spec is None or spec.submodule_search_locations is None:
        return []
    # For a package without __init__, iterating over the list would look up its parent package, which is not imported.
    return list(getattr(spec.submodule_search_locations, "_path", spec.submodule_search_locations))


def _is_installed(origin: str) -> bool:
    path = PurePath(origin)
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or any(map(path.is_relative_to, _INTERPRETER))
