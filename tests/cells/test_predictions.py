import math

import numpy as np
import pytest

from strive.cells.predictions import calibration_error, worst_class_error


def logits_of(sure: list[float], named: list[int]) -> np.ndarray:
    """Return logits of two classes: class named[i] with softmax sure[i]."""
    found = np.zeros((len(sure), 2), dtype=np.float32)
    for row, (share, label) in enumerate(zip(sure, named, strict=True)):
        found[row, label] = math.log(share / (1 - share))
    return found


def test_the_calibration_error_of_two_bins_by_hand():
    # Of four images between 0.6 and 0.667 three are right; of two between 0.867 and 0.933 one is.
    logits = logits_of([0.61, 0.62, 0.63, 0.64, 0.9, 0.9], [0, 0, 1, 1, 0, 1])
    labels = np.array([0, 0, 1, 0, 0, 0])
    expected = (4 * abs(3 / 4 - 0.625) + 2 * abs(1 / 2 - 0.9)) / 6
    assert calibration_error(labels, logits) == pytest.approx(expected, abs=1e-6)


def test_one_who_is_always_sure_and_right_is_calibrated():
    assert calibration_error(np.array([0, 1]), logits_of([1 - 1e-12] * 2, [0, 1])) == pytest.approx(0, abs=1e-6)


def test_logits_that_are_not_finite_have_no_calibration():
    assert math.isnan(calibration_error(np.array([0]), np.array([[math.nan, 0]])))


def test_the_worst_class_is_looked_for_among_those_that_there_are():
    logits = np.eye(5)[[0, 0, 3, 1, 1]]
    # Class 0: one of three wrong; class 1: one of two; classes 2 to 4 have no image.
    assert worst_class_error(np.array([0, 0, 0, 1, 1]), logits) == pytest.approx(1 / 3)
    assert worst_class_error(np.array([0, 0, 0, 1, 2]), logits) == 1
