"""Records and plans in W&B runs, turned back into the files that they were uploaded from."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strive.cells.history import step_line
from strive.results.record_row import UNREADABLE, read_row

if TYPE_CHECKING:
    from wandb.apis.public import Run

_FINISHED = ("provenance", "finished")  # where a record says it
_EPOCHS = (("metrics", "epochs"), ("result", "epochs"))  # of schema 2, of schema 1
_MOST_BYTES = 255  # of a name


@dataclass(frozen=True, kw_only=True, slots=True)
class MirroredRecord:
    """A record as a W&B run holds it. Somebody may have edited it there."""

    cell: str  # as the record says; the id of the W&B run where it says nothing
    content: bytes
    finished: str  # UTC, ISO 8601; "" where the record says nothing
    epochs: int | None  # of a result
    run: "Run"

    @property
    def valid(self) -> bool:
        """Whether it can be read where it belongs, in a folder with the cell's name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.cell / "record.json"
            path.parent.mkdir()
            path.write_bytes(self.content)
            return bool(read_row(path).values["status"] != UNREADABLE)


def record_in(run: "Run") -> MirroredRecord | None:
    """Return the record in a W&B run's summary; None if there is none, as while the cell trains."""
    text = run.summary_metrics.get("record")
    if text is None:
        return None
    if not isinstance(text, str):
        text = json.dumps(text)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    cell, finished, *counts = (_value(content, *keys) for keys in (("cell",), _FINISHED, *_EPOCHS))
    return MirroredRecord(
        cell=cell if isinstance(cell, str) else str(run.id),
        content=text.encode("utf-8", "surrogatepass"),
        finished=finished if isinstance(finished, str) else "",
        epochs=next((count for count in counts if type(count) is int), None),
        run=run,
    )


def newest(records: Sequence[MirroredRecord]) -> MirroredRecord:
    """Return of one cell's records the one that finished last; one that cannot be read only if there is no other."""
    if len(records) == 1:
        return records[0]
    return max(records, key=lambda record: (record.valid, record.finished))


def plan_name(run: "Run") -> str:
    """Return the name of the plan that a W&B run holds."""
    return str(run.group or run.id.removeprefix("plan-"))


def is_name(text: str) -> bool:
    """Return whether a folder can have this name, here and on other systems."""
    return (
        text.isprintable()
        and not text.startswith(".")
        and not set(text) & set("/\\")
        and 0 < len(text.encode()) <= _MOST_BYTES
    )


def history_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a history that became these rows; of a step twice the later row."""
    steps: dict[int, dict[str, float | None]] = {}
    own = "step" if any("step" in row for row in rows) else "epoch"  # as cell_files.step_name was when they were logged
    names = dict.fromkeys(name for row in rows for name, value in row.items() if name != own and _is_ours(name, value))
    for row in rows:
        step = _number(row.get(own))
        numbers = {name: _number(row.get(name)) for name in names}
        # A row of pictures has no numbers.
        if step is not None and step >= 0 and any(value is not None for value in numbers.values()):
            known = {name: value for name, value in numbers.items() if value is not None}
            steps[int(step)] = steps.get(int(step), dict.fromkeys(names)) | known
    return [step_line(step, numbers) for step, numbers in sorted(steps.items())]


def _is_ours(name: str, value: Any) -> bool:
    """Return whether a number of a row was logged as a metric: W&B's own names begin with an underscore."""
    return not name.startswith("_") and _number(value) is not None


def _number(value: Any) -> float | None:
    """Return the number as a float: W&B keeps 1.0 as 1. None for what is none, such as its text "NaN"."""
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.nan
    return number if math.isfinite(number) else None


def _value(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
