"""What a cell leaves behind: one small JSON file, written whole or not at all, read checked.

Imports no torch, so that analysis can read records anywhere.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, BinaryIO, get_args, get_origin, get_type_hints
from uuid import uuid4

from strive.config import identity
from strive.config.platform_keys import CellConfig

SCHEMA = 1
PREDICTIONS = "predictions.npz"  # beside a record that has a result
RETRAINING = "retraining"  # folder, in the cell's, of a training that is to replace its result


class RecordError(ValueError):
    """A file that is not a record of this schema; the message names the path and the reason."""


class Status(StrEnum):
    """How a cell ended. The first two are results; the others are failures."""

    done = auto()
    diverged = auto()  # a result, with its error rate: never retried
    out_of_memory = auto()
    timeout = auto()
    preempted = auto()
    node_fail = auto()
    killed = auto()
    error = auto()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self in (Status.done, Status.diverged)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What the identity decides: bit-identical after a resume. Errors are shares in [0, 1]."""

    epochs: int  # epochs trained; fewer than budget.epochs if the cell diverged
    steps: int  # optimizer steps
    parameters: int  # trainable numbers of the net, biases included
    train_loss: float | None  # mean over the last epoch, nats per image, as trained; null: not finite
    train_error: float  # share of the last epoch's images that were misclassified, as trained
    val_loss: float | None  # nats per image on data.val_images; null: none held out, or not finite
    val_error: float | None  # null: nothing was held out
    test_loss: float | None  # nats per image, last step's weights; null: not finite
    test_error: float  # share of test images that were misclassified, last step's weights
    predictions_sha256: str  # of the test logits, float32 [n, classes]
    weights_sha256: str  # of the final weights, in the order of the state dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a cell has no result."""

    cause: str  # one line
    traceback: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What the identity does not decide: where, when, how fast, with which code."""

    host: str
    device: str  # name of the GPU or processor
    threads: int  # CPU threads
    layout: str  # memory layout of images and activations
    compiled: bool  # whether torch.compile ran
    bf16: str = ""  # native kernels, or rounded around those of float32; "": not in bf16, or an older record
    engine: str = "eager"  # graph: a step was one CUDA graph
    fast: bool = False  # kernels might differ from run to run
    packed: int = 1  # most cells that trained side by side in its process, itself counted
    fallback: str = ""  # why a faster way was not taken; "" if none was given up
    train_seconds: float  # training steps alone: no loading, no evaluation; all sittings together
    images_per_second: float  # training images through the net, over train_seconds
    peak_memory_bytes: int  # of the process on a CPU, of the allocator on a GPU; last sitting
    resumes: int  # how often the cell went on from a checkpoint
    inexact: list[str]  # why the numbers may differ from an uninterrupted cell's; empty: they do not
    torch: str  # version
    python: str  # version
    strive: str  # version
    code_hash: str  # of the source that decides numbers
    code_files: dict[str, str] = field(default_factory=dict)  # {file: its own hash} of that source; {}: not known
    data_fingerprint: str  # of pixels and labels; "" where the cell failed before loading
    data_stamp: str = ""  # of the image files' names, sizes and times; "" where the set has no files
    data_found: str = ""  # how many images of how many classes lay on disk
    data_left_out: list[str] = field(default_factory=list)  # files that are no images of the set, by kind
    chance_error: float | None = None  # share in [0, 1]: of always naming the largest class of the test images
    started: str  # UTC, ISO 8601; first sitting
    finished: str  # UTC, ISO 8601


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One cell's record."""

    schema: int
    cell: str  # the cell's id
    status: Status
    config: dict[str, Any]  # every knob, as {dotted key: value}
    result: Result | None  # null: the cell failed
    failure: Failure | None  # null: the cell has a result
    provenance: Provenance


def record_path(runs: Path, cell: str) -> Path:
    """Return where a cell's record lies."""
    return runs / cell / "record.json"


