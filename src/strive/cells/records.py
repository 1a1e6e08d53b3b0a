"""The record of a cell: one small JSON file, written atomically and checked when read.

Imports no torch, so that analysis can read records anywhere.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal
from uuid import uuid4

import msgspec

from strive import app
from strive.cells import schema1
from strive.cells.settings import settings_of
from strive.config import identity
from strive.config.platform_keys import CellConfig
from strive.decoding import NotJsonError, WrongTypeError, convert, decode, loads
from strive.errors import ConfigError, RecordError

SCHEMA: Final = 2
PREDICTIONS = "predictions.npz"  # in the folder of a record whose outputs name predictions
RETRAINING = "retraining"  # subfolder for a training that is to replace the cell's result

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float
Scalar = str | bool | Number | None

# A record written by this version or by schema 1 begins with its version, so the rest need not be parsed to find it.
_OLD = re.compile(rb'\s*\{\s*"schema"\s*:\s*1\s*,')


class Status(StrEnum):
    """The outcome of a cell. The first two are results; the others are failures."""

    done = auto()
    diverged = auto()  # a result, with its metrics; never retried
    out_of_memory = auto()
    timeout = auto()
    preempted = auto()
    node_fail = auto()
    killed = auto()
    error = auto()

    @property
    def finished(self) -> bool:
        """Return whether there is nothing left to train."""
        return self in (Status.done, Status.diverged)


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The reason why a cell has no result."""

    cause: str  # one line
    traceback: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Circumstances that the identity does not determine: where, when, how fast, with which code."""

    host: str
    device: str  # name of the GPU or processor
    threads: Count  # CPU threads
    given: dict[str, Scalar] = {}  # what its launcher gave it: gpus (as CUDA_VISIBLE_DEVICES) and threads
    seconds: float  # of training, without what the app does not count; sum over all processes
    peak_memory_bytes: Count  # of the last process
    resumes: Count  # number of resumes from a checkpoint
    inexact: list[str]  # why the numbers may differ from an uninterrupted cell's; empty if they cannot
    python: str  # version
    strive: str  # version
    packages: dict[str, str] = {}  # {package: version}, such as torch
    code_hash: str  # of the source that determines numbers
    code_files: dict[str, str] = {}  # {file: its own hash} of that source; {} if unknown
    started: str  # UTC, ISO 8601; of the first process
    finished: str  # UTC, ISO 8601
    details: dict[str, Scalar] = {}  # what only this app knows of it, such as the layout of memory


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell's record."""

    schema: Literal[2]
    cell: str  # the cell's id
    status: Status
    config: dict[str, Any]  # {dotted key: value} of what determines the numbers; the id's digits are its hash
    logistics: dict[str, Any] = {}  # {dotted key: value} of every other key
    metrics: dict[str, Number | None] = {}  # {name: what the app returned}; null: not finite, or not measured
    chance: dict[str, float] = {}  # {metric: what an untrained guess reaches}
    cause: str = ""  # one line: why the cell diverged; "" for any other
    data: dict[str, str] = {}  # {name: fingerprint} of the data that the cell really read
    outputs: dict[str, str] = {}  # {name: sha256} of what it computed, such as weights
    failure: Failure | None  # null: the cell has a result
    provenance: Provenance

    @property
    def flat(self) -> dict[str, Any]:
        """Return every key, both science and logistics, as `App.flat` does."""
        return self.config | self.logistics

    @property
    def result(self) -> dict[str, float | str | None]:
        """Return what a training determines, equal when the cell is trained again: metrics, and outputs as NAME_sha256.

        {} for a failure.
        """
        return {**self.metrics, **{f"{name}_sha256": value for name, value in self.outputs.items()}}


def utc_now() -> str:
    """Return the time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_path(runs: Path, cell: str) -> Path:
    """Return the path of a cell's record."""
    return runs / cell / "record.json"


