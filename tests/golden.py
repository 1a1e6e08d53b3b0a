"""Records and plans written by hand, so that every number in a table is known before it is made."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from allcnn.config import Config
from strive.cells import records
from strive.cells.records import Failure, Provenance, Record, Result, Status
from strive.config import identity
from strive.sweeps.plan import Action, Chosen, Plan, Planned, write_plan

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
        image whether it was classified, which decides the error), epochs (a list of lines, as many as the budget), and
        fields of the provenance. Returns its folder.
        """
        if more.get("epochs") and error is not None and more.get("status", "done") == "done":
            changes = {"budget.epochs": len(more["epochs"])} | changes
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
        if lines:
            last = {name: lines[-1][name] for name in ("train_loss", "train_error", "val_loss", "val_error")}
            result = replace(result, epochs=len(lines), **last)
        if correct is not None:
            sha256, loss = _write_predictions(folder, np.asarray(correct))
            error = int(np.sum(~np.asarray(correct, bool))) / len(correct)
            result = replace(result, predictions_sha256=sha256, test_loss=loss, test_error=error)
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


def handmade_epochs(*train_errors: float, val: float | None) -> list[dict[str, Any]]:
    """Return the lines of an epochs.jsonl: errors as shares, a loss twice the error, one held-out error."""
    held_out = {"val_loss": None if val is None else 2 * val, "val_error": val}
    return [
        {"epoch": number, "lr": 0.05, "train_loss": 2 * error, "train_error": error, **held_out}
        for number, error in enumerate(train_errors, 1)
    ]


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


def _write_predictions(folder: Path, correct: np.ndarray) -> tuple[str, float]:
    """Return the hash of the logits, and their mean loss in nats.

    Ten classes, every third label 4 and the others 3: the logit of the label is largest where the image is to be
    right, that of 5 elsewhere.
    """
    logits = np.zeros((len(correct), 10), np.float32)
    labels = np.where(np.arange(len(correct)) % 3 == 2, 4, 3)
    logits[np.arange(len(correct)), np.where(correct, labels, 5)] = 1
    np.savez(folder / "predictions.npz", labels=labels, logits=logits)
    # One logit is 1 and nine are 0: -log of the label's share.
    loss = float(np.log(math.e + 9) - np.mean(correct))
    return hashlib.sha256(logits.tobytes()).hexdigest(), loss
