"""Correctly classified test images of a cell, from its predictions.npz."""

from pathlib import Path

import numpy as np

from strive.cells.predictions import read_predictions
from strive.cells.records import PREDICTIONS
from strive.errors import PredictionsError

__all__ = ["PredictionsError", "correct"]


def correct(folder: Path, sha256: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels int64 [n] and whether each image was classified, bool [n]; n test images.

    The class is that of the largest logit, the first of equal ones, as in the cell's own scoring.
    sha256: of the logits, as the cell's record has it.
    Raises PredictionsError where the file is missing, damaged or another cell's, and for logits that are not finite.
    """
    try:
        labels, logits = read_predictions(folder, sha256)
    except FileNotFoundError:
        raise PredictionsError(
            f"{folder.name}/{PREDICTIONS} is missing: copy it from where the cell was trained, or train the cell again:"
            f" python src/reproduce.py {folder.name}"
        ) from None
    if not np.isfinite(logits).all():
        raise PredictionsError(f"{folder.name}/{PREDICTIONS}: logits are not finite, so that no class is the largest")
    return labels, logits.argmax(axis=1) == labels