def write_record(
    runs: Path, record: Record, *, scratch: Path | None = None, ready: Callable[[], object] = lambda: None
) -> Path:
    """Write the record atomically and keep an earlier one under another name. scratch, ready: as for write_whole."""
    path = record_path(runs, record.cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    _keep_earlier(path, scratch)
    content = json.dumps(msgspec.to_builtins(record), indent=2, allow_nan=False) + "\n"
    write_whole(path, content.encode(), scratch=scratch, ready=ready)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder that the user has named, and those above it. Raises ConfigError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # a file system that takes no folders, as /proc
        raise ConfigError(f"{folder}: no folder can be made there; give another one") from None


def write_whole(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    *,
    scratch: Path | None = None,
    durable: bool = True,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Write a file by rename, so that readers see the old or the new content, never a part.

    content: bytes, or a function that writes them. scratch: the claim's folder; if another process has taken
    over the cell, it is gone, and the write fails with FileNotFoundError.
    durable: also survive a power cut, which takes milliseconds. ready: called when all content is on disk, just before
    the rename.
    """
    # The random name separates concurrent writers.
    temporary = (scratch or path.parent) / f".{path.name}.{uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        ready()
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # an earlier error is the one to report
            temporary.unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """Read and check one record.

    Raises RecordError if the file is damaged, has another schema, or belongs to another cell than its
    folder; FileNotFoundError if there is none.
    """
    return parse_record(path.read_bytes(), path)


def has_result(runs: Path, cell: str) -> bool:
    """Return whether a cell has a result; False for a failure, and where there is no record or a damaged one."""
    try:
        return read_record(record_path(runs, cell)).status.finished
    except (OSError, RecordError):
        return False


def parse_record(content: bytes, path: str | Path) -> Record:
    """Parse a record file's content, as `read_record` does. Raises RecordError."""
    try:
        record = _parsed(content)
    except NotJsonError as error:
        raise RecordError(f"{path}: not a whole JSON file ({error}); move it away to train the cell again") from None
    except WrongTypeError as error:
        raise RecordError(f"{path}: {error}") from None
    _check(record, path)
    return record


def record_of(config: CellConfig) -> Record | None:
    """Return the cell's record, whether a result or a failure; None if there is none.

    Raises RecordError for one that cannot be trusted, or that belongs to another cell with the same id.
    """
    return record_in(Path(settings_of(config).runs), identity.cell_id(config), app.in_use().science(config))


def as_recorded(config: CellConfig) -> CellConfig:
    """Return the config of the cell that a checked one names: with the defaults of the user's own code.

    Older records are named after what was typed: the config stays as it is where one has its name, and none the full
    name.
    """
    filled = app.in_use().filled_in(config)
    if filled is config or (_has_record(config) and not _has_record(filled)):
        return config
    return filled


def _has_record(config: CellConfig) -> bool:
    return record_path(Path(settings_of(config).runs), identity.cell_id(config)).exists()


def record_in(runs: Path, cell: str, science: Mapping[str, Any]) -> Record | None:
    """Return the record of a cell in a runs folder, as `record_of` does. science: its config, {dotted key: value}.

    Raises RecordError for a damaged record, or one of another cell.
    """
    path = record_path(runs, cell)
    try:
        record = read_record(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if other := identity.differences(science, record.config):
        lines = [f"  {key}: this cell {mine}, the record {theirs}" for key, (mine, theirs) in other.items()]
        raise RecordError(
            f"{path}: is the record of another cell with the same id, whose ten digits happen to be the same;"
            " give this one another runs=FOLDER\n" + "\n".join(lines)
        )
    return record


def file_hash(path: Path) -> str:
    """Return the sha256 of a record file, which identifies one version of a cell's record."""
    return content_hash(path.read_bytes())


def content_hash(content: bytes) -> str:
    """Return the sha256 of a record file's content."""
    return hashlib.sha256(content).hexdigest()


def data_text(data: Mapping[str, str]) -> str:
    """Return the fingerprints of a record's data as one text; of a single data set it is the fingerprint alone."""
    if len(data) == 1:
        return next(iter(data.values()))
    return ", ".join(f"{name} {data[name]}" for name in sorted(data))


def _keep_earlier(path: Path, scratch: Path | None) -> None:
    if not path.exists():
        return
    number = 1
    while (earlier := path.with_name(f"record-{number}.json")).exists():
        number += 1
    if number > 1 and path.with_name(f"record-{number - 1}.json").read_bytes() == path.read_bytes():
        return  # an earlier attempt made this copy but could not write the new record
    # A copy, so that a record exists at any moment. Not a link, which some file systems lack.
    write_whole(earlier, path.read_bytes(), scratch=scratch)


def _parsed(content: bytes) -> Record:
    """Return a record of any schema. Raises NotJsonError and WrongTypeError."""
    if _OLD.match(content):
        return convert(schema1.as_schema2(content), Record)
    try:
        return decode(content, Record)
    except WrongTypeError as error:
        found = loads(content)
        if not isinstance(found, dict) or "schema" not in found:
            raise WrongTypeError("not a record, it has no schema version") from None
        schema = found["schema"]
        # In Python 1.0 and True equal 1.
        if type(schema) is int and schema == schema1.SCHEMA:
            return convert(schema1.as_schema2(content), Record)
        if type(schema) is int and schema == SCHEMA:
            raise error from None
        raise WrongTypeError(f"schema {schema!r}, this version reads schemas 1 and {SCHEMA}") from None


def _check(record: Record, path: str | Path) -> None:
    wanted = identity.hash_of(record.config)
    if not record.cell.endswith(f"-{wanted}"):
        raise RecordError(f"{path}: its config belongs to a cell whose id ends in {wanted}, not to {record.cell}")
    # Not path.parent.name: there may be 100,000 records, and a Path takes as long as the parsing of one.
    if (folder := os.path.basename(os.path.dirname(path))) != record.cell:
        raise RecordError(f"{path}: is the record of {record.cell}, but lies in {folder}")
    if record.status.finished == (record.failure is not None):
        raise RecordError(f"{path}: status {record.status.value} does not fit its failure part")
    if not record.status.finished and record.metrics:
        raise RecordError(f"{path}: status {record.status.value} does not fit its metrics")
    for name, value in record.metrics.items():
        # JSON has no infinity, but 1e999 is read as one.
        if value is not None and not math.isfinite(value):
            raise RecordError(f"{path}: metrics.{name} must be a finite number or null, got {value}")
    for key in record.config.keys() & record.logistics.keys():
        raise RecordError(f"{path}: {key} is in config and in logistics")
