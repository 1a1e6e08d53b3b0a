"""Comparison of a record with the predictions and the history in its folder. Imports no torch."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from strive.cells.history import HISTORY, history_path, step_in
from strive.cells.metrics import Better, better_of, metrics_at_chance, recorded_text, result_text, value_text
from strive.cells.records import PREDICTIONS, Record, Status
from strive.errors import first_line

# An app whose outputs name predictions promises this much more of its record: predictions.npz holds labels and logits
# of the test images, each step of its history is an epoch, and the metrics with these names are its last epoch's.
_OUTPUT = "predictions"
_LAST = ("train_loss", "train_error", "val_loss", "val_error")
_BUDGET = "budget.epochs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Result of comparing a record with the other files in its folder."""

    contradictions: tuple[str, ...] = ()  # a sentence each, with both values
    not_checked: tuple[str, ...] = ()  # test_error, epochs: parts of the record without a file to compare with
    chance: Mapping[str, float] = field(default_factory=dict)  # {metric: what an untrained guess reaches}
    derived: Mapping[str, float] = field(default_factory=dict)  # {metric: value} that the predictions give
    labels_sha256: str = ""  # of the test images, in order; "" without predictions
    num_tested: int = 0  # test images; 0 without predictions

    @property
    def why(self) -> str:
        """Return the contradictions as one line."""
        return "; ".join(self.contradictions)


def check_record(record: Record, folder: str | Path, *, most_bytes: float = math.inf) -> Evidence:
    """Compare a record's metrics with predictions.npz and the history in its folder, where the app promises that.

    most_bytes: a larger predictions file is skipped, as if it did not exist.
    """
    chance, labels_sha256, num_tested = dict(record.chance), "", 0
    derived: Mapping[str, float] = {}
    if not record.status.finished or _OUTPUT not in record.outputs:
        return Evidence(chance=chance)
    found, not_checked = list(_against_budget(record)), []
    try:
        path = history_path(folder)
        found += _against_history(record.metrics, path.read_bytes(), path.name) if path else ()
        not_checked += [] if path else ["epochs"]
    except (OSError, ValueError) as error:
        found.append(f"{path.name if path else HISTORY} beside it cannot be read ({first_line(error)})")
    if 0 <= _size(f"{folder}/{PREDICTIONS}") <= most_bytes:
        # NumPy takes a while to import, and most sweeps that are only listed have no predictions to read.
        from strive.cells.predictions import Predicted

        predicted = Predicted.of(record, Path(folder))
        found += predicted.contradictions
        counted, labels_sha256, num_tested = predicted.chance_error, predicted.labels_sha256, predicted.num_labels
        derived = predicted.derived
        stated = chance.get("test_error")
        if counted is not None and chance.setdefault("test_error", counted) != counted:
            found.append(f"record.json says chance_error {stated}, {PREDICTIONS} beside it gives {counted}")
    else:
        not_checked.append("test_error")
    return Evidence(
        contradictions=tuple(found),
        not_checked=tuple(sorted(not_checked)),
        chance=chance,
        derived={} if found else derived,
        labels_sha256=labels_sha256,
        num_tested=num_tested,
    )


def same_weights(cells: Mapping[str, tuple[str, object]]) -> dict[str, str]:
    """Return {cell: why} for cells of different seeds that ended in the same weights, which training does not do.

    cells: {cell: (weights_sha256, seed)}.
    """
    groups: dict[str, list[str]] = {}
    for cell, (weights, _) in cells.items():
        if weights:
            groups.setdefault(weights, []).append(cell)
    found = {}
    for group in groups.values():
        for cell in group:
            other = next((each for each in group if repr(cells[each][1]) != repr(cells[cell][1])), None)
            if other is not None:
                found[cell] = f"its record and that of {other}, of another seed, have the same weights_sha256"
    return found


def at_chance_text(record: Record, chance: Mapping[str, float] | None = None) -> str:
    """Return why a cell never left chance; "" if it did, or if nobody knows what chance gives.

    chance: {metric: what an untrained guess reaches}, if it is not the record's.
    """
    chance = record.chance if chance is None else chance
    if record.status is not Status.done or not (dead := metrics_at_chance(record.metrics, chance)):
        return ""
    texts = {name: chance_text(name, chance[name], better) for name in dead if (better := better_of(name))}
    return ", ".join(text if name == "test_error" else f"{name} {text}" for name, text in texts.items())


def chance_text(name: str, chance: float, better: Better) -> str:
    """Return a remark on a metric that is at chance or beyond it."""
    side = "below" if better is Better.lower else "above"
    if name == "test_error":
        return f"not {side} the {chance:.2%} of always naming the largest class"
    return f"not {side} the {value_text(name, chance)} of chance"


def remark(record: Record) -> str:
    """Return in one line why a cell diverged or why it counts as dead; "" for any other cell."""
    return f"dead, {why}" if (why := at_chance_text(record)) else record.cause


def summary(record: Record) -> str:
    """Return one line on the outcome of a cell."""
    if record.failure is not None:
        return f"{record.cell}: {record.status.value}: {record.failure.cause}"
    # The reason for a divergence was printed before this line.
    why = f"; {remark(record)}" if record.status is Status.done and remark(record) else ""
    return f"{record.cell}: {record.status.value}, {result_text(record.metrics)}{why}"


def _against_budget(record: Record) -> Iterator[str]:
    planned, epochs = record.config.get(_BUDGET), record.metrics.get("epochs")
    if planned is None or epochs is None:
        return
    fits = epochs == planned if record.status is Status.done else 0 < epochs <= planned
    if not fits:
        yield f"record.json says {record.status.value} after {epochs} epochs, its config {_BUDGET}={planned}"


def _against_history(metrics: Mapping[str, float | None], content: bytes, name: str) -> Iterator[str]:
    """Yield contradictions in the last line of a history; raise ValueError if that line is damaged."""
    lines = content.splitlines()
    if not lines:
        raise ValueError("it is empty")
    last = step_in(lines[-1])
    if last is None:
        raise ValueError("its last line is no step")
    if (last.step, len(lines)) != (metrics.get("epochs"),) * 2:
        yield (
            f"record.json says {metrics.get('epochs')} epochs, {name} beside it has {len(lines)} lines and ends with"
            f" epoch {last.step}"
        )
        return
    for each in filter(metrics.__contains__, _LAST):
        said, wrote = metrics[each], last.values.get(each)
        if said != wrote:
            yield f"record.json says {each} {recorded_text(said)}, {name} beside it {recorded_text(wrote)}"


def _size(path: str) -> int:
    """Return the size of a file in bytes; -1 if there is none."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError:
        return 0  # reading the file will report the reason
