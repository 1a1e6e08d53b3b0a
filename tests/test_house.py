"""The rules of the house: which folder of the platform may import which, read from the sources."""

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
PLATFORM = SRC / "strive"
# Modules above the folders. The others beside them are leaves: they import no folder, so each folder may import them.
ABOVE = {"__init__", "__main__", "app"}
# Each for apps with one framework, which it imports; nothing else of the platform imports it.
ADAPTERS = {"lightning": {"torch"}}
LEAVES = {path.stem for path in PLATFORM.glob("*.py")} - ABOVE - ADAPTERS.keys()
# The interface to the app whose cells are run. What needs records alone does without.
APP = {"app"}
NEEDS_NO_APP = {"statistics", "results", "tables", "figures", "report", "status"}
# {folder: the folders that it may import}
MAY_IMPORT: dict[str, set[str]] = {
    "config": set(),
    "code": {"config"},
    "cells": {"config", "code"},
    "sweeps": {"config", "code", "cells"},
    "launch": {"config", "code", "cells"},
    "slurm": {"config", "code", "cells", "sweeps", "launch"},
    "statistics": set(),
    "results": {"config", "code", "cells", "sweeps", "statistics"},
    "tables": {"config", "code", "cells", "sweeps", "statistics", "results"},
    "figures": {"config", "cells", "sweeps", "statistics", "results", "tables"},
    "report": {"config", "cells", "sweeps", "statistics", "results", "tables", "figures"},
    "status": {"config", "code", "cells", "sweeps", "launch", "slurm"},
    # Of a sweep W&B shows the table of `strive tables`.
    "trackers": {"config", "code", "cells", "sweeps", "results", "tables"},
    # A single cell of a program is shown on W&B as a launch's are.
    "hydra_app": {"config", "code", "cells", "sweeps", "trackers"},
    "cli": {
        *("config", "code", "cells", "sweeps", "launch", "slurm", "hydra_app", "statistics"),
        *("results", "tables", "figures", "report", "status", "trackers"),
    },
    "multirun": {
        *("config", "code", "cells", "sweeps", "launch", "slurm", "statistics", "results"),
        *("trackers", "hydra_app"),
    },
}
# What does not follow the rules yet. An entry may go, none may come.
NOT_YET: dict[str, set[str]] = {
    "code/cache.py": {"cells"},
    "launch/local.py": {"trackers"},
    "slurm/job.py": {"trackers"},
}
# Modules of the platform that still import the study, or torch.
STUDY_NOT_YET: dict[str, set[str]] = {}
# What the study imports although docs/contract.md does not offer it: nobody else should need it.
STUDY_ALONE = {
    "allcnn/attribution/figure_image.py": {"strive.figures.text_layout"},
    "allcnn/attribution/figures/__init__.py": {"strive.progress_bar"},
    "allcnn/attribution/trained_cell.py": {"strive.cells.metrics", "strive.cells.reproduce"},
    "allcnn/training_run.py": {"strive.cells.predictions"},
    "allcnn/training_pack.py": {"strive.cells.check"},
    "allcnn/training/device.py": {"strive.processes"},
}
# The app of plans that were written before plans said it.
NAMES_THE_STUDY = {"cli/folders.py": ["allcnn.app"]}


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the dotted names that a source imports, in functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the absolute name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def sources(folder: str) -> Iterator[tuple[str, Path]]:
    """Yield (path below strive/, path) of the modules in a folder."""
    for path in sorted((PLATFORM / folder).rglob("*.py")):
        yield path.relative_to(PLATFORM).as_posix(), path


