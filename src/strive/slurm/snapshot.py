"""Copies the code at submission, for queued jobs to import whatever is edited meanwhile. Imports no torch."""

import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import strive
from strive.code.files import reached
from strive.errors import SnapshotError
from strive.user_modules import importable

# Where a job looks for the modules of custom nets, in place of the directory it was launched from.
MODULES = "STRIVE_MODULES"

_MOST_BYTES = 300_000_000
# What a job imports and reads. Records, documents and tests may be many times as much.
_CODE = ("src", "conf", "sweeps", "pyproject.toml")
_NO_CODE = ("__pycache__", ".egg-info")


def freeze_code(root: Path, into: Path, *, without: Collection[Path] = ()) -> Path:
    """Copy the project in `root` to into/code-<hash of its contents> and return that folder.

    The folders that a cell needs, of them tracked files and those that git neither tracks nor ignores;
    without git all. A copy with the same contents is shared, and so are the files that did not change
    since the newest copy. without: folders that are output, not code.

    A launch from such a copy uses that one again.

    Raises SnapshotError if that is too much to be code.
    """
    return _project(root, into, without, "code", _files)


def freeze_app(root: Path, into: Path, *, without: Collection[Path] = ()) -> Path:
    """Copy a foreign app's repository, or its folder where there is no git, to into/app-<hash> and return that folder.

    Tracked files and those that git neither tracks nor ignores; without git all but hidden ones. A launch from such
    a copy uses that one again. without: folders that are output, not code.

    Raises SnapshotError if that is too much to be code.
    """
    return _project(root, into, without, "app", _files_of_app)


def freeze_modules(folder: Path, names: Collection[str], into: Path) -> Path | None:
    """Copy the Python modules in `folder` to into/modules-<hash> if one of `names` is there; else return None.

    folder: the current one. names: modules of custom nets' builders. All of the folder's own modules and
    packages come along, because a builder may import the others while it runs, and what the builders are
    seen to import without being in a package, compiled modules too: without it a job would have other code.

    Raises SnapshotError if that is too much to be code.
    """
    tops = {name.partition(".")[0] for name in names}
    there = {top for top in tops if (folder / f"{top}.py").is_file() or (folder / top).is_dir()}
    if not there:
        return None
    packages = {path.name for path in folder.iterdir() if (path / "__init__.py").is_file()} | there
    files = [path.name for path in folder.glob("*.py")]
    for package in sorted(packages):
        files += [str(path.relative_to(folder)) for path in _below(folder / package) if path.suffix == ".py"]
    with importable():
        modules = reached(sorted(names))
    files += [module.file for module in modules.values() if (folder / module.file).is_file()]
    return _frozen(folder, files, into, "modules")


def check_code(frozen: Path) -> None:
    """Raise SnapshotError if this process imported strive from anywhere but the frozen code."""
    used = Path(strive.__file__).resolve().parent
    if used.parent != (frozen / "src").resolve():
        raise SnapshotError(
            f"this job would train with the code in {used}, but was submitted with the code in {frozen}/src:"
            " something puts another strive first on Python's path, such as a PYTHONPATH in hydra.launcher.setup"
        )


def _project(
    root: Path, into: Path, without: Collection[Path], what: str, files_of: Callable[[Path], list[str]]
) -> Path:
    root = root.resolve()
    if root.parent == into.resolve() and root.name.startswith(f"{what}-"):
        return root
    outputs = [path.resolve() for path in (*without, into) if not root.is_relative_to(path.resolve())]
    return _frozen(root, [name for name in files_of(root) if not _is_below(root / name, outputs)], into, what)


def _listed(root: Path) -> list[str]:
    """Return what git has in a folder and does not ignore, [] without git."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name] if listed.returncode == 0 else []
    except (FileNotFoundError, subprocess.TimeoutExpired):
        names = []
    return names


def _files(root: Path) -> list[str]:
    names = _listed(root)
    # A checkout inside another repository is ignored there.
    if "src/strive/__init__.py" in names:
        # A file that was deleted but not yet from the index is listed too, and so is a submodule's folder.
        return [name for name in names if name.partition("/")[0] in _CODE and (root / name).is_file()]
    places = [root / name for name in _CODE]
    return [str(path.relative_to(root)) for place in places for path in _below(place)]


def _files_of_app(root: Path) -> list[str]:
    names = [name for name in _listed(root) if (root / name).is_file()]
    return names or [str(path.relative_to(root)) for path in _below(root)]


def _below(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if not name.endswith(_NO_CODE) and not name.startswith(".")]
        yield from (path for name in names if (path := Path(folder, name)).is_file() and path.suffix != ".pyc")


def _is_below(path: Path, folders: Collection[Path]) -> bool:
    return any(path.resolve().is_relative_to(folder) for folder in folders)


def _frozen(root: Path, files: Collection[str], into: Path, what: str) -> Path:
    _check_size(root, files)
    into.mkdir(parents=True, exist_ok=True)
    copies = [path for path in into.glob(f"{what}-*") if path.is_dir()]
    newest = max(copies, key=lambda path: path.stat().st_mtime_ns, default=None)
    draft = into / f".{what}-{uuid4().hex}"
    draft.mkdir()
    try:
        # The copy is what gets its name from its contents: a file may change while it is read.
        target = into / f"{what}-{_copied(root, sorted(set(files)), draft, newest)}"
        if not target.exists():
            _put(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _copied(root: Path, files: Iterable[str], draft: Path, before: Path | None) -> str:
    """Copy the files and return a hash of their names and contents; what `before` has already is linked."""
    digest = hashlib.sha256()
    for name in files:
        try:
            content = (root / name).read_bytes()
        except FileNotFoundError:
            continue  # deleted since it was listed
        digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        if before is None or not _linked(before / name, content, draft / name):
            (draft / name).write_bytes(content)
    return digest.hexdigest()[:12]


def _linked(there: Path, content: bytes, to: Path) -> bool:
    """Make a hard link if a file has this content; False where there is none, or the file system has no links."""
    try:
        if there.stat().st_size != len(content) or there.read_bytes() != content:
            return False
        os.link(there, to)
    except OSError:
        return False
    return True


def _put(draft: Path, target: Path) -> None:
    try:
        os.rename(draft, target)
    except OSError as error:
        # Another launcher was faster, with the same contents.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _check_size(root: Path, files: Iterable[str]) -> None:
    sizes: dict[str, int] = {}
    for name in files:
        with suppress(FileNotFoundError):
            sizes[name] = (root / name).stat().st_size
    total = sum(sizes.values())
    if total <= _MOST_BYTES:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
    raise SnapshotError(
        f"{root} holds {total / 1e6:,.0f} MB of code that git does not ignore, too much to copy; the largest: "
        + ", ".join(f"{name} ({sizes[name] / 1e6:,.0f} MB)" for name in largest)
        + ". Add what is no code to .gitignore, or set hydra.launcher.snapshot=false to train with the code as it"
        " is when a job starts"
    )
