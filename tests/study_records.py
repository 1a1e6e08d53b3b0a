"""Records of the study's cells, written by hand."""

from typing import Any

from msgspec.structs import replace

from allcnn.config import Config
from strive.app import in_use
from strive.cells import records
from strive.cells.records import Failure, Provenance, Record, Status
from strive.config import identity

METRICS: dict[str, float | None] = {
    "epochs": 350, "steps": 44, "parameters": 22042, "train_loss": 2.3, "train_error": 0.89, "val_loss": None,
    "val_error": None, "test_loss": 2.3, "test_error": 0.9,
}  # fmt: skip
OUTPUTS = {"predictions": "0" * 64, "weights": "1" * 64}
PROVENANCE = Provenance(
    host="laptop", device="CPU", threads=2, seconds=1.5, peak_memory_bytes=10**9, resumes=0, inexact=[],
    packages={"torch": "2.14.1"}, python="3.11.7", strive="0.1.0", code_hash="0123456789",
    started="2026-01-01T00:00:00+00:00", finished="2026-01-01T00:00:02+00:00",
    details={"layout": "channels_last", "compiled": False, "bf16": "", "engine": "eager", "fast": False, "packed": 1,
             "fallback": "", "images_per_second": 100.0, "data_stamp": "", "data_found": "", "data_left_out": ""},
)  # fmt: skip


def study_record(
    config: Config,
    status: Status = Status.done,
    *,
    failure: Failure | None = None,
    outputs: dict[str, str] = OUTPUTS,
    images: str = "ab",
    chance: float | None = None,
    cause: str = "",
    provenance: dict[str, Any] | None = None,
    **metrics: float | None,
) -> Record:
    """Return a record with METRICS and these, or with a failure. provenance: fields of it, and details."""
    if not status.finished and failure is None:
        failure = Failure(cause="x", traceback="")
    flat = in_use().flat(config)
    science = in_use().science(config)
    if outputs is OUTPUTS and flat["seed"]:  # two seeds do not end in the same weights
        outputs = OUTPUTS | {"weights": f"{flat['seed']:064d}"}
    return Record(
        schema=records.SCHEMA,
        cell=identity.cell_id(config),
        status=status,
        config=science,
        logistics={key: value for key, value in flat.items() if key not in science},
        metrics={} if failure else METRICS | metrics,
        chance={} if chance is None or failure else {"test_error": chance},
        cause=cause,
        data={"images": images} if images else {},
        outputs={} if failure else outputs,
        failure=failure,
        provenance=made(PROVENANCE, **provenance or {}),
    )


def made(provenance: Provenance, **changes: Any) -> Provenance:
    """Return a provenance with other fields; any other name is a detail."""
    fields = {name: value for name, value in changes.items() if name in Provenance.__struct_fields__}
    details = {name: value for name, value in changes.items() if name not in Provenance.__struct_fields__}
    return replace(provenance, **fields, **({"details": provenance.details | details} if details else {}))
