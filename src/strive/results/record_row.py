"""Records as rows of columns: numbers, and text that can be encoded as UTF-8."""

import os
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from strive.cells.evidence import check_record, is_dead
from strive.cells.records import Provenance, Record, Result, Status, content_hash, divergence, parse_record
from strive.errors import RecordError

Columns = dict[str, npt.NDArray[Any]]  # {name: [n]}, float64 or object

# Additional statuses to those of records.Status. Contradictory: a file in the record's folder disagrees with it.
MISSING, UNREADABLE, CONTRADICTORY = "missing", "unreadable", "contradictory"


def _kinds() -> Iterator[tuple[str, object]]:
    """Yield (column, its placeholder for a missing value); NaN marks a column of numbers."""
    for name in ("status", "cause", "traceback", "record_sha256"):
        yield name, MISSING if name == "status" else ""
    for part in (Result, Provenance):
        hints = get_type_hints(part)
        for name in _columns(part):
            hint = hints[name]
            # A missing truth value is None, because NaN is truthy.
            yield name, "" if hint in (str, list[str]) else None if hint is bool else np.nan
    yield "dead", None
    for name in ("not_checked", "labels_sha256"):
        yield name, ""


def _columns(part: type[Result] | type[Provenance]) -> tuple[str, ...]:
    """Return the fields that become columns; mappings (the code files) are read separately when needed."""
    return tuple(name for name, hint in get_type_hints(part).items() if get_origin(hint) is not dict)


EMPTY = dict(_kinds())  # {column: its value if there is no record}
NUMBERS = frozenset(name for name, empty in EMPTY.items() if isinstance(empty, float))
RESULTS, _PROVENANCE = _columns(Result), _columns(Provenance)
_results, _provenance = attrgetter(*RESULTS), attrgetter(*_PROVENANCE)
_LISTS = [name for name, hint in get_type_hints(Provenance).items() if get_origin(hint) is list]


def no_rows(number: int) -> Columns:
    """Return the columns for this many cells without a record."""
    return {name: np.full(number, empty, float if name in NUMBERS else object) for name, empty in EMPTY.items()}


def read_rows(runs: Path, cells: Sequence[str]) -> Columns:
    """Return the columns of EMPTY with one row for each cell, in order. Reads only folders directly in `runs`.

    Raises OSError if the folder cannot be listed.
    """
    names = frozenset(os.listdir(runs))
    columns = no_rows(len(cells))
    for row, cell in enumerate(cells):
        # Plans may be edited by hand: never follow a name out of the folder.
        for name, value in read_row(runs / cell / "record.json").items() if cell in names else ():
            columns[name][row] = value
    return columns


def read_row(path: Path) -> dict[str, Any]:
    """Return {column: value} of a record, None for missing values; {} if there is no record."""
    try:
        content = path.read_bytes()
        record = parse_record(content, path)
        row = _row(record) | {"record_sha256": content_hash(content)} | _checked(record, path.parent)
        if b"\\u" in content:  # only then can it contain lone surrogates
            row = {name: plain(value) if isinstance(value, str) else value for name, value in row.items()}
        # A training that ends now replaces the record and the files compared with it one after the other.
        replaced = row["status"] == CONTRADICTORY and path.read_bytes() != content
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (RecordError, OSError) as error:
        return {"status": UNREADABLE, "cause": one_line(str(error))}
    return read_row(path) if replaced else row


def objects(values: list[Any]) -> npt.NDArray[np.object_]:
    """Return an object array of the unchanged values, without numpy's conversions."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def one_line(text: str) -> str:
    """Return the text with its line breaks replaced by blanks."""
    return " ".join(plain(text).split())


def plain(text: str) -> str:
    """Return the text made encodable as UTF-8: JSON may contain lone surrogates, from odd file names."""
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
    """Return columns from the files in the record's folder; if they contradict the result, blank its numbers."""
    evidence = check_record(record, folder)
    found: dict[str, Any] = {"labels_sha256": evidence.labels_sha256, "not_checked": ", ".join(evidence.not_checked)}
    if evidence.chance_error is not None:
        found["chance_error"] = evidence.chance_error
    if record.result is not None and record.status is Status.done and evidence.chance_error is not None:
        found["dead"] = is_dead(record.result.test_error, evidence.chance_error)
    if evidence.contradictions:
        empty = {name: EMPTY[name] for name in RESULTS}
        return found | empty | {"status": CONTRADICTORY, "cause": plain(evidence.why), "dead": None}
    return found
