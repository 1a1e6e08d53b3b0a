"""Records as rows of columns: numbers, and text that can be encoded as UTF-8."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strive.cells.checked_record import CheckedRecord
from strive.cells.evidence import Evidence, at_chance_text
from strive.cells.records import Record, Status, content_hash, data_text
from strive.errors import LoadError, RecordError

Reader = Callable[[str | Path], CheckedRecord]
Columns = dict[str, npt.NDArray[Any]]  # {name: [n]}, float64 or object

# Additional statuses to those of records.Status. Contradictory: a file in the record's folder disagrees with it.
MISSING, UNREADABLE, CONTRADICTORY = "missing", "unreadable", "contradictory"

# {column: its value if there is no record}, of the columns that every sweep has; NaN marks a column of numbers.
EMPTY: dict[str, Any] = {
    "folder": "",
    "status": MISSING,
    "cause": "",
    "traceback": "",
    "record_sha256": "",
    "host": "",
    "device": "",
    "threads": np.nan,
    "train_seconds": np.nan,
    "peak_memory_bytes": np.nan,
    "resumes": np.nan,
    "inexact": "",
    "python": "",
    "strive": "",
    "code_hash": "",
    "data_fingerprint": "",
    "started": "",
    "finished": "",
    "dead": None,  # a missing truth value is None, because NaN is truthy
    "not_checked": "",
    "labels_sha256": "",
    "num_tested": np.nan,
}
# Further columns of a row that are not the record's.
_OTHERS = ("cell", "arm", "epochs_planned", "record", "warning")
RESERVED = frozenset({*EMPTY, *_OTHERS})
_RESULT_SUFFIX = "_sha256"  # of the columns of outputs
CHANCE = "chance."  # before the names of columns of what chance gives


def metric_column(name: str) -> str:
    """Return the column of a metric: its name, unless that is another column's in every sweep."""
    return f"metric.{name}" if name in RESERVED else name


def chance_column(name: str) -> str:
    """Return the column of what chance gives for a metric."""
    return f"{CHANCE}{name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRow:
    """One record as values of columns."""

    values: Mapping[str, Any] = field(default_factory=dict)  # {column: value}, None for a missing one; {}: no record
    metrics: Sequence[str] = ()  # names
    results: Sequence[str] = ()  # columns of metrics and outputs


class RecordTable:
    """The columns of some cells' records; those that only some apps have appear when a record has them."""

    def __init__(self, number: int) -> None:
        """Create the columns of EMPTY for this many cells without a record."""
        self.columns: Columns = {}
        self.metrics: dict[str, None] = {}  # names, in the order of the records
        self.results: dict[str, None] = {}  # columns of metrics and outputs
        self._number = number
        self._numeric: set[str] = set()  # columns of floats
        for name, empty in EMPTY.items():
            self._add(name, empty)

    def put(self, row: int, record: RecordRow) -> None:
        """Set the values of a row."""
        self.metrics.update(dict.fromkeys(record.metrics))
        self.results.update(dict.fromkeys(record.results))
        columns, numeric = self.columns, self._numeric
        for name, value in record.values.items():
            if name not in columns:
                self._add(name, empty_of(value))
            if type(value) is not float and name in numeric and not _is_number(value):
                self._make_objects(name)
            columns[name][row] = value

    def align(self, other: "RecordTable") -> None:
        """Give both tables the columns and the types of either."""
        for mine, theirs in ((self, other), (other, self)):
            mine.metrics.update(theirs.metrics)
            mine.results.update(theirs.results)
            for name, column in theirs.columns.items():
                if name not in mine.columns:
                    mine._add(name, np.nan if name in theirs._numeric else _empty_object(column))
                elif name in mine._numeric and name not in theirs._numeric:
                    mine._make_objects(name)

    def _add(self, name: str, empty: Any) -> None:
        is_numeric = isinstance(empty, float)
        self.columns[name] = np.full(self._number, empty, float if is_numeric else object)
        if is_numeric:
            self._numeric.add(name)

    def _make_objects(self, name: str) -> None:
        self.columns[name] = _as_objects(self.columns[name])
        self._numeric.discard(name)


