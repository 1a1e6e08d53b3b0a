"""The records of one runs folder, each of them read and checked once: a cache, and only that.

A row of the index file holds as long as the source that checks records and the record file's own
stamp are what they were; what does not hold is read again. Without the file, with a damaged one,
or where none can be written, the numbers are the same and only the time differs.
"""

import hashlib
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
from platformdirs import user_cache_dir

from allcnn import config
from strive.cells import evidence, predictions, records
from strive.cells.history import EPOCHS
from strive.cells.records import PREDICTIONS, Status, write_whole
from strive.config import identity
from strive.results import record_row
from strive.results.record_row import NUMBERS, Columns, no_rows, objects, read_row

_WORTH = 100  # so few new records are read again sooner than the file is written
# Two writes within one tick of a file system's clock can look alike; the coarsest clocks tick every 2 s.
_TICK_NS = 2 * 10**9
_BESIDE = (EPOCHS, PREDICTIONS)
_NEVER = 2**63  # ns, a time to come
_TRIES = 10
_DIGEST_BYTES = 32


def records_in(runs: Path, cells: Sequence[str]) -> Columns:
    """Return the columns of record_row.EMPTY, one row for each of the cells, in their order.

    Raises OSError if the folder cannot be listed.
    """
    names = frozenset(os.listdir(runs))
    inside = os.path.join(runs, "")
    # A plan is somebody's text: what is no name in the folder is not looked for outside of it.
    stamps = objects([_stamp(f"{inside}{cell}") if cell in names else "" for cell in cells])
    columns = no_rows(len(cells))
    path = index_path(runs)
    index = _read(path)
    known = _known(index, cells, stamps)
    for name, column in columns.items():
        column[known >= 0] = index[name][known[known >= 0]]
    fresh = {}
    for row in np.flatnonzero((known < 0) & (stamps != "")).tolist():
        values, stamps[row] = _read_record(f"{inside}{cells[row]}")
        for name, value in values.items():
            columns[name][row] = value
        if stamps[row]:
            fresh[cells[row]] = row
    if len(fresh) >= _WORTH:
        new = columns | {"cell": objects(list(cells)), "stamp": stamps}
        _write(path, _joined(index, names, new, fresh))
    return columns


def index_path(runs: Path) -> Path:
    """Return where the index of a runs folder lies: in the folder that STRIVE_CACHE names, or the user's."""
    try:
        folder = Path(os.environ.get("STRIVE_CACHE") or user_cache_dir("strive")).expanduser().absolute()
    except RuntimeError:  # a user without a home: nothing can be kept
        folder = Path(os.devnull)
    return folder / "records" / f"{hashlib.sha256(os.fsencode(runs.resolve())).hexdigest()[:16]}.arrow"


def _stamp(folder: str) -> str:
    """Return what changes whenever a cell's record, or what it is compared with, does; "" if there is no record."""
    record = _stamp_of(f"{folder}/record.json")
    return record and ";".join([record, *(_stamp_of(f"{folder}/{name}") or "0 0" for name in _BESIDE)])


def _stamp_of(path: str) -> str:
    """Return what changes whenever a file is written or replaced; "" if there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        return f"{_NEVER} 0"  # reading it will say why
    # ctime, too: it moves where a copy puts an old mtime back.
    return f"{found.st_mtime_ns} {found.st_ctime_ns} {found.st_size} {found.st_ino}"


def _read_record(folder: str) -> tuple[dict[str, Any], str]:
    """Return what a record says, and its stamp if the index may keep it, else ""."""
    for _ in range(_TRIES):
        now = time.time_ns()
        stamp = _stamp(folder)
        row = read_row(Path(f"{folder}/record.json"))
        if _stamp(folder) == stamp:
            break
    else:
        return row, ""
    # Not a damaged one, whose message names the path as given; nor one so new that the next may look like it.
    keep = row.get("status") in list(Status) and _newest_ns(stamp) < now - _TICK_NS
    return row, stamp if keep else ""


def _newest_ns(stamp: str) -> int:
    """Return the latest time in a stamp."""
    return max(int(text) for part in stamp.split(";") for text in part.split()[:2])


def _known(index: Columns, cells: Sequence[str], stamps: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """Return for each cell its row in the index, -1 where that has none or an older one. [n]"""
    at = {cell: row for row, cell in enumerate(index["cell"])}
    known = np.array([at.get(cell, -1) for cell in cells], dtype=np.int64)
    found = np.flatnonzero(known >= 0)
    known[found[index["stamp"][known[found]] != stamps[found]]] = -1
    return known


def _joined(index: Columns, names: Collection[str], new: Columns, fresh: Mapping[str, int]) -> Columns:
    """Return what the index knows of the other cells of the folder, and the fresh rows."""
    old = [row for row, cell in enumerate(index["cell"]) if cell in names and cell not in fresh]
    rows = list(fresh.values())
    return {name: np.concatenate([column[old], new[name][rows]]) for name, column in index.items()}


def _read(path: Path) -> Columns:
    """Return the columns of record_row.EMPTY, cell and stamp; empty for a missing, damaged or outdated file."""
    none = no_rows(0) | {"cell": objects([]), "stamp": objects([])}
    try:
        content = memoryview(path.read_bytes())
        if content[:_DIGEST_BYTES] != hashlib.sha256(content[_DIGEST_BYTES:]).digest():
            return none
        table = pa.ipc.open_file(pa.py_buffer(content[_DIGEST_BYTES:])).read_all()
        if table.schema.metadata[b"source"] != _source():
            return none
        return {name: _decoded(table.column(name)) for name in none}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return none


def _write(path: Path, columns: Columns) -> None:
    table = pa.table({name: _encoded(name, column) for name, column in columns.items()})
    table = table.replace_schema_metadata({b"source": _source()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    # Arrow does not notice a flipped bit.
    content = hashlib.sha256(content).digest() + content
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, durable=False)


def _encoded(name: str, column: npt.NDArray[Any]) -> pa.Array:
    if name in NUMBERS:
        return pa.array(column)
    array = pa.array(column, from_pandas=False)
    if array.null_count:
        return array
    encoded = array.dictionary_encode()
    return encoded if 2 * len(encoded.dictionary) < len(array) else array


def _decoded(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    array = column.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        # One object for each different text, not one for each row.
        return np.asarray(objects(array.dictionary.to_pylist())[array.indices.to_numpy()])
    if pa.types.is_floating(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    return objects(array.to_pylist())


@cache
def _source() -> bytes:
    """Return a hash of the source that decides what a row says."""
    files = (module.__file__ for module in (config, evidence, identity, predictions, records, record_row))
    content = b"".join(Path(file).read_bytes() for file in (*files, __file__) if file is not None)
    return hashlib.sha256(content).hexdigest().encode()
