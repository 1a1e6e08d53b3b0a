"""Any data set as image files: train/CLASS/FILE and test/CLASS/FILE, in a folder or an archive.

Decoded once, to arrays in the cache. An archive is read as a stream: nothing is unpacked.
"""

import hashlib
import json
import lzma
import os
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from strive.config import ConfigError, DataConfig
from strive.data.cache import Arrays, cached_arrays
from strive.data.decoding import decode_square, is_image
from strive.data.images import RawData, RawSplit

_FORMAT = 2  # raise it when a change here changes pixels, labels or their order
_SPLITS = ("train", "test")
_CHUNK = 1024  # images that are in memory as files at one time


@dataclass(frozen=True)
class Listing:
    """The image files of a data set; names are relative to the folder or archive, sorted."""

    class_names: tuple[str, ...]
    files: dict[str, tuple[str, ...]]  # split -> names
    labels: dict[str, npt.NDArray[np.int64]]  # split -> [n]
    stamp: str  # changes when a file does


def read_image_folder(data: DataConfig) -> RawData:
    """Return both splits, images [n, image_size, image_size, 3], decoded once and then cached.

    Raises ConfigError when the layout is wrong or an image cannot be read.
    """
    root = _root(data)
    listing = list_images(data)
    key = hashlib.sha256(f"{_FORMAT}/{listing.stamp}/{data.image_size}".encode()).hexdigest()[:16]
    arrays = cached_arrays("images", key, lambda: _decode(root, listing, data.image_size))
    return RawData(
        train=RawSplit(arrays["train"], listing.labels["train"]),
        test=RawSplit(arrays["test"], listing.labels["test"]),
        class_names=listing.class_names,
    )


def list_images(data: DataConfig) -> Listing:
    """Find the images without decoding any.

    Raises ConfigError when there is no such folder or archive, or its layout is wrong.
    """
    root = _root(data)
    if root.is_dir():
        return _list_folder(root)
    status = root.stat()
    return _list_archive(root, status.st_size, status.st_mtime_ns)


def _root(data: DataConfig) -> Path:
    root = Path(data.root).expanduser().absolute()
    if root.is_dir() or (root.is_file() and (zipfile.is_zipfile(root) or tarfile.is_tarfile(root))):
        return root
    what = "is neither a folder nor a .tar, .tar.gz, .tar.xz or .zip archive" if root.exists() else "does not exist"
    raise ConfigError(
        f"data.root={data.root} {what} ({root}). It must be a folder or an archive that holds"
        " train/CLASS/FILE and test/CLASS/FILE. Use data=image_folder data.root=DIR data.name=NAME,"
        " or data=cifar10 data.download=true for CIFAR-10 itself"
    )


def _list_folder(root: Path) -> Listing:
    stamps: dict[str, str] = {}
    for split in _SPLITS:
        for folder in _entries(root / split):
            if folder.is_dir():
                for file in _entries(Path(folder.path)):
                    if is_image(file.name) and file.is_file():
                        status = file.stat()
                        stamps[f"{split}/{folder.name}/{file.name}"] = f"{status.st_size}/{status.st_mtime_ns}"
    stamp = hashlib.sha256(json.dumps([str(root), sorted(stamps.items())]).encode()).hexdigest()
    return _listing(root, stamps, stamp)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return list(entries)


@lru_cache(maxsize=8)
def _list_archive(root: Path, size: int, mtime_ns: int) -> Listing:
    """List an archive; a compressed one takes seconds, so a sweep's cells share the list of names."""
    stamp = hashlib.sha256(f"{root}/{size}/{mtime_ns}".encode()).hexdigest()
    names = cached_arrays("listing", stamp[:16], lambda: {"names": np.array(_names_in(root), dtype=np.str_)})
    return _listing(root, names["names"].tolist(), stamp)


