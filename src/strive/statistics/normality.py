"""Shapiro and Wilk's test by scipy.special alone: importing scipy.stats takes most of a second."""

import math

import numpy as np
import numpy.typing as npt
from numpy.polynomial.polynomial import polyval
from scipy import special  # type: ignore[import-untyped]

# Royston (1995), algorithm AS R94, Applied Statistics 44:547. Coefficients from the constant upward.
_LARGEST = (0.0, 0.221157, -0.147981, -2.071190, 4.434685, -2.706056)  # of the weights, in 1 / sqrt(n)
_SECOND = (0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633)
_FEW = 11  # values, up to which the second of two approximations of the distribution holds
_FEW_BOUND = (-2.273, 0.459)  # of ln(1 - W), in n
_FEW_MEAN, _FEW_SD = (0.5440, -0.39978, 0.025054, -6.714e-4), (1.3822, -0.77857, 0.062767, -0.0020322)
_MANY_MEAN, _MANY_SD = (-1.5861, -0.31082, -0.083751, 0.0038915), (-0.4803, -0.082676, 0.0030302)  # in ln(n)


def shapiro(values: npt.NDArray[np.float64]) -> float:
    """Return the p-value that values [n], n from 4 to 5000, not all equal, are of a normal distribution."""
    n = len(values)
    weights = _weights(n)
    apart = np.sort(values) - values.mean()
    unlike = max(1 - float(weights @ apart) ** 2 / float(apart @ apart), 1e-300)  # 1 - W
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    if n > _FEW:
        x, mean, sd, height = math.log(n), _MANY_MEAN, _MANY_SD, math.log(unlike)
    else:
        left = polyval(n, _FEW_BOUND) - math.log(unlike)
        if left <= 0:
            return 0.0
        x, mean, sd, height = float(n), _FEW_MEAN, _FEW_SD, -math.log(left)
    return float(special.ndtr((polyval(x, mean) - height) / math.exp(polyval(x, sd))))


def _weights(n: int) -> npt.NDArray[np.float64]:
    """Return the weights [n] of the sorted values; their squares add up to 1."""
    expected = special.ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    unit = expected / math.sqrt(expected @ expected)
    ends = [unit[-1 - place] + polyval(1 / math.sqrt(n), form) for place, form in enumerate((_LARGEST, _SECOND))]
    ends = ends[: 2 if n > 5 else 1]
    middle = expected[len(ends) : n - len(ends)]
    weights = np.empty(n)
    weights[len(ends) : n - len(ends)] = middle * math.sqrt((1 - 2 * sum(end**2 for end in ends)) / (middle @ middle))
    for place, end in enumerate(ends):
        weights[place], weights[-1 - place] = -end, end
    return weights
