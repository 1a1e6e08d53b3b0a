"""The record of a cell: one small JSON file, written atomically and checked when read.

Imports no torch, so that analysis can read records anywhere.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal
from uuid import uuid4

import msgspec

from strive.config import identity
from strive.config.platform_keys import CellConfig
from strive.decoding import NotJsonError, WrongTypeError, decode, loads
from strive.errors import RecordError

SCHEMA: Final = 1
PREDICTIONS = "predictions.npz"  # in the folder of a record that has a result
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
RETRAINING = "retraining"  # subfolder for a training that is to replace the cell's result


class Status(StrEnum):
    """The outcome of a cell. The first two are results; the others are failures."""

    done = auto()
    diverged = auto()  # a result, with its error rate; never retried
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


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers that the identity determines, bit-identical after a resume. Errors are shares in [0, 1]."""

    epochs: Count  # epochs trained; fewer than budget.epochs if the cell diverged
    steps: Count  # optimizer steps
    parameters: Count  # number of trainable parameters of the net, including biases
    train_loss: float | None  # mean over the last epoch, nats per image, in training mode; null: not finite
    train_error: Share  # share of misclassified images in the last epoch, in training mode
    val_loss: float | None  # nats per image on data.val_images; null: none held out, or not finite
    val_error: Share | None  # null: nothing was held out
    test_loss: float | None  # nats per image, with the last step's weights; null: not finite
    test_error: Share  # share of misclassified test images, with the last step's weights
    predictions_sha256: str  # of the test logits, float32 [n, classes]
    weights_sha256: str  # of the final weights, in the order of the state dict


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The reason why a cell has no result."""

    cause: str  # one line
    traceback: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Circumstances that the identity does not determine: where, when, how fast, with which code."""

    host: str
    device: str  # name of the GPU or processor
    threads: Count  # CPU threads
    layout: str  # memory layout of images and activations
    compiled: bool  # whether torch.compile ran
    bf16: str = ""  # "native" kernels or "rounded" ones of float32; "" without bf16, or in an older record
    engine: str = "eager"  # graph: each step was one CUDA graph
    fast: bool = False  # whether kernels might differ from run to run
    packed: Count = 1  # most cells that trained in its process at the same time, including this one
    fallback: str = ""  # why a faster path was not used; "" if it was
    train_seconds: float  # of training steps only, without loading and evaluation; sum over all processes
    images_per_second: float  # training images divided by train_seconds
    peak_memory_bytes: Count  # of the process on a CPU, of the allocator on a GPU; last process only
    resumes: Count  # number of resumes from a checkpoint
    inexact: list[str]  # why the numbers may differ from an uninterrupted cell's; empty if they cannot
    torch: str  # version
    python: str  # version
    strive: str  # version
    code_hash: str  # of the source that determines numbers
    code_files: dict[str, str] = {}  # {file: its own hash} of that source; {} if unknown
    data_fingerprint: str  # of pixels and labels; "" if the cell failed before loading
    data_stamp: str = ""  # of the image files' names, sizes and times; "" if the data set has no files
    data_found: str = ""  # numbers of images and classes on disk
    data_left_out: list[str] = []  # files that are not images of the data set, by kind
    chance_error: float | None = None  # share in [0, 1], if all test images were assigned to the largest class
    started: str  # UTC, ISO 8601; of the first process
    finished: str  # UTC, ISO 8601


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell's record."""

    schema: Literal[1]
    cell: str  # the cell's id
    status: Status
    config: dict[str, Any]  # every knob, as {dotted key: value}
    result: Result | None  # null: the cell failed
    failure: Failure | None  # null: the cell has a result
    provenance: Provenance


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


def parse_record(content: bytes, path: Path) -> Record:
    """Parse a record file's content, as `read_record` does. Raises RecordError."""
    try:
        record = decode(content, Record)
    except NotJsonError as error:
        raise RecordError(f"{path}: not a whole JSON file ({error}); move it away to train the cell again") from None
    except WrongTypeError as error:
        raise RecordError(f"{path}: {_other_schema(content) or error}") from None
    _check_identity(record, path)
    return record


def record_of(config: CellConfig) -> Record | None:
    """Return the cell's record, whether a result or a failure; None if there is none.

    Raises RecordError for one that cannot be trusted, or that belongs to another cell with the same id.
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
    """Return in one line why a cell diverged, derived from its result; "" for a cell that did not."""
    if record.status is not Status.diverged or record.result is None:
        return ""
    after = f"epoch {record.result.epochs} of {record.config['budget.epochs']}"
    # The same two rules, in the same order, as in allcnn/training/cell_training.py.
    if record.result.train_loss is None:
        return f"the training loss was not finite in {after}"
    return f"all class outputs were zero on every training image of {after}"


def file_hash(path: Path) -> str:
    """Return the sha256 of a record file, which identifies one version of a cell's record."""
    return content_hash(path.read_bytes())


def content_hash(content: bytes) -> str:
    """Return the sha256 of a record file's content."""
    return hashlib.sha256(content).hexdigest()


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


def _other_schema(content: bytes) -> str:
    """Return why a file is not a record of this schema; "" if its schema is right."""
    found = loads(content)
    if not isinstance(found, dict) or "schema" not in found:
        return "not a record, it has no schema version"
    # In Python 1.0 and True equal 1.
    if type(found["schema"]) is int and found["schema"] == SCHEMA:
        return ""
    return f"schema {found['schema']!r}, this version reads schema {SCHEMA}"


def _check_identity(record: Record, path: Path) -> None:
    keys = set(record.config)
    # Logistics keys may differ between versions, because they do not affect the numbers.
    if lacking := sorted(identity.science_keys() - keys):
        raise RecordError(f"{path}: its config lacks {', '.join(lacking)}")
    wanted = identity.science_hash(record.config)
    if not record.cell.endswith(f"-{wanted}"):
        raise RecordError(f"{path}: its config belongs to a cell whose id ends in {wanted}, not to {record.cell}")
    if path.parent.name != record.cell:
        raise RecordError(f"{path}: is the record of {record.cell}, but lies in {path.parent.name}")
    if record.status.finished == (record.result is None) or (record.result is None) == (record.failure is None):
        raise RecordError(f"{path}: status {record.status.value} does not fit its result and failure parts")
