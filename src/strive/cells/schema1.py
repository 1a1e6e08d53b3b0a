"""Reader of schema 1: record.json as it was written with a fixed set of numbers, and epochs.jsonl. Imports no torch."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

from strive.decoding import decode

SCHEMA: Final = 1
EPOCHS = "epochs.jsonl"  # the name of a history

# Keys of its config that do not determine numbers. A record of schema 1 lists all keys together.
LOGISTICS = ("data.root", "data.download", "runs", "sweeps")
LOGISTICS_GROUPS = ("trainer.", "tracker.", "needs.")

_METRICS = (
    "epochs", "steps", "parameters", "train_loss", "train_error", "val_loss", "val_error", "test_loss", "test_error",
)  # fmt: skip
_DETAILS = (
    "layout", "compiled", "bf16", "engine", "fast", "packed", "fallback", "images_per_second", "data_stamp",
    "data_found",
)  # fmt: skip
_KEPT = (
    "host", "device", "threads", "peak_memory_bytes", "resumes", "inexact", "python", "strive", "code_hash",
    "code_files", "started", "finished",
)  # fmt: skip

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    epochs: _Count
    steps: _Count
    parameters: _Count
    train_loss: float | None
    train_error: _Share
    val_loss: float | None
    val_error: _Share | None
    test_loss: float | None
    test_error: _Share
    predictions_sha256: str
    weights_sha256: str


class _Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    device: str
    threads: _Count
    layout: str
    compiled: bool
    bf16: str = ""
    engine: str = "eager"
    fast: bool = False
    packed: _Count = 1
    fallback: str = ""
    train_seconds: float
    images_per_second: float
    peak_memory_bytes: _Count
    resumes: _Count
    inexact: list[str]
    torch: str
    python: str
    strive: str
    code_hash: str
    code_files: dict[str, str] = {}
    data_fingerprint: str
    data_stamp: str = ""
    data_found: str = ""
    data_left_out: list[str] = []
    chance_error: float | None = None
    started: str
    finished: str


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1]
    cell: str
    status: str
    config: dict[str, Any]
    result: _Result | None
    failure: Any
    provenance: _Provenance


@lru_cache(maxsize=4096)  # all records have the same keys
def is_logistics(key: str) -> bool:
    """Return whether a key of a schema 1 config does not determine numbers."""
    return key in LOGISTICS or key.startswith(LOGISTICS_GROUPS)


def as_schema2(content: bytes) -> dict[str, Any]:
    """Return a record.json of schema 1 as the JSON value of schema 2, for `records.Record`.

    Raises NotJsonError and WrongTypeError, as `strive.decoding.decode` does.
    """
    old = decode(content, _Record)
    result, made = old.result, old.provenance
    finished = old.failure is None
    return {
        "schema": 2,
        "cell": old.cell,
        "status": old.status,
        "config": {key: value for key, value in old.config.items() if not is_logistics(key)},
        "logistics": {key: value for key, value in old.config.items() if is_logistics(key)},
        "metrics": {name: getattr(result, name) for name in _METRICS} if result else {},
        "chance": {} if made.chance_error is None else {"test_error": made.chance_error},
        "cause": _divergence(old) if old.status == "diverged" else "",
        "data": {"images": made.data_fingerprint} if made.data_fingerprint else {},
        "outputs": _outputs(result) if result else {},
        # A record with neither or with both is refused like one whose status does not fit.
        "failure": old.failure if finished == (result is not None) else {"cause": "", "traceback": ""},
        "provenance": {name: getattr(made, name) for name in _KEPT}
        | {"seconds": made.train_seconds, "packages": {"torch": made.torch} if made.torch else {}}
        | {"details": _details(made)},
    }


def as_step(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object of a line of epochs.jsonl as one of a line of history.jsonl; its step is the epoch."""
    return {"step" if name == "epoch" else name: value for name, value in numbers.items()}


def _outputs(result: _Result) -> dict[str, str]:
    return {"predictions": result.predictions_sha256, "weights": result.weights_sha256}


def _details(made: _Provenance) -> dict[str, Any]:
    return {name: getattr(made, name) for name in _DETAILS} | {"data_left_out": "; ".join(made.data_left_out)}


def _divergence(old: _Record) -> str:
    """Return why a cell diverged, which schema 1 does not store."""
    if old.result is None:
        return ""
    after = f"epoch {old.result.epochs} of {old.config.get('budget.epochs')}"
    # The same two rules, in the same order, as in allcnn/training/cell_training.py.
    if old.result.train_loss is None:
        return f"the training loss was not finite in {after}"
    return f"all class outputs were zero on every training image of {after}"
