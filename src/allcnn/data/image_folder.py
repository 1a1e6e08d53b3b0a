"""Data sets of image files: train/CLASS/FILE and test/CLASS/FILE, in a folder or an archive.

They are decoded once, to arrays in the cache. An archive is read as a stream: nothing is unpacked.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from allcnn.config import DataConfig
from allcnn.data.archive import EntryKind, contents, has_checksums, list_archive
from allcnn.data.cache import Arrays, cached_arrays
from allcnn.data.decoding import decode_square, is_image
from allcnn.data.images import RawData, RawSplit
from allcnn.data.listing import (
    EMPTY,
    HIDDEN,
    IN_FOLDERS,
    DataFiles,
    LeftOut,
    left_out_text,
    list_folder,
    readable,
    stamp_of,
)
from strive.errors import ConfigError

_FORMAT = 2  # raise it when a change here changes pixels, labels or their order
_SPLITS = ("train", "test")
_CHUNK = 1024  # image files in memory at one time


@dataclass(frozen=True)
class Listing:
    """The image files of a data set; names are relative to the folder or archive, sorted."""

    class_names: tuple[str, ...]
    files: dict[str, tuple[str, ...]]  # split -> names
    labels: dict[str, npt.NDArray[np.int64]]  # split -> [n]
    places: dict[str, int]  # name -> where an archive has its bytes; empty for a folder
    on_disk: DataFiles


def read_image_folder(data: DataConfig) -> RawData:
    """Return both splits, images [n, image_size, image_size, 3], decoded once and then cached.

    Raises ConfigError when the layout is wrong or an image cannot be read.
    """
    root = _root(data)
    listing = list_images(data)
    key = stamp_of((str(_FORMAT), str(root), listing.on_disk.stamp, str(data.image_size)))

    def decoded() -> Arrays:
        arrays = _decode(root, listing, data.image_size)
        if list_images(data).on_disk.stamp != listing.on_disk.stamp:
            raise ConfigError(f"data.root={data.root}: the files changed while they were read; start again")
        return arrays

    arrays = cached_arrays("images", key, decoded)
    return RawData(
        train=RawSplit(arrays["train"], listing.labels["train"]),
        test=RawSplit(arrays["test"], listing.labels["test"]),
        class_names=listing.class_names,
    )


def list_images(data: DataConfig) -> Listing:
    """Find the images without decoding any.

    Raises ConfigError when there is no such folder or archive, its layout is wrong, or it is not complete.
    """
    root = _root(data)
    if root.is_dir():
        return _list_folder(root)
    status = root.stat()
    return _list_archive(root, stamp_of((repr((status.st_size, status.st_mtime_ns, status.st_ctime_ns)),)))


def _root(data: DataConfig) -> Path:
    root = Path(data.root).expanduser().absolute()
    if root.is_dir() or root.is_file():
        return root
    what = "is neither a folder nor a file" if root.exists() else "does not exist"
    raise ConfigError(
        f"data.root={data.root} {what} ({root}). It must be a folder or an archive that holds"
        " train/CLASS/FILE and test/CLASS/FILE. Use data=image_folder data.root=DIR data.name=NAME,"
        " or data=cifar10 data.download=true for CIFAR-10 itself"
    )


def _list_folder(root: Path) -> Listing:
    found, left_out = list_folder(root, _SPLITS)
    folders = [folder for split in _SPLITS for folder in found[split]]
    stamp = stamp_of(folder.stamp for folder in folders)
    return _to_listing(root, [name for folder in folders for name in folder.names], {}, left_out.lines(), stamp)


def _list_archive(root: Path, stamp: str) -> Listing:
    listed = _listing_or_error(root, stamp)
    if isinstance(listed, ConfigError):
        raise ConfigError(str(listed)) from listed
    return listed


@lru_cache(maxsize=8)
def _listing_or_error(root: Path, stamp: str) -> Listing | ConfigError:
    """Return the listing of an archive, or the error; a large one takes seconds, so a sweep's cells share it."""
    key = stamp_of((str(_FORMAT), str(root), stamp))
    try:
        return _cached_listing(root, stamp, cached_arrays("listing", key, lambda: _scan_archive(root)))
    except ConfigError as error:
        return error


def _cached_listing(root: Path, stamp: str, found: Arrays) -> Listing:
    names, places = found["names"].tolist(), found["places"].tolist()
    return _to_listing(root, names, dict(zip(names, places, strict=True)), tuple(found["left_out"].tolist()), stamp)


