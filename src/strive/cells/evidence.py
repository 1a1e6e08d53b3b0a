"""Comparison of a record with the predictions and the learning curve in its folder. Imports no torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strive.cells.history import EPOCHS, epoch_in
from strive.cells.records import PREDICTIONS, Record, Result, Status, divergence

_LAST = ("train_loss", "train_error", "val_loss", "val_error")  # that a result copies from its last epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Result of comparing a record with the other files in its folder."""

    contradictions: tuple[str, ...]  # a sentence each, with both values
    not_checked: tuple[str, ...]  # test_error, epochs: parts of the record without a file to compare with
    chance_error: float | None  # share in [0, 1], if every test image were assigned to the largest class
    labels_sha256: str  # of the test images, in order; "" without predictions

    @property
    def why(self) -> str:
        """Return the contradictions as one line."""
        return "; ".join(self.contradictions)


def check_record(record: Record, folder: Path, *, most_bytes: float = math.inf) -> Evidence:
    """Compare a record's result with predictions.npz and epochs.jsonl in its folder.

    most_bytes: a larger predictions file is skipped, as if it did not exist.
    """
    result, chance, labels_sha256 = record.result, record.provenance.chance_error, ""
    if result is None:
        return Evidence(contradictions=(), not_checked=(), chance_error=chance, labels_sha256="")
    found, not_checked = list(_against_budget(record, result)), []
    try:
        found += _against_epochs(result, (folder / EPOCHS).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        not_checked.append("epochs")
    except (OSError, ValueError) as error:
        found.append(f"{EPOCHS} beside it cannot be read ({_first_line(error)})")
    if 0 <= _size(folder / PREDICTIONS) <= most_bytes:
        # NumPy takes a while to import, and most sweeps that are only listed have no predictions to read.
        from strive.cells.predictions import Predicted

        predicted = Predicted.of(result, folder)
        found += predicted.contradictions
        counted, labels_sha256 = predicted.chance_error, predicted.labels_sha256
        if None not in (chance, counted) and chance != counted:
            found.append(f"record.json says chance_error {chance}, {PREDICTIONS} beside it gives {counted}")
        chance = counted if chance is None else chance
    else:
        not_checked.append("test_error")
    return Evidence(
        contradictions=tuple(found),
        not_checked=tuple(sorted(not_checked)),
        chance_error=chance,
        labels_sha256=labels_sha256,
    )


def is_dead(test_error: float | None, chance_error: float | None) -> bool:
    """Return whether a net never left chance: it errs at least as often as if it always named the largest class."""
    return test_error is not None and chance_error is not None and test_error >= chance_error - 1e-12


def dead_text(chance_error: float) -> str:
    """Return a remark on the test error of a net that never left chance."""
    return f"not below the {chance_error:.2%} of always naming the largest class"


def remark(record: Record) -> str:
    """Return in one line why a cell diverged or why its net counts as dead; "" for any other cell."""
    error, chance = record.result.test_error if record.result else None, record.provenance.chance_error
    if record.status is Status.done and error is not None and chance is not None and is_dead(error, chance):
        return f"dead, {dead_text(chance)}"
    return divergence(record)


def _against_budget(record: Record, result: Result) -> Iterator[str]:
    planned = record.config["budget.epochs"]
    fits = result.epochs == planned if record.status is Status.done else 0 < result.epochs <= planned
    if not fits:
        yield f"record.json says {record.status.value} after {result.epochs} epochs, its config budget.epochs={planned}"


def _against_epochs(result: Result, content: bytes) -> Iterator[str]:
    """Yield contradictions in the last line of a learning curve; raise ValueError if that line is damaged."""
    lines = content.splitlines()
    if not lines:
        raise ValueError("it is empty")
    last = epoch_in(lines[-1])
    if last is None:
        raise ValueError("its last line is no epoch")
    if (last.epoch, len(lines)) != (result.epochs, result.epochs):
        yield (
            f"record.json says {result.epochs} epochs, {EPOCHS} beside it has {len(lines)} lines and ends with epoch"
            f" {last.epoch}"
        )
        return
    for name in _LAST:
        said, wrote = getattr(result, name), getattr(last, name)
        if said != wrote:
            yield f"record.json says {name} {_text(said)}, {EPOCHS} beside it {_text(wrote)}"


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _size(path: Path) -> int:
    """Return the size of a file in bytes; -1 if there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError:
        return 0  # reading the file will report the reason


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
