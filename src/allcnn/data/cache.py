"""Cache of arrays on disk that are slow to make and cheap to read again.

An entry is written whole or not at all, and read by mapping its files into memory, so that all
cells on a machine share one copy.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

Arrays = dict[str, npt.NDArray[Any]]

_MANIFEST = "arrays.json"


def cache_folder() -> Path:
    """Return the folder named by STRIVE_CACHE, or the user's cache folder."""
    return Path(os.environ.get("STRIVE_CACHE") or user_cache_dir("strive")).expanduser().absolute()


def cached_arrays(name: str, key: str, make: Callable[[], Mapping[str, npt.NDArray[Any]]]) -> Arrays:
    """Return the arrays of the entry `name`/`key`, from disk or from `make`.

    Arrays from disk are private copy-on-write maps: writing to one changes neither the file nor
    what other processes see. If they cannot be cached, they are made and returned.
    """
    folder = cache_folder() / name / key
    found = _read(folder)
    if found is not None:
        return found
    # The lock spares the second of two processes the work; it does not guard the files, which
    # the rename in _write does, also where a network file system has no locks.
    with _locked(folder):
        found = _read(folder)
        if found is not None:
            return found
        if folder.exists():
            _warn(f"the cache entry {folder} is damaged and is made again")
        made = dict(make())
        try:
            _write(folder, made)
        except OSError as error:
            _warn(f"not cached, so the next cell makes it again: {folder} ({error})")
            return made
    found = _read(folder)
    return made if found is None else found


def _read(folder: Path) -> Arrays | None:
    """Return the entry's arrays, or None where it is missing or damaged."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        # Mode "c", not "r": torch warns about read-only memory, and a stray write to a tensor
        # over a read-only map would end the process.
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in manifest}
        whole = all([list(arrays[name].shape), arrays[name].dtype.str] == manifest[name] for name in manifest)
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return arrays if whole else None


def _write(folder: Path, arrays: Arrays) -> None:
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    # Only a killed writer leaves such a folder: this process holds the entry's lock.
    for leftover in parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh = parent / f".{folder.name}.{uuid4().hex}"
    try:
        fresh.mkdir()
        for name, array in arrays.items():
            with (fresh / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        manifest = {name: [list(array.shape), array.dtype.str] for name, array in arrays.items()}
        (fresh / _MANIFEST).write_text(json.dumps(manifest))
        _move_into_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _move_into_place(fresh: Path, folder: Path) -> None:
    if folder.exists() and _read(folder) is None:
        damaged = fresh.with_name(f"{fresh.name}.damaged")
        os.rename(folder, damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(fresh, folder)
    except OSError:
        # A folder that is not empty cannot be replaced: another process was first.
        if _read(folder) is None:
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(f"{folder}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            _warn(f"waiting for another process that makes {folder}")
            lock.acquire()
    except (OSError, NotImplementedError):
        pass  # where no lock can be written, no entry can either: _write reports it
    try:
        yield
    finally:
        lock.release()


def _warn(line: str) -> None:
    print(f"strive: {line}", file=sys.stderr)
