"""Collect what training needs besides torch, as wheels for a machine without network.

python tools/wheelhouse.py --python 3.12 [--provided scikit-learn ...]

Versions are those of requirements.lock, names those of pyproject.toml and of what this environment's packages ask for.
On the other machine:

python -m pip install --no-index --no-deps --find-links wheelhouse -r wheelhouse/requirements.txt
"""

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Large, and on every machine that trains; what they need themselves is there with them, such as torchvision's pillow.
PROVIDED = {"numpy", "pillow", "torch", "torchvision"}
# For tables, figures and the report, which can be made from the records on any machine. Sweeps with looks need pandas
# and scipy as they train, too, and mixup needs scipy: docs/gpu.md says so.
NOT_TO_TRAIN = {"matplotlib", "pandas", "scipy"}
EXTRAS = ("slurm", "study")
ALSO = ("pytest",)  # for tests/gpu
SOURCE_ONLY = {"antlr4-python3-runtime"}  # published without a wheel; pure Python, so one that is built here fits
_OLDEST_GLIBC, _NEWEST_GLIBC = 17, 28  # 2.17 to 2.28: what today's wheels are built for


def locked() -> dict[str, str]:
    """Return {name: version} of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version.strip() for name, version in pins}


def needed(python: str, machine: str, provided: set[str]) -> list[str]:
    """Return the names of what strive needs on the other machine, itself and what is provided left out."""
    target = {
        "extra": "",
        "platform_machine": machine,
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    found, waiting = set[str](), [*_asked_for(_own(), target), *ALSO]
    while waiting:
        name = waiting.pop()
        if name not in found | provided | NOT_TO_TRAIN:
            found.add(name)
            waiting += _asked_for(requires(name) or (), target)
    return sorted(found)


def _own() -> list[str]:
    """Return what pyproject.toml asks for, to train the study here or on a cluster."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(text for name in EXTRAS for text in project["optional-dependencies"][name])]


def _asked_for(requirements: Iterable[str], target: dict[str, str]) -> Iterator[str]:
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(target):
            yield canonicalize_name(requirement.name)


def collect(pins: dict[str, str], python: str, machine: str, folder: Path) -> None:
    """Fill the folder with one wheel of each, and requirements.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    lines = {name: f"{name}=={version}" for name, version in pins.items()}
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)]
    platforms.append(f"manylinux2014_{machine}")
    wheels = [line for name, line in lines.items() if name not in SOURCE_ONLY]
    _pip("download", "--only-binary=:all:", f"--dest={folder}", f"--python-version={python}",
         *(f"--platform={tag}" for tag in platforms), *wheels)  # fmt: skip
    for name in sorted(SOURCE_ONLY & lines.keys()):
        _pip("wheel", f"--wheel-dir={folder}", lines[name])
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines.values()))


def _pip(command: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps"]
    if subprocess.run([*pip, *arguments]).returncode:
        raise SystemExit(f"error: pip {command} failed, see above")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the folder, and print what lies in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, metavar="3.X", help="version of Python on the other machine")
    parser.add_argument("--machine", default="x86_64", help="its processor (default: x86_64); its system is Linux")
    parser.add_argument("--provided", nargs="*", default=[], metavar="NAME", help="is there too, as torch is")
    parser.add_argument("--folder", type=Path, default=ROOT / "wheelhouse", help="default: wheelhouse/")
    options = parser.parse_args(arguments)
    pins = locked()
    names = needed(options.python, options.machine, PROVIDED | {canonicalize_name(name) for name in options.provided})
    if unknown := [name for name in names if name not in pins]:
        raise SystemExit(f"error: requirements.lock has no version of {', '.join(unknown)}")
    collect({name: pins[name] for name in names}, options.python, options.machine, options.folder)
    sizes = {path.name: path.stat().st_size for path in sorted(options.folder.glob("*.whl"))}
    for name, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {name}")
    print(f"{sum(sizes.values()) / 1e6:8.2f} MB  {len(sizes)} wheels in {options.folder}")


if __name__ == "__main__":
    main()
