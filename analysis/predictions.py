"""Which test images a cell has classified, from its predictions.npz."""

import hashlib
from pathlib import Path

import numpy as np

FILE = "predictions.npz"


class PredictionsError(ValueError):
    """A cell's predictions are missing or damaged, or are not of the same images."""


def correct(folder: Path, sha256: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels int64 [n] and whether each image was classified, bool [n]; n test images.

    The class is that of the largest logit, the first of equal ones, as in the cell's own scoring.
    sha256: of the logits, as the cell's record has it.
    Raises PredictionsError where the file is missing, damaged or another cell's, and for logits that are not finite.
    """
    path = folder / FILE
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
    if not np.isfinite(logits).all():
        raise PredictionsError(f"{_named(path)}: logits are not finite, so that no class is the largest")
    if hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest() != sha256:
        raise PredictionsError(f"{_named(path)} does not hold the predictions that the record beside it speaks of")
    return labels, logits.argmax(axis=1) == labels


def _named(path: Path) -> str:
    """Return the file as tables name it: the same from whatever folder they are made."""
    return f"{path.parent.name}/{path.name}"


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        # Opened here, as NumPy leaves a file open that it finds damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["labels"], arrays["logits"]
    except FileNotFoundError:
        raise PredictionsError(
            f"{_named(path)} is missing: copy it from where the cell was trained, or train the cell again:"
            f" python src/reproduce.py {path.parent.name}"
        ) from None
    except Exception as error:  # whatever zip, zlib and NumPy raise on bytes that are not what they expect
        raise PredictionsError(f"{_named(path)} cannot be read: {type(error).__name__}: {error}") from error
