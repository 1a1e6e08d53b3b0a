"""The code of a foreign app: the files that the cell's process has imported, each with a hash of its own.

It does not see what a child process alone imported, nor YAML or data files that the app reads itself.
"""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import SOURCE_SUFFIXES
from pathlib import Path
from typing import Any

from strive import app
from strive.code.cache import known_form
from strive.code.hash import Code

_INSTALLED = {"site-packages", "dist-packages"}
_INTERPRETER = tuple(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def imported_code(own: Collection[str], path: Sequence[str], further: Sequence[Path] = ()) -> Code:
    """Return the code that this process has imported.

    own: top packages that count wherever they are installed. path: sys.path of the app, by which files are named.
    further: files that count besides.
    """
    found = {}
    for file in [*_imported_files(own), *further]:
        with suppress(OSError):  # it was deleted since
            found[_named(file, path)] = _digest(file)
    return _code(found)


@cache
def files_now(names: tuple[str, ...], path: tuple[str, ...]) -> Code:
    """Return recorded files as they are now; one that is gone has another hash."""
    return _code({name: _current(name, path) for name in names})


def code_now(start: Mapping[str, Any], config: Mapping[str, Any], files: Mapping[str, str]) -> Code:
    """Return the code here that would train a cell again. start: of its plan. files: of its record."""
    return files_now(tuple(files), tuple(start["path"])) if start else app.in_use().code_of(config)


def _code(files: Mapping[str, str]) -> Code:
    # A set, so that a moved file changes nothing.
    digest = hashlib.sha256("\0".join(sorted(set(files.values()))).encode())
    return Code(digest.hexdigest()[:10] if files else "", dict(sorted(files.items())))


@cache
def _current(name: str, path: tuple[str, ...]) -> str:
    places = [Path(name)] if os.path.isabs(name) else [Path(folder, name) for folder in path]
    for place in places:
        try:
            return _digest(place)
        except OSError:
            continue
    return ""


def _imported_files(own: Collection[str]) -> Iterator[Path]:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if not isinstance(file, str) or top in ("strive", "hydra_plugins"):
            continue
        path = os.path.abspath(file)
        if top in own or not _is_installed(os.path.dirname(path)):
            yield Path(path)


@cache  # by folder: 400 modules lie in 50 of them, and each new process asks
def _is_installed(folder: str) -> bool:
    real = os.path.realpath(folder)
    return bool(_INSTALLED & set(Path(real).parts)) or f"{real}{os.sep}".startswith(
        tuple(f"{each}{os.sep}" for each in _INTERPRETER)
    )


def _named(file: Path, path: Sequence[str]) -> str:
    """Return the file's path from the entry of sys.path that it lies below, so that a moved project is the same."""
    below = [Path(folder) for folder in path if folder and file.is_relative_to(folder)]
    return file.relative_to(max(below, key=lambda each: len(each.parts))).as_posix() if below else str(file)


def _digest(file: Path) -> str:
    content = file.read_bytes()
    if file.suffix not in SOURCE_SUFFIXES:
        return hashlib.sha256(content).hexdigest()[:10]
    form = known_form(content)
    return hashlib.sha256(repr((form.text, form.uses)).encode()).hexdigest()[:10]
