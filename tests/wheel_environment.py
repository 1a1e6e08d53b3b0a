"""An environment with strive from its wheel, and of other packages what is asked for alone. Needs no network."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT


def clone(folder: Path) -> Path:
    """Copy what `git clone` would, with what is not committed yet; return the folder, which must not exist."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if name and os.path.lexists(ROOT / name):  # not deleted since
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a clone, folder/clone, since building writes beside the sources; return its path."""
    copy = clone(folder / "clone")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", *options, "--wheel-dir", str(folder), str(copy))
    (wheel,) = folder.glob("strive-*.whl")
    return wheel


def install(wheel: Path, folder: Path, *also: str) -> Path:
    """Install a wheel without extras into a new environment; return the folder of its programs.

    The packages that it asks for, and those of `also` with what they ask for, are linked from the environment of the
    tests. What nobody asked for is not there.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--no-warn-script-location")
    _run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *options, str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    (metadata,) = packages.glob("strive-*.dist-info")
    for each in _asked_for([*_requirements(Distribution.at(metadata)), *also]):
        for file in each.files or ():
            name = file.parts[0]
            if name not in ("..", "__pycache__") and not (packages / name).exists():
                (packages / name).symlink_to(Path(str(each.locate_file(name))).resolve())
    return python.parent


def clean_environ() -> dict[str, str]:
    """Return the variables of a shell in which nothing of this checkout can be imported."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STRIVE", "HYDRA", "WANDB"))
    } | {"COLUMNS": "80"}


def _asked_for(names: list[str]) -> Iterator[Distribution]:
    found, waiting = set[str](), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            each = distribution(name)
            yield each
            waiting += _requirements(each)


def _requirements(each: Distribution) -> list[str]:
    wanted = [Requirement(text) for text in each.requires or ()]
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