def read_rows(runs: Path, cells: Sequence[str], read: Reader = CheckedRecord.read) -> RecordTable:
    """Return the records' columns with one row for each cell, in order. Reads only folders directly in `runs`.

    read: as CheckedRecord.read, for one who has read them already.

    Raises LoadError if the folder cannot be listed.
    """
    try:
        names, inside = frozenset(os.listdir(runs)), os.path.join(runs, "")
    except OSError as error:
        raise LoadError(f"{runs}: no folder of records ({error.strerror})") from None
    table = RecordTable(len(cells))
    for row, cell in enumerate(cells):
        # Plans may be edited by hand: never follow a name out of the folder.
        if cell in names:
            table.put(row, read_row(f"{inside}{cell}/record.json", read))
    return table


def read_row(path: str | Path, read: Reader = CheckedRecord.read) -> RecordRow:
    """Return a record's values; none if there is no record."""
    folder = os.path.dirname(path)
    try:
        found = read(path)
    except (FileNotFoundError, NotADirectoryError):
        return RecordRow()
    except (RecordError, OSError) as error:
        return RecordRow(values={"folder": folder, "status": UNREADABLE, "cause": _on_one_line(str(error))})
    record, result = found.record, _result(found.record)
    row = _row(record)
    row |= result
    row["record_sha256"] = content_hash(found.content)
    row |= _checked(record, found.evidence)
    if b"\\u" in found.content:  # only then can it contain lone surrogates
        row = {name: encodable(value) if isinstance(value, str) else value for name, value in row.items()}
    row["folder"] = folder
    return RecordRow(values=row, metrics=tuple(record.metrics), results=tuple(result))


def objects(values: list[Any]) -> npt.NDArray[np.object_]:
    """Return an object array of the unchanged values, without numpy's conversions."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _on_one_line(text: str) -> str:
    """Return the text with its line breaks replaced by blanks."""
    return " ".join(encodable(text).split())


def encodable(text: str) -> str:
    """Return the text made encodable as UTF-8: JSON may contain lone surrogates, from odd file names."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _row(record: Record) -> dict[str, Any]:
    made = record.provenance
    row: dict[str, Any] = {
        name: value for name, value in made.details.items() if name not in RESERVED and name not in record.metrics
    }
    row |= {name: version for name, version in made.packages.items() if name not in RESERVED}
    row |= {
        "status": record.status.value,
        "cause": record.cause,
        "host": made.host,
        "device": made.device,
        "threads": made.threads,
        "train_seconds": made.seconds,
        "peak_memory_bytes": made.peak_memory_bytes,
        "resumes": made.resumes,
        "inexact": "; ".join(made.inexact),
        "python": made.python,
        "strive": made.strive,
        "code_hash": made.code_hash,
        "data_fingerprint": data_text(record.data),
        "started": made.started,
        "finished": made.finished,
    }
    if record.failure is not None:
        row |= {"cause": _on_one_line(record.failure.cause), "traceback": encodable(record.failure.traceback)}
    return row


def _result(record: Record) -> dict[str, Any]:
    """Return the columns that a training determines: metrics and outputs."""
    found: dict[str, Any] = {metric_column(name): value for name, value in record.metrics.items()}
    return found | {f"{name}{_RESULT_SUFFIX}": value for name, value in record.outputs.items()}


def _checked(record: Record, evidence: Evidence) -> dict[str, Any]:
    """Return columns from the files in the record's folder; if they contradict the result, blank its numbers."""
    found: dict[str, Any] = {"labels_sha256": evidence.labels_sha256, "not_checked": ", ".join(evidence.not_checked)}
    found |= {chance_column(name): chance for name, chance in evidence.chance.items()}
    if evidence.num_tested:
        found["num_tested"] = evidence.num_tested
    if record.status is Status.done and evidence.chance:
        found["dead"] = at_chance_text(record, evidence.chance) != ""
    # Columns only: a record that has such a metric itself keeps its own.
    found |= {metric_column(name): value for name, value in evidence.derived.items() if name not in record.metrics}
    if evidence.contradictions:
        empty = {name: empty_of(value) for name, value in _result(record).items()}
        return found | empty | {"status": CONTRADICTORY, "cause": encodable(evidence.why), "dead": None}
    return found


def empty_of(value: Any) -> Any:
    """Return the value that a column like this has for a cell without a record."""
    if value is None or _is_number(value):
        return np.nan
    return "" if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _empty_object(column: npt.NDArray[Any]) -> Any:
    """Return the value for a cell without a record in a column of objects."""
    return empty_of(next((value for value in column if value not in ("", None)), ""))


def _as_objects(column: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    return objects([None if value != value else value for value in column.tolist()])