def _scan_archive(root: Path) -> Arrays:
    """Return an archive's images, where their bytes are, and what is left out; complete, or ConfigError."""
    left_out = LeftOut()
    images: dict[str, int] = {}
    folders, filled = set[str](), set[str]()
    for entry in list_archive(root):
        parts = _parts(entry.name)
        where = _image_or_reason(parts)
        if entry.kind is EntryKind.broken_link and (where == _IMAGE or _is_class_folder(parts) or parts[-1] in _SPLITS):
            raise ConfigError(
                f"data.root={root}: {readable(entry.name)} is a link to {readable(entry.target)}, which is no file in"
                " the archive; without it the set is not complete. Pack the file itself (tar --dereference)"
            )
        if entry.kind is EntryKind.folder:
            if _is_class_folder(parts) and not any(part.startswith(".") for part in parts):
                folders.add("/".join(parts[-2:]))
        elif entry.kind is not EntryKind.file:
            left_out.add(_REASONS[entry.kind], entry.name)
        elif where == _IMAGE:
            images[entry.name] = entry.place
            filled.add("/".join(parts[-3:-1]))
        elif where:
            left_out.add(where, entry.name)
        else:
            left_out.add_other(entry.name)
    for folder in folders - filled:
        left_out.add(EMPTY, folder)
    if has_checksums(root):
        for _ in contents(root, set(images.values())):
            pass
    return {
        "names": np.array(list(images), dtype=np.str_),
        "places": np.array(list(images.values()), dtype=np.int64),
        "left_out": np.array(left_out.lines(), dtype=np.str_),
    }


_IMAGE = "image"
_REASONS = {
    EntryKind.broken_link: "links to what is no file in the archive",
    EntryKind.link: "links",
    EntryKind.other: "neither files nor folders",
    EntryKind.replaced: "files whose name comes again further on, and the last one counts",
}


def _parts(name: str) -> list[str]:
    return name.removeprefix("./").rstrip("/").split("/")


def _image_or_reason(parts: list[str]) -> str:
    """Return _IMAGE for [TOP/]train/CLASS/FILE, why a file elsewhere is left out, or "" for one that is no image."""
    if parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
        return "files whose path leads upwards" if ".." in parts else HIDDEN
    if len(parts) in (3, 4) and parts[-3] in _SPLITS:
        return _IMAGE if is_image(parts[-1]) else ""
    if len(parts) in (2, 3) and parts[-2] in _SPLITS:
        return f"files directly under {parts[-2]}/, without a class"
    if any(part in _SPLITS for part in parts[:-3]):
        return f"files in {IN_FOLDERS}"
    return "files outside train/CLASS/ and test/CLASS/"


def _is_class_folder(parts: list[str]) -> bool:
    """Return whether it is [TOP/]train/CLASS."""
    return len(parts) in (2, 3) and parts[-2] in _SPLITS


def _to_listing(root: Path, names: list[str], places: dict[str, int], left_out: tuple[str, ...], stamp: str) -> Listing:
    found: dict[str, list[tuple[str, str]]] = {split: [] for split in _SPLITS}  # split -> (class, name)
    for name in names:
        split, label = _parts(name)[-3:-1]
        found[split].append((label, name))
    for pairs in found.values():
        pairs.sort()
    classes = _class_names(root, {split: {label for label, _ in found[split]} for split in _SPLITS}, left_out)
    numbers = {label: number for number, label in enumerate(classes)}
    counts = " and ".join(f"{len(found[split])} {split}" for split in _SPLITS)
    return Listing(
        class_names=classes,
        files={split: tuple(name for _, name in found[split]) for split in _SPLITS},
        labels={split: np.array([numbers[label] for label, _ in found[split]], dtype=np.int64) for split in _SPLITS},
        places=places,
        on_disk=DataFiles(f"{counts} images of {len(classes)} classes", left_out, stamp),
    )


def _class_names(root: Path, classes: dict[str, set[str]], left_out: tuple[str, ...]) -> tuple[str, ...]:
    has = left_out_text(left_out)
    for split in _SPLITS:
        if not classes[split]:
            raise ConfigError(f"data.root={root} has no images under {split}/; it must hold {split}/CLASS/FILE{has}")
    odd = sorted(classes["train"] ^ classes["test"])
    if odd:
        raise ConfigError(
            f"data.root={root}: train/ and test/ must have the same classes; only one has {', '.join(odd[:10])}{has}"
        )
    return tuple(sorted(classes["train"]))


def _decode(root: Path, listing: Listing, size: int) -> Arrays:
    arrays = {split: np.empty((len(listing.files[split]), size, size, 3), dtype=np.uint8) for split in _SPLITS}
    rows = {name: (split, row) for split in _SPLITS for row, name in enumerate(listing.files[split])}

    def decode_one(item: tuple[str, bytes]) -> None:
        name, content = item
        split, row = rows[name]
        arrays[split][row] = decode_square(content, size, f"{readable(name)} in {root}")

    _in_threads(decode_one, _folder_files(root, rows) if root.is_dir() else _archive_files(root, listing), len(rows))
    return dict(arrays)


def _in_threads(work: Callable[[tuple[str, bytes]], None], items: Iterator[tuple[str, bytes]], total: int) -> None:
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


def _folder_files(root: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(names):
        try:
            yield name, (root / name).read_bytes()
        except OSError as error:
            raise ConfigError(f"{readable(name)} in {root} cannot be read: {error.strerror}") from error


def _archive_files(root: Path, listing: Listing) -> Iterator[tuple[str, bytes]]:
    names: dict[int, list[str]] = {}  # a file and the links to it have one place
    for name, place in listing.places.items():
        names.setdefault(place, []).append(name)
    for place, content in contents(root, names.keys()):
        yield from ((name, content) for name in names[place])