def _names_in(root: Path) -> list[str]:
    if zipfile.is_zipfile(root):
        with zipfile.ZipFile(root) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    with _opened_tar(root) as tar:
        return [member.name for member in tar if member.isfile()]


def _listing(root: Path, names: Iterable[str], stamp: str) -> Listing:
    found: dict[str, list[tuple[str, str]]] = {split: [] for split in _SPLITS}  # split -> (class, name)
    for name in dict.fromkeys(names):  # an archive may hold a name twice
        split, label = _place(name)
        if split:
            found[split].append((label, name))
    for pairs in found.values():
        pairs.sort()
    classes = _class_names(root, {split: {label for label, _ in found[split]} for split in _SPLITS})
    numbers = {label: number for number, label in enumerate(classes)}
    return Listing(
        class_names=classes,
        files={split: tuple(name for _, name in found[split]) for split in _SPLITS},
        labels={split: np.array([numbers[label] for label, _ in found[split]], dtype=np.int64) for split in _SPLITS},
        stamp=stamp,
    )


def _class_names(root: Path, classes: dict[str, set[str]]) -> tuple[str, ...]:
    for split in _SPLITS:
        if not classes[split]:
            raise ConfigError(f"data.root={root} has no images under {split}/; it must hold {split}/CLASS/FILE")
    odd = sorted(classes["train"] ^ classes["test"])
    if odd:
        raise ConfigError(
            f"data.root={root}: train/ and test/ must have the same classes; only one has {', '.join(odd[:10])}"
        )
    return tuple(sorted(classes["train"]))


def _place(name: str) -> tuple[str, str]:
    """Return (split, class) of [TOP/]train/CLASS/FILE, or empty texts for any other file."""
    parts = name.removeprefix("./").split("/")
    hidden = parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts)
    if len(parts) in (3, 4) and parts[-3] in _SPLITS and is_image(parts[-1]) and not hidden:
        return parts[-3], parts[-2]
    return "", ""


def _decode(root: Path, listing: Listing, size: int) -> Arrays:
    arrays = {split: np.empty((len(listing.files[split]), size, size, 3), dtype=np.uint8) for split in _SPLITS}
    rows = {name: (split, row) for split in _SPLITS for row, name in enumerate(listing.files[split])}

    def decode_one(item: tuple[str, bytes]) -> None:
        name, content = item
        split, row = rows[name]
        arrays[split][row] = decode_square(content, size, f"{name} in {root}")

    read = _folder_files if root.is_dir() else _zip_files if zipfile.is_zipfile(root) else _tar_files
    _for_all(decode_one, read(root, set(rows)), len(rows))
    return dict(arrays)


def _for_all(work: Callable[[tuple[str, bytes]], None], items: Iterator[tuple[str, bytes]], total: int) -> None:
    """Work on all items in threads; show progress on stderr once it has taken a second."""
    started, shown = time.monotonic(), False
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("decoding images, once", total=total)
    # PIL lets go of the interpreter while it decodes, so threads are enough; a chunk at a time
    # keeps a large archive out of memory.
    with ThreadPoolExecutor() as pool:
        try:
            while chunk := list(islice(items, _CHUNK)):
                for _ in pool.map(work, chunk):
                    pass
                progress.advance(task, len(chunk))
                if not shown and time.monotonic() - started > 1:
                    progress.start()
                    shown = True
        finally:
            if shown:
                progress.stop()


def _folder_files(root: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(wanted):
        yield name, (root / name).read_bytes()


def _zip_files(root: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(root) as archive:
        for name in sorted(wanted):
            yield name, archive.read(name)


def _tar_files(root: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    with _opened_tar(root) as tar:
        for member in tar:
            # Links, devices and folders are not followed: only a member's own bytes are read.
            if member.isfile() and member.name in wanted:
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content.read()


@contextmanager
def _opened_tar(root: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(root) as tar:
            yield tar
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise ConfigError(f"data.root={root} is not a readable archive: {error}") from error
