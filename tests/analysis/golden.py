"""Records and plans written by hand, so that every number in a table is known before it is made."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from strive import identity, records
from strive.config import Config
from strive.records import Failure, Provenance, Record, Result, Status
from strive.sweeping.plan import Action, Chosen, Plan, Planned, write_plan

CODE = "c0de000000"
_PROVENANCE = Provenance(
    host="laptop",
    device="some processor",
    threads=1,
    layout="channels_last",
    compiled=False,
    train_seconds=60.0,
    images_per_second=1000.0,
    peak_memory_bytes=10**9,
    resumes=0,
    inexact=[],
    torch="2.14.1",
    python="3.11.7",
    strive="0.1.0",
    code_hash=CODE,
    data_fingerprint="da7a000000000000",
    started="2026-11-20T10:00:00+00:00",
    finished="2026-11-20T10:01:00+00:00",
)


@dataclass
class Golden:
    """One sweep in a runs folder: add its cells, then write its plan."""

    runs: Path
    file: str = "golden"  # the sweep file's name; "" for a multirun without one
    name: str = ""  # the plan's; the file's if nothing was changed on the command line
    changes: Sequence[str] = ()
    question: str = "Which net is best?"
    choices: Sequence[Chosen] = ()
    excluded: Sequence[tuple[str, str]] = ()
    text: str = ""  # of the sweep file
    _cells: list[Planned] = field(default_factory=list)

    def cell(self, changes: dict[str, Any], error: float | None = None, **more: Any) -> Path:
        """Add a cell with this test error in percent; None: its status in `more`, or none and so missing.

        changes: {knob: value}. more: arm, status, cause, parameters, val_error (percent), correct (for each test
        image whether it was classified), epochs (a list of lines), and fields of the provenance. Returns its folder.
        """
        config = identity.config_of(identity.flat(Config()) | {"runs": str(self.runs)} | changes)
        cell = identity.cell_id(config)
        self._cells.append(
            Planned(
                cell=cell,
                arm=more.pop("arm", ""),
                config=config,
                action=Action.train,
                reason="no record",
                code=CODE,
            )
        )
        status = Status(more.pop("status", "error" if error is None else "done")) if error is not None or more else None
        if status is not None:
            self._write(config, cell, status, error, more)
        return self.runs / cell

    def write(self) -> Path:
        """Write plan.json and return the runs folder."""
        write_plan(
            Plan(
                sweep=self.name or self.file,
                file=self.file,
                changes=list(self.changes),
                question=self.question,
                runs=self.runs,
                code=CODE,
                cells=self._cells,
                excluded=list(self.excluded),
                choices=list(self.choices),
                text=self.text,
            )
        )
        return self.runs

    def _write(self, config: Config, cell: str, status: Status, error: float | None, more: dict[str, Any]) -> None:
        folder = self.runs / cell
        folder.mkdir(parents=True, exist_ok=True)
        lines = more.pop("epochs", None)
        if lines is not None:
            (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        correct = more.pop("correct", None)
        cause = more.pop("cause", "out of luck")
        result = _result(config, cell, error, more.pop("val_error", None), more.pop("parameters", 1000))
        if lines is not None:
            result = replace(result, epochs=len(lines))
        if correct is not None:
            result = replace(result, predictions_sha256=_write_predictions(folder, np.asarray(correct)))
        records.write_record(
            self.runs,
            Record(
                schema=records.SCHEMA,
                cell=cell,
                status=status,
                config=identity.flat(config),
                result=result if status.finished else None,
                failure=None if status.finished else Failure(cause=cause, traceback="Traceback\n"),
                provenance=replace(_PROVENANCE, **more),
            ),
        )


def _result(config: Config, cell: str, error: float | None, val_error: float | None, parameters: int) -> Result:
    share = 0.9 if error is None else round(error / 100, 12)
    return Result(
        epochs=config.budget.epochs,
        steps=100,
        parameters=parameters,
        train_loss=1.0,
        train_error=0.5,
        val_loss=None if val_error is None else 1.0,
        val_error=None if val_error is None else round(val_error / 100, 12),
        test_loss=-math.log(1 - share) if share < 1 else None,
        test_error=share,
        predictions_sha256=hashlib.sha256(f"{cell} {share}".encode()).hexdigest(),
        weights_sha256=hashlib.sha256(f"weights {cell}".encode()).hexdigest(),
    )


def _write_predictions(folder: Path, correct: np.ndarray) -> str:
    """Return the hash of the logits.

    Ten classes, every label 3: the logit of 3 is largest where the image is to be right, that of 5 elsewhere.
    """
    logits = np.zeros((len(correct), 10), np.float32)
    logits[np.arange(len(correct)), np.where(correct, 3, 5)] = 1
    np.savez(folder / "predictions.npz", labels=np.full(len(correct), 3), logits=logits)
    return hashlib.sha256(logits.tobytes()).hexdigest()
