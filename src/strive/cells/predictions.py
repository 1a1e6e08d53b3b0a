"""A cell's predictions.npz: labels of the test images and the net's logits. Imports no torch.

Shapes: n test images.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from strive.cells.metrics import recorded_text
from strive.cells.records import PREDICTIONS, Record
from strive.errors import PredictionsError

# Metrics that predictions.npz gives, as columns of tables: no record need have them.
DERIVED = ("test_calibration_error", "test_worst_class_error")
_ROWS = 10_000  # test images per block in which the loss is computed in float64
_CLOSE = 1e-6  # relative tolerance: torch and NumPy sum in different orders


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """Result of comparing a cell's predictions with its metrics."""

    contradictions: tuple[str, ...]  # a sentence each, with both values
    chance_error: float | None = None  # share in [0, 1] of always naming the largest class; None if unreadable
    derived: Mapping[str, float] = field(default_factory=dict)  # {metric: value} that the record need not have
    labels_sha256: str = ""  # "" if unreadable
    num_labels: int = 0

    @classmethod
    def of(cls, record: Record, folder: Path) -> Self:
        """Compare a record's test_error and test_loss with the predictions.npz in its folder, which must exist."""
        try:
            labels, logits = read_predictions(folder, record.outputs["predictions"])
        except (FileNotFoundError, PredictionsError) as error:
            return cls(contradictions=(str(error),))
        return cls(
            contradictions=tuple(_contradictions(record.metrics, labels, logits)),
            chance_error=largest_class_error(labels),
            derived=dict(
                zip(DERIVED, (calibration_error(labels, logits), worst_class_error(labels, logits)), strict=True)
            ),
            labels_sha256=hashlib.sha256(labels.tobytes()).hexdigest(),
            num_labels=len(labels),
        )


def read_predictions(folder: Path, sha256: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating[Any]]]:
    """Return labels int64 [n] and logits float [n, classes] from a cell's predictions.npz.

    sha256: of the logits, from the cell's record.
    Raises FileNotFoundError, and PredictionsError if the file is damaged or belongs to another cell.
    """
    path = folder / PREDICTIONS
    labels, logits = _arrays(path)
    if labels.ndim != 1 or not labels.size or labels.dtype != np.int64:
        raise PredictionsError(
            f"{_named(path)}: labels must be int64 [n], n above 0, got {labels.dtype} {list(labels.shape)}"
        )
    if logits.ndim != 2 or not np.issubdtype(logits.dtype, np.floating) or len(logits) != len(labels):
        got = f"{logits.dtype} {list(logits.shape)}"
        raise PredictionsError(f"{_named(path)}: logits must be float [n, classes], n = {len(labels)}, got {got}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        got = f"{labels.min()} to {labels.max()}"
        raise PredictionsError(
            f"{_named(path)}: labels must be 0 to {logits.shape[1] - 1}, one of the classes, got {got}"
        )
    if hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest() != sha256:
        raise PredictionsError(f"{_named(path)} does not hold the predictions that the record beside it speaks of")
    return labels, logits


def largest_class_error(labels: npt.NDArray[np.int64]) -> float:
    """Return the share in [0, 1] of labels [n] outside the most frequent class."""
    return 1 - int(np.bincount(labels).max()) / len(labels)


def worst_class_error(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating[Any]]) -> float:
    """Return the error in [0, 1] of the class with the largest one, among those that labels [n] have."""
    images = np.bincount(labels)
    wrong = np.bincount(labels, weights=logits.argmax(axis=1) != labels)
    return float((wrong[images > 0] / images[images > 0]).max())


def calibration_error(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating[Any]], bins: int = 15) -> float:
    """Return the expected calibration error in [0, 1]; NaN for logits that are not finite.

    Guo et al. 2017, 'On Calibration of Modern Neural Networks', equation 3: images in bins of equal width by the
    largest softmax, |share that is right - mean of that softmax| in each, averaged by the number of images.
    """
    with np.errstate(all="ignore"):
        sure = 1 / np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True)).sum(axis=1)
    if not np.isfinite(sure).all():
        return math.nan
    # Intervals are open below and closed above, as there.
    places = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    right = np.bincount(places, weights=logits.argmax(axis=1) == labels, minlength=bins)
    return float(np.abs(right - np.bincount(places, weights=sure, minlength=bins)).sum()) / len(labels)


def _contradictions(
    metrics: Mapping[str, float | None], labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating[Any]]
) -> Iterator[str]:
    """Yield the differences of metrics from the numbers that labels int64 [n] and logits float [n, classes] give."""
    # Same rule as in scoring: the first of equal logits wins, and NaN counts as the largest.
    error = int((logits.argmax(axis=1) != labels).sum()) / len(labels)
    loss = _loss(labels, logits)
    for name, value, tolerance in (("test_error", error, 1e-9), ("test_loss", loss, _CLOSE)):
        if name in metrics and not _agree(metrics[name], value, tolerance):
            said, given = recorded_text(metrics[name]), recorded_text(value)
            yield f"record.json says {name} {said}, {PREDICTIONS} beside it gives {given}"


def _agree(said: float | None, given: float | None, tolerance: float) -> bool:
    if said is None or given is None:
        return said is given
    return math.isclose(said, given, rel_tol=tolerance, abs_tol=tolerance)


def _loss(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating[Any]]) -> float | None:
    """Return the mean cross-entropy in nats; None if it is not finite."""
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(labels), _ROWS):
            part = logits[start : start + _ROWS].astype(np.float64)
            part -= part.max(axis=1, keepdims=True)
            own = np.take_along_axis(part, labels[start : start + _ROWS, None], axis=1)[:, 0]
            total += float((np.log(np.exp(part).sum(axis=1)) - own).sum())
    return total / len(labels) if math.isfinite(total) else None


def _named(path: Path) -> str:
    """Return the file's name for tables, which does not depend on the current folder."""
    return f"{path.parent.name}/{path.name}"


def _arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        # Opened here because NumPy does not close a file that it finds damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["labels"], arrays["logits"]
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except Exception as error:  # zip, zlib and NumPy raise many types of errors on damaged bytes
        raise PredictionsError(f"{_named(path)} cannot be read: {type(error).__name__}: {error}") from error
