"""Known versions of the code that trained a group of cells."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import pandas as pd

from strive.cells.records import read_record
from strive.code.hash import changed_files_text
from strive.code.same_code import same_code
from strive.errors import RecordError
from strive.format import counted


def versions(*groups: pd.DataFrame) -> int:
    """Return the number of code versions among these cells; 1 if some version would give all of their numbers.

    groups: cells of Loaded.cells, all with a record. Several hashes count as one version if a table of the same code
    declares them equivalent for these cells.
    """
    hashes = {code for cells in groups for code in cells["code_hash"].unique()}
    if len(hashes) < 2:
        return 1
    records = (pair for cells in groups for pair in zip(cells["record"], cells["record_sha256"], strict=True))
    return 1 if reduce(frozenset.intersection, (_same(*each) for each in records)) else len(hashes)


def versions_text(cells: pd.DataFrame) -> str:
    """Return the hashes with their numbers of cells, and the files that differ between the two most frequent."""
    counts = Counter(map(str, cells["code_hash"])).most_common()
    text = hashes_text(cells)
    one, other = (_files(cells[cells["code_hash"] == value]["record"].iloc[0]) for value, _ in counts[:2])
    changed = changed_files_text(one, other) if one and other else ""
    return f"{text}; they differ in {changed}" if changed else text


def hashes_text(cells: pd.DataFrame) -> str:
    """Return the code hashes with their numbers of cells."""
    counts = Counter(map(str, cells["code_hash"])).most_common()
    return ", ".join(f"{value} ({counted(count, 'cell')})" for value, count in counts)


def _same(path: str, sha256: str) -> frozenset[str]:
    return same_code(*_code_and_config(path, sha256), Path(path).parent.parent)


@lru_cache(maxsize=100_000)
def _code_and_config(path: str, sha256: str) -> tuple[str, dict[str, Any]]:
    """Return a record's code hash and config. sha256: of the file, which may change."""
    record = read_record(Path(path))
    return record.provenance.code_hash, record.config


def _files(record: str) -> Mapping[str, str]:
    """Return the code files listed in a record, {} if it cannot be read or lists none."""
    with suppress(OSError, RecordError):
        return read_record(Path(record)).provenance.code_files
    return {}
