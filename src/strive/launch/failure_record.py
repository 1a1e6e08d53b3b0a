"""The record of a cell whose process could not write one itself. Imports no torch."""

import importlib.metadata
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strive import __version__, app
from strive.cells import records
from strive.cells.lease import owner_of, take_claim
from strive.cells.log_file import tail
from strive.cells.records import Failure, Provenance, Record, Status
from strive.cells.task import Task


def write_failure(
    task: Task,
    status: Status,
    cause: str,
    log: Path | str,
    *,
    traceback: str = "",
    fence: str = "",
    seen: Mapping[str, Any] | None = None,
) -> Record:
    """Record that a cell failed, with as much of its provenance as is known, and return the record.

    A finished record is left alone and returned. If this run was meant to replace that record, it is
    kept too, and the failure is returned without writing it. Checkpoints stay for the next try.

    cause: one line. log: where the process wrote to; its end stands for the traceback where there
    is none. fence: the token of the claim whose process is gone, if it was on another machine.
    seen: fields of Provenance that are known, torch's version, and details.

    Raises LeasedError while a living process trains the cell, RecordError if there is a record
    that cannot be read, OSError if none can be written.
    """
    folder = task.folder
    folder.mkdir(parents=True, exist_ok=True)
    before = owner_of(folder)
    known: dict[str, Any] = {"host": before.host, "started": before.since} if before else {}
    record = Record(
        schema=records.SCHEMA,
        cell=task.cell,
        status=status,
        config=task.config,
        logistics=task.logistics,
        failure=Failure(cause=cause, traceback=traceback or tail(Path(log))),
        provenance=_provenance(task, known | dict(seen or {})),
    )
    with take_claim(folder, task.settings.lease_seconds, fence=fence) as claim:
        path = records.record_path(folder.parent, task.cell)
        if path.exists() and (there := records.read_record(path)).status.finished:
            return record if task.replaces == records.file_hash(path) else there
        records.write_record(folder.parent, record, scratch=claim.scratch)
    return record


def _provenance(task: Task, known: dict[str, Any]) -> Provenance:
    now = records.utc_now()
    code = app.in_use().code_of(task.config)
    values: dict[str, Any] = {
        "host": socket.gethostname(),
        "device": "",
        "threads": task.settings.threads,
        "seconds": 0.0,
        "peak_memory_bytes": 0,
        "resumes": 0,
        "inexact": [],
        "python": platform.python_version(),
        "strive": __version__,
        "code_hash": task.code or code.hash,
        "started": now,
        "finished": now,
    }
    fields = Provenance.__struct_fields__
    values |= {name: value for name, value in known.items() if name in fields}
    details = {name: value for name, value in known.items() if name not in fields and name != "torch"}
    # What is on disk now is not what trained it where the hash is another.
    files = dict(code.files) if code.hash == values["code_hash"] else {}
    packages = {"torch": version} if (version := known.get("torch") or _torch_version()) else {}
    return Provenance(code_files=files, packages=packages, details=details, **values)


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""