def folders_of(path: Path) -> set[str]:
    """Return the folders, and the modules beside them, of the platform that a source imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("strive.")}
    return {name for name in names if (PLATFORM / name).is_dir() or (PLATFORM / f"{name}.py").exists()}


def test_every_folder_has_its_rule() -> None:
    assert {path.parent.name for path in PLATFORM.glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_arrows_go_down(folder: str) -> None:
    for name, path in sources(folder):
        legal = MAY_IMPORT[folder] | LEAVES | {folder} | (set() if folder in NEEDS_NO_APP else APP)
        wrong = folders_of(path) - legal - NOT_YET.get(name, set())
        assert not wrong, f"{name} imports {sorted(wrong)}"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_leaves_alone(leaf: str) -> None:
    assert folders_of(PLATFORM / f"{leaf}.py") <= LEAVES


def test_only_entry_points_import_status() -> None:
    found = {path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py") if "strive.status" in _prefixes(path)}
    assert {name for name in found if not name.startswith("strive/status/")} <= {
        "strive/cli/status.py",
        "strive/cli/prune.py",
    }


def test_the_platform_knows_neither_the_study_nor_torch() -> None:
    for name, path in sources("."):
        wrong = {each.partition(".")[0] for each in imports(path)} & {"allcnn", "torch"}
        legal = STUDY_NOT_YET.get(name, set()) | ADAPTERS.get(name.removesuffix(".py"), set())
        assert wrong <= legal, f"{name} imports {sorted(wrong)}"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_nothing_imports_the_adapter_of_a_framework(adapter: str) -> None:
    assert not [name for name, path in sources(".") if f"strive.{adapter}" in _prefixes(path)]
    assert folders_of(PLATFORM / f"{adapter}.py") <= LEAVES


def test_the_study_uses_the_public_door() -> None:
    page = (SRC.parent / "docs" / "contract.md").read_text(encoding="utf-8")
    public = set(re.findall(r"^\| `(strive[\w.]*)`", page, re.MULTILINE))
    assert {"strive", "strive.app", "strive.hydra_app.typed", "strive.errors"} <= public
    for path in (SRC / "run.py", *(SRC / "allcnn").rglob("*.py")):
        name = path.relative_to(SRC).as_posix()
        used = {_module(each) for each in imports(path) if each.partition(".")[0] == "strive"}
        assert used - public <= STUDY_ALONE.get(name, set()), f"{name}: not in docs/contract.md"


def test_a_public_function_names_the_errors_that_it_raises() -> None:
    for path in (*(SRC / "strive").rglob("*.py"), *(SRC / "allcnn").rglob("*.py")):
        for function in _public_functions(ast.parse(path.read_text(encoding="utf-8"))):
            if _raised(function) - {"AssertionError", "SystemExit"}:
                assert "raise" in (ast.get_docstring(function) or "").lower(), f"{path}: {function.name}"


def _public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    classes = [each for each in tree.body if isinstance(each, ast.ClassDef) and not each.name.startswith("_")]
    for node in itertools.chain(tree.body, *(each.body for each in classes)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _raised(node: ast.AST) -> set[str]:
    """Return the names of the errors that a function raises itself, not those of the functions inside it."""
    found = set[str]()
    for each in ast.iter_child_nodes(node):
        match each:
            case ast.FunctionDef() | ast.Lambda():
                continue
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                found.add(name)
        found |= _raised(each)
    return found


def test_no_message_of_the_platform_names_the_study() -> None:
    for name, path in sources("."):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        found = [
            str(each.value) for each in texts if each not in prose and re.search(r"allcnn|run\.py", str(each.value))
        ]
        assert found == NAMES_THE_STUDY.get(name, []), name


def _module(name: str) -> str:
    """Return the module of an imported name, such as strive.app of strive.app.App."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = SRC.joinpath(*parts[:count])
        if path.with_suffix(".py").is_file() or path.is_dir():
            return ".".join(parts[:count])
    raise AssertionError(name)


def _prefixes(path: Path) -> set[str]:
    return {".".join(name.split(".")[:2]) for name in imports(path)}


def test_the_roads_of_the_guide_lead_past_functions_that_are_there() -> None:
    text = (SRC.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    stations = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(stations) > 20
    assert [f"{file}:{name}" for file, name in stations if name not in _functions(SRC / file)] == []


@cache
def _functions(path: Path) -> set[str]:
    """The functions of a file, and the methods of its classes as CLASS.METHOD."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [each for each in body if isinstance(each, ast.ClassDef)]
    names = {each.name for each in body if isinstance(each, ast.FunctionDef)}
    return names | {f"{one.name}.{own.name}" for one in classes for own in one.body if isinstance(own, ast.FunctionDef)}
