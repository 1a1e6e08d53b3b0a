"""The image files of a data set's folder, and the files that are left out, counted by kind."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from allcnn.data.decoding import is_image
from strive.errors import ConfigError

HIDDEN = "hidden files"
IN_FOLDERS = "folders inside a class folder"
EMPTY = "class folders without an image"
_NO_FILE = "neither files nor folders"
_ENDINGS = 6  # how many endings of other files are listed separately


@dataclass(frozen=True)
class DataFiles:
    """The files of a data set, for the plan, the record and a comparison with earlier ones."""

    found: str = ""  # how many images of how many classes; "" where the set is always the same
    left_out: tuple[str, ...] = ()  # one line for each kind: how many, and an example
    stamp: str = ""  # changes with the files' number, names, sizes and times; "" where there are none


NO_FILES = DataFiles()


class LeftOut:
    """Counts the files that are left out, by kind, with an example of each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, kind: str, name: str) -> None:
        """Count one more, by its name in the data set."""
        self._add_count(kind, 1, name)

    def add_other(self, name: str) -> None:
        """Count a file whose name is no image's."""
        if os.path.basename(name).startswith("."):
            self.add(HIDDEN, name)
        else:
            ending = os.path.splitext(name)[1].lower()
            self.add(f"files ending in {readable(ending)}" if ending else "files without an ending", name)

    def merge(self, other: "LeftOut") -> None:
        """Count what another has counted."""
        for kind, count in other._counts.items():
            self._add_count(kind, count, other._examples[kind])

    def lines(self) -> tuple[str, ...]:
        """Return one line for each kind."""
        counts, examples = self._counts.copy(), dict(self._examples)
        endings = [kind for kind, _ in counts.most_common() if kind.startswith("files ending in ")]
        for kind in endings[_ENDINGS:]:  # a set may have a file of each ending there is
            counts["files with other endings"] += counts.pop(kind)
            examples.setdefault("files with other endings", examples[kind])
        return tuple(
            f"{kind}: {count} ({'such as ' if count > 1 else ''}{readable(examples[kind])})"
            for kind, count in sorted(counts.items())
        )

    def _add_count(self, kind: str, count: int, name: str) -> None:
        self._counts[kind] += count
        self._examples[kind] = min(name, self._examples.get(kind, name))


def left_out_text(left_out: Sequence[str]) -> str:
    """Return the end of a message on missing images: the files that were left out, if any."""
    return f". What is left out: {'; '.join(left_out)}" if left_out else ""


def readable(name: str) -> str:
    """Return a file's name as text that can be printed and written anywhere UTF-8 can; other bytes as escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


@dataclass(frozen=True)
class ClassFolder:
    """One split's images of one class."""

    label: str
    names: tuple[str, ...]  # SPLIT/CLASS/FILE, sorted
    stamp: str  # changes with the files' names, sizes and times
    sizes: str  # changes with the files' names and sizes alone
    left_out: LeftOut = field(compare=False)


def list_folder(root: Path, splits: Sequence[str]) -> tuple[dict[str, list[ClassFolder]], LeftOut]:
    """Return the class folders of each split, sorted by name, and what is left out.

    Raises ConfigError where something cannot be read, such as a link to nothing.
    """
    left_out = LeftOut()
    for entry in _entries(root):
        if entry.name not in splits:
            outside = f"files and folders beside {' and '.join(f'{split}/' for split in splits)}"
            left_out.add(HIDDEN if entry.name.startswith(".") else outside, entry.name)
    return {split: _class_folders(root, split, left_out) for split in splits}, left_out


def stamp_of(parts: Iterable[str]) -> str:
    """Return 16 hex digits that change with any of the texts."""
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def _class_folders(root: Path, split: str, left_out: LeftOut) -> list[ClassFolder]:
    classes = []
    for entry in _entries(root / split):
        name = f"{split}/{entry.name}"
        if entry.name.startswith("."):
            left_out.add(HIDDEN, name)
        elif stat.S_ISDIR(_status(entry).st_mode):
            classes.append(entry)
        else:
            left_out.add(f"files directly under {split}/, without a class", name)
    # Threads, because what takes time is a network file system's answers.
    with ThreadPoolExecutor() as pool:
        folders = list(pool.map(partial(_class_folder, split=split), classes))
    for folder in folders:
        left_out.merge(folder.left_out)
        if not folder.names:
            left_out.add(EMPTY, f"{split}/{folder.label}")
    return [folder for folder in folders if folder.names]


def _class_folder(folder: os.DirEntry[str], split: str) -> ClassFolder:
    stamps: list[tuple[str, int, int, int]] = []
    left_out = LeftOut()
    for entry in _entries(Path(folder.path)):
        name = f"{split}/{folder.name}/{entry.name}"
        if not is_image(entry.name):
            if _is_folder(entry):
                left_out.add(IN_FOLDERS, name)
            else:
                left_out.add_other(name)
            continue
        status = _status(entry)
        if stat.S_ISREG(status.st_mode):
            # The time of the last change of the inode, too: a copy that keeps size and time of its original
            # moves that alone.
            stamps.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        else:
            left_out.add(IN_FOLDERS if stat.S_ISDIR(status.st_mode) else _NO_FILE, name)
    return ClassFolder(
        label=folder.name,
        names=tuple(name for name, *_ in stamps),
        stamp=stamp_of(f"{name} {size} {changed} {inode}" for name, size, changed, inode in stamps),
        sizes=stamp_of(f"{name} {size}" for name, size, *_ in stamps),
        left_out=left_out,
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries, sorted; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        if folder.is_symlink():
            raise ConfigError(f"{folder} is a link to {os.readlink(folder)}, where no folder is") from None
        return []
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        link = f" is a link to {readable(os.readlink(entry.path))}, which" if entry.is_symlink() else ""
        raise ConfigError(
            f"{readable(entry.path)}{link} cannot be read: {error.strerror}; without it the set is not complete."
            " Put the file there, or take the name away"
        ) from error
