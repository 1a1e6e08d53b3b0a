"""Shapiro and Wilk's test, against scipy.stats."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from strive.statistics.normality import shapiro

SHAPES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "normal": lambda random, n: random.standard_normal(n),
    "skew": lambda random, n: random.standard_exponential(n),
    "heavy tails": lambda random, n: random.standard_t(2, n),
    "two values": lambda random, n: np.arange(n) % 2 + 1e-3 * random.standard_normal(n),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [4, 5, 6, 7, 11, 12, 24, 150, 1008, 5000])
def test_the_p_value_agrees_with_scipy_stats(n: int, shape: str) -> None:
    values = 90 + SHAPES[shape](np.random.default_rng(n), n)
    # scipy's quantiles of the normal distribution have single precision.
    assert shapiro(values) == pytest.approx(stats.shapiro(values).pvalue, rel=1e-5, abs=1e-30)


def test_ten_values_that_could_hardly_be_less_normal_are_refused() -> None:
    assert shapiro(np.array([0.0] * 9 + [1.0])) < 1e-6