def write_record(
    runs: Path, record: Record, *, scratch: Path | None = None, ready: Callable[[], object] = lambda: None
) -> Path:
    """Write the record whole or not at all; an earlier one is kept beside it. scratch, ready: as for write_whole."""
    path = record_path(runs, record.cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    _keep_earlier(path, scratch)
    content = json.dumps(dataclasses.asdict(record), indent=2, allow_nan=False) + "\n"
    write_whole(path, content.encode(), scratch=scratch, ready=ready)
    return path


def write_whole(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    *,
    scratch: Path | None = None,
    durable: bool = True,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Write a file by rename: a reader sees the old content or the new, never a part.

    content: bytes, or what writes them. scratch: the folder of the claim on the cell; once another
    process has taken the cell over it is gone, and the write fails with FileNotFoundError.
    durable: survive a power cut too, which takes milliseconds. ready: called when all of it is on disk, and only its
    name is to change.
    """
    # The random name keeps two writers apart.
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
        with suppress(OSError):  # what went wrong before is what counts
            temporary.unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """Read one record and check it.

    Raises RecordError if the file is damaged, of another schema, or of another cell than its
    folder says; FileNotFoundError if there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:  # of json, of the encoding, or of _refuse_constant
        raise RecordError(f"{path}: not a whole JSON file ({error}); move it away to train the cell again") from None
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(f"{path}: not a record, it has no schema version")
    if content["schema"] != SCHEMA:
        raise RecordError(f"{path}: schema {content['schema']!r}, this version reads schema {SCHEMA}")
    record: Record = _typed(content, Record, str(path))
    _check_identity(record, path)
    return record


def record_of(config: CellConfig) -> Record | None:
    """Return the cell's record, of a result or of a failure, or None.

    Raises RecordError for one that cannot be trusted, or is another cell's with the same id.
    """
    path = record_path(Path(config.runs), identity.cell_id(config))
    try:
        record = read_record(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if other := identity.differences(identity.flat(config), record.config):
        lines = [f"  {key}: this cell {mine}, the record {theirs}" for key, (mine, theirs) in other.items()]
        raise RecordError(
            f"{path}: is the record of another cell with the same id, whose ten digits happen to be the same;"
            " give this one another runs=FOLDER\n" + "\n".join(lines)
        )
    return record


def divergence(record: Record) -> str:
    """Return in one line why a cell diverged, as its result shows; "" for a cell that did not."""
    if record.status is not Status.diverged or record.result is None:
        return ""
    after = f"epoch {record.result.epochs} of {record.config['budget.epochs']}"
    # The two rules of allcnn/training/cell_training.py, in its order.
    if record.result.train_loss is None:
        return f"the training loss was not finite in {after}"
    return f"all class outputs were zero on every training image of {after}"


def file_hash(path: Path) -> str:
    """Return the sha256 of a record file, which tells one record of a cell from its next."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _keep_earlier(path: Path, scratch: Path | None) -> None:
    if not path.exists():
        return
    number = 1
    while (earlier := path.with_name(f"record-{number}.json")).exists():
        number += 1
    if number > 1 and path.with_name(f"record-{number - 1}.json").read_bytes() == path.read_bytes():
        return  # the disk had room for this, and then none for the new record
    # A copy first: at no moment is there no record. Not a link, which some file systems lack.
    write_whole(earlier, path.read_bytes(), scratch=scratch)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _check_identity(record: Record, path: Path) -> None:
    keys = set(record.config)
    # Logistics keys come and go between versions; they decide nothing.
    if lacking := sorted(identity.science_keys() - keys):
        raise RecordError(f"{path}: its config lacks {', '.join(lacking)}")
    wanted = identity.science_hash(record.config)
    if not record.cell.endswith(f"-{wanted}"):
        raise RecordError(f"{path}: its config belongs to a cell whose id ends in {wanted}, not to {record.cell}")
    if path.parent.name != record.cell:
        raise RecordError(f"{path}: is the record of {record.cell}, but lies in {path.parent.name}")
    if record.result is not None:
        for field in dataclasses.fields(Result):
            value = getattr(record.result, field.name)
            if field.name.endswith("_error") and value is not None and not 0 <= value <= 1:
                raise RecordError(f"{path}: result: {field.name} must be in [0, 1], got {value}")
    if record.status.finished == (record.result is None) or (record.result is None) == (record.failure is None):
        raise RecordError(f"{path}: status {record.status.value} does not fit its result and failure parts")


# Thousands of records are read at once.
_hints = lru_cache(maxsize=None)(get_type_hints)


def _typed(value: Any, wanted: Any, where: str) -> Any:
    """Return the JSON value as the annotated type, or raise RecordError with the place."""
    if type(value) is wanted:
        return value
    if dataclasses.is_dataclass(wanted):
        assert isinstance(wanted, type)
        hints = _hints(wanted)
        # What was added later has a default, which is true of earlier records.
        least = {
            item.name
            for item in dataclasses.fields(wanted)
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        }
        if not isinstance(value, dict) or not least <= set(value) <= set(hints):
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise RecordError(f"{where}: {wanted.__name__} must have exactly {sorted(hints)}, got {got}")
        return wanted(**{name: _typed(each, hints[name], f"{where}: {name}") for name, each in value.items()})
    if get_origin(wanted) is UnionType:
        if value is None:
            return None
        (wanted,) = (choice for choice in get_args(wanted) if choice is not NoneType)
        return _typed(value, wanted, where)
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        if value not in [choice.value for choice in wanted]:
            raise RecordError(f"{where}: must be one of {[choice.value for choice in wanted]}, got {value!r}")
        return wanted(value)
    plain = get_origin(wanted) or wanted
    if plain is float and type(value) is int:
        value = float(value)
    if type(value) is not plain:
        raise RecordError(f"{where}: must be {plain.__name__}, got {value!r}")
    return value
