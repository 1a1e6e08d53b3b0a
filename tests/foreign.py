"""A sweep of an app that is not the study: a small text model with its own keys and metrics, written by hand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from strive.cells import records
from strive.cells.history import HISTORY, step_line
from strive.cells.records import Failure, Provenance, Record, Status
from strive.config import identity
from strive.sweeps.plan import SCHEMA, Action, StoredCell, StoredPlan

LOGISTICS = {"workers": 2, "paths.out": "/tmp/out"}
COMMON = {"optimizer.name": "adamw", "epochs": 3, "dataset.name": "shakespeare"}
PROVENANCE = Provenance(
    host="laptop", device="some processor", threads=1, seconds=6.5, peak_memory_bytes=10**8, resumes=0, inexact=[],
    python="3.12.0", strive="0.1.0", packages={"torch": "2.14.1", "numpy": "2.3"}, code_hash="c0de000000",
    started="2026-11-20T10:00:00+00:00", finished="2026-11-20T10:01:00+00:00",
)  # fmt: skip


@dataclass
class Foreign:
    """One sweep in a runs folder: add its cells, then write its plan."""

    runs: Path
    file: str = ""  # of the sweep file
    name: str = "multirun-4f53cda1"  # as that of no overrides
    text: str = ""
    question: str = "How many heads?"
    seed: str = "seed"
    start: dict[str, Any] = field(default_factory=dict)  # how its program is started
    _cells: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def cell(
        self,
        factors: Mapping[str, Any],
        metrics: Mapping[str, float | None] | None = None,
        *,
        status: Status | None = None,
        history: Sequence[Mapping[str, float | None]] = (),
        **more: Any,
    ) -> Path:
        """Add a cell with these values of the keys that vary; without metrics and status it has no record.

        history: the numbers of each step, every tenth from 10 on. more: other fields of the record.
        """
        science = COMMON | dict(factors)
        cell = f"char_lm-{identity.hash_of(science)}"
        self._cells.append((cell, dict(factors)))
        folder = self.runs / cell
        if metrics is not None or status is not None:
            status = status or Status.done
            failed = not status.finished
            record = Record(
                schema=records.SCHEMA,
                cell=cell,
                status=status,
                config=science,
                logistics=LOGISTICS,
                metrics=dict(metrics or {}),
                failure=Failure(cause="ValueError: no luck", traceback="Traceback\n") if failed else None,
                provenance=PROVENANCE,
                **{"data": {"text": "da7a"}, **more},
            )
            records.write_record(self.runs, record)
        if history:
            folder.mkdir(parents=True, exist_ok=True)
            lines = [step_line(10 * number, numbers) for number, numbers in enumerate(history, 1)]
            (folder / HISTORY).write_text("".join(lines))
        return folder

    def write(self) -> Path:
        """Write plan.json and return the runs folder."""
        plan = StoredPlan(
            sweep=self.file or self.name,
            file=self.file,
            changes=[],
            question=self.question,
            code="c0de000000",
            common=COMMON | LOGISTICS,
            cells=[
                StoredCell(cell=cell, arm="", action=Action.train, reason="no record", epochs=0, factors=factors)
                for cell, factors in self._cells
            ],
            excluded=[],
            choices=[],
            text=self.text,
            logistics=list(LOGISTICS),
            seed=self.seed,
            start=self.start,
        )
        folder = self.runs / "sweeps" / plan.sweep
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps({"schema": SCHEMA} | msgspec.to_builtins(plan)))
        return self.runs
