"""Records and plans written by hand, so that every number in a table is known before it is made."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import study_records
from msgspec.structs import replace
from study_records import made, study_record

from allcnn.config import Config
from strive.app import in_use
from strive.cells import records
from strive.cells.history import HISTORY
from strive.cells.records import Failure, Status
from strive.config import identity
from strive.sweeps.plan import Action, Plan, Planned, StoredChoice, write_plan

CODE = "c0de000000"
MakeGolden = Callable[..., "Golden"]  # what the fixture `golden` is
_PROVENANCE = made(
    study_records.PROVENANCE, device="some processor", threads=1, seconds=60.0, images_per_second=1000.0,
    code_hash=CODE, started="2026-11-20T10:00:00+00:00", finished="2026-11-20T10:01:00+00:00",
)  # fmt: skip


@dataclass
class Golden:
    """One sweep in a runs folder: add its cells, then write its plan."""

    runs: Path
    file: str = "golden"  # the sweep file's name; "" for a multirun without one
    name: str = ""  # the plan's; the file's if nothing was changed on the command line
    changes: Sequence[str] = ()
    question: str = "Which net is best?"
    choices: Sequence[StoredChoice] = ()
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
        config = in_use().config_of(in_use().flat(Config()) | {"runs": str(self.runs)} | changes)
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
            (folder / HISTORY).write_text("".join(json.dumps(line) + "\n" for line in lines))
        correct = more.pop("correct", None)
        cause = more.pop("cause", "out of luck")
        metrics = _metrics(config, error, more.pop("val_error", None), more.pop("parameters", 1000))
        outputs = {"predictions": _digest(f"{cell} {metrics['test_error']}"), "weights": _digest(f"weights {cell}")}
        outputs |= {name: more.pop(f"{name}_sha256") for name in tuple(outputs) if f"{name}_sha256" in more}
        if lines:
            last = {name: lines[-1][name] for name in ("train_loss", "train_error", "val_loss", "val_error")}
            metrics |= {"epochs": len(lines), **last}
        if correct is not None:
            outputs["predictions"], metrics["test_loss"] = _write_predictions(folder, np.asarray(correct))
            metrics["test_error"] = int(np.sum(~np.asarray(correct, bool))) / len(correct)
        record = study_record(
            config,
            status,
            failure=None if status.finished else Failure(cause=cause, traceback="Traceback\n"),
            outputs=outputs,
            images=more.pop("data_fingerprint", "da7a000000000000"),
            chance=more.pop("chance_error", None),
            cause=_divergence(config, metrics) if status is Status.diverged else "",
            **metrics,
        )
        packages = _PROVENANCE.packages | ({"torch": more.pop("torch")} if "torch" in more else {})
        records.write_record(self.runs, replace(record, provenance=made(_PROVENANCE, packages=packages, **more)))


def _divergence(config: Config, metrics: dict[str, Any]) -> str:
    after = f"epoch {metrics['epochs']} of {config.budget.epochs}"
    if metrics["train_loss"] is None:
        return f"the training loss became nan in {after}"
    return f"all class outputs were zero on every training image of {after}"


def handmade_epochs(*train_errors: float, val: float | None) -> list[dict[str, Any]]:
    """Return the lines of a history: errors as shares, a loss twice the error, one held-out error."""
    held_out = {"val_loss": None if val is None else 2 * val, "val_error": val}
    return [
        {"step": number, "lr": 0.05, "train_loss": 2 * error, "train_error": error, **held_out}
        for number, error in enumerate(train_errors, 1)
    ]


def _metrics(config: Config, error: float | None, val_error: float | None, parameters: int) -> dict[str, float | None]:
    share = 0.9 if error is None else round(error / 100, 12)
    return {
        "epochs": config.budget.epochs,
        "steps": 100,
        "parameters": parameters,
        "train_loss": 1.0,
        "train_error": 0.5,
        "val_loss": None if val_error is None else 1.0,
        "val_error": None if val_error is None else round(val_error / 100, 12),
        "test_loss": -math.log(1 - share) if share < 1 else None,
        "test_error": share,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
