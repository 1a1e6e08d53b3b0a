"""Records as rows of columns: numbers, and text that can be written anywhere."""

import os
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from strive.cells.evidence import is_dead, weigh
from strive.cells.records import Provenance, Record, Result, Status, content_hash, divergence, parse_record
from strive.errors import RecordError

Columns = dict[str, npt.NDArray[Any]]  # {name: [n]}, float64 or object

# Beside the values of records.Status. Contradictory: what lies beside the record says something else.
MISSING, UNREADABLE, CONTRADICTORY = "missing", "unreadable", "contradictory"


def _kinds() -> Iterator[tuple[str, object]]:
    """Yield (column, what stands where there is no value); NaN marks a column of numbers."""
    for name in ("status", "cause", "traceback", "record_sha256"):
        yield name, MISSING if name == "status" else ""
    for part in (Result, Provenance):
        hints = get_type_hints(part)
        for name in _columns(part):
            hint = hints[name]
            # No NaN for a missing truth value: NaN is true.
            yield name, "" if hint in (str, list[str]) else None if hint is bool else np.nan
    yield "dead", None
    for name in ("not_checked", "labels_sha256"):
        yield name, ""


def _columns(part: type[Result] | type[Provenance]) -> tuple[str, ...]:
    """Return the fields that are columns; what is a mapping, the files of the code, is read where one asks."""
    return tuple(name for name, hint in get_type_hints(part).items() if get_origin(hint) is not dict)


EMPTY = dict(_kinds())  # {column: its value where there is no record}
NUMBERS = frozenset(name for name, empty in EMPTY.items() if isinstance(empty, float))
RESULTS, _PROVENANCE = _columns(Result), _columns(Provenance)
_results, _provenance = attrgetter(*RESULTS), attrgetter(*_PROVENANCE)
_LISTS = [name for name, hint in get_type_hints(Provenance).items() if get_origin(hint) is list]


def no_rows(number: int) -> Columns:
    """Return the columns of so many cells without a record."""
    return {name: np.full(number, empty, float if name in NUMBERS else object) for name, empty in EMPTY.items()}


def read_rows(runs: Path, cells: Sequence[str]) -> Columns:
    """Return the columns of EMPTY, one row for each of the cells, in their order. None is read but what lies in runs.

    Raises OSError if the folder cannot be listed.
    """
    names = frozenset(os.listdir(runs))
    columns = no_rows(len(cells))
    for row, cell in enumerate(cells):
        # A plan is somebody's text: what is no name in the folder is not looked for outside of it.
        for name, value in read_row(runs / cell / "record.json").items() if cell in names else ():
            columns[name][row] = value
    return columns


def read_row(path: Path) -> dict[str, Any]:
    """Return {column: value} of a record, None where it has no value; {} if there is no record."""
    try:
        content = path.read_bytes()
        record = parse_record(content, path)
        row = _row(record) | {"record_sha256": content_hash(content)} | _checked(record, path.parent)
        if b"\\u" in content:  # else it has no halves of characters
            row = {name: plain(value) if isinstance(value, str) else value for name, value in row.items()}
        # A training that ends now replaces the record and what is compared with it, one after the other.
        replaced = row["status"] == CONTRADICTORY and path.read_bytes() != content
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (RecordError, OSError) as error:
        return {"status": UNREADABLE, "cause": one_line(str(error))}
    return read_row(path) if replaced else row


def objects(values: list[Any]) -> npt.NDArray[np.object_]:
    """Return the values as they are, not as numpy would turn them."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def one_line(text: str) -> str:
    """Return the text with its line breaks as blanks."""
    return " ".join(plain(text).split())


def plain(text: str) -> str:
    """Return text that can be written as UTF-8: JSON can hold halves of characters, as in odd file names."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"status": record.status.value, "cause": divergence(record)}
    if record.failure is not None:
        row |= {"cause": one_line(record.failure.cause), "traceback": plain(record.failure.traceback)}
    if record.result is not None:
        row |= zip(RESULTS, _results(record.result), strict=True)
    row |= zip(_PROVENANCE, _provenance(record.provenance), strict=True)
    row |= {name: "; ".join(row[name]) for name in _LISTS}
    return row


def _checked(record: Record, folder: Path) -> dict[str, Any]:
    """Return what the files beside a result say of it; where they contradict it, that instead of its numbers."""
    evidence = weigh(record, folder)
    found: dict[str, Any] = {"labels_sha256": evidence.labels_sha256, "not_checked": ", ".join(evidence.not_checked)}
    if evidence.chance_error is not None:
        found["chance_error"] = evidence.chance_error
    if record.result is not None and record.status is Status.done and evidence.chance_error is not None:
        found["dead"] = is_dead(record.result.test_error, evidence.chance_error)
    if evidence.contradictions:
        empty = {name: EMPTY[name] for name in RESULTS}
        return found | empty | {"status": CONTRADICTORY, "cause": plain(evidence.why), "dead": None}
    return found
