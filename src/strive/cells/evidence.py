"""What lies beside a record, compared with what it says: predictions and learning curve. Imports no torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strive.cells.history import EPOCHS, epoch_in
from strive.cells.records import PREDICTIONS, Record, Result, Status, divergence

_LAST = ("train_loss", "train_error", "val_loss", "val_error")  # that a result takes from its last epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the files beside a record say of it."""

    contradictions: tuple[str, ...]  # a sentence each, which names both sides
    not_checked: tuple[str, ...]  # test_error, epochs: what nothing beside the record could be compared with
    chance_error: float | None  # share in [0, 1]: of always naming the largest class of the test images
    labels_sha256: str  # of the test images, in their order; "" without predictions

    @property
    def why(self) -> str:
        """The contradictions as one line."""
        return "; ".join(self.contradictions)


def check_record(record: Record, folder: Path, *, most_bytes: float = math.inf) -> Evidence:
    """Return what predictions.npz and epochs.jsonl in the record's folder say of its result.

    most_bytes: predictions in a larger file are left unread, as if they were not there.
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
        # NumPy takes a while to import, and most looks at a sweep have no predictions to read.
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
    """Return whether a net never left chance: it errs at least as often as always naming the largest class would."""
    return test_error is not None and chance_error is not None and test_error >= chance_error - 1e-12


def dead_text(chance_error: float) -> str:
    """Return what the test error of a dead net is."""
    return f"not below the {chance_error:.2%} of always naming the largest class"


def remark(record: Record) -> str:
    """Return why a cell diverged, or why its net counts as dead, in one line; "" for any other."""
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
    """Yield where the last line of a learning curve says something else; raise ValueError for one that says nothing."""
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
    """Return the bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError:
        return 0  # reading it says why


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
