"""Boundaries of a one-sided t-test that is looked at several times, and p-values that hold over all of its looks.

At look k there are the first n_k of n_K differences, t_k with n_k - 1 degrees of freedom and its plain p-value p_k. All
looks together are one statistic (Wang and Tsiatis 1987, Biometrics 43:193, on the scale of p-values, so that it is
exact for Student's t as well):

    M = max over k of w_k z_k,    z_k = Phi^-1(1 - p_k),    w_k = (n_k / n_K)^(1/2 - shape)

Its tail under the hypothesis, G(c) = P(M >= c), depends on the looks and the shape alone. G(M) is the repeated p-value
(Jennison and Turnbull 2000, Group Sequential Methods, chapter 9), and C with G(C) = alpha is the critical value: look k
rejects if z_k >= C / w_k. Shape 0 is a test of O'Brien and Fleming's type, which hardly rejects at early looks; shape
0.5 is of Pocock's type, with the same level at every look.

G is computed once for a design and process, in less than a second for up to five looks, so no table of it is shipped
that could be of another design than the one in use.
"""

import itertools
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped]

Numbers = npt.NDArray[np.float64]

_LOW, _HIGH, _NODES = -2.0, 8.0, 41  # of c; G is above 0.97 below them, and under 1e-14 above
_STRATA, _ROWS, _BLOCKS = 2048, 16, 16  # 2^19 paths, in blocks that fit into a processor's cache
_SEED = 20061


def weights(looks: tuple[int, ...], shape: float) -> Numbers:
    """Return w_k = (n_k / n_K)^(1/2 - shape) of each look."""
    return (np.array(looks, dtype=float) / looks[-1]) ** (0.5 - shape)


def repeated_p(statistic: npt.ArrayLike, looks: tuple[int, ...], shape: float) -> Numbers:
    """Return G(M), the one-sided p-value that holds over all looks, for each M of an array.

    looks: the differences at each look, ascending, each at least 2. Looks that are still to come count, too: M may be
    the largest w_k z_k so far, or of only some of the looks, and the p-value is then at most too large. -inf gives 1.
    Its standard error is below 0.1% of it, however small it is (see `_ratio`).
    """
    c = np.asarray(statistic, dtype=float)
    ratio = _ratio(looks, shape)(np.clip(c, _LOW, _HIGH))
    found: Numbers = np.minimum(1.0, nominal_levels(c, looks, shape).sum(axis=-1) * ratio)
    return found


@cache
def critical_value(level: float, looks: tuple[int, ...], shape: float) -> float:
    """Return C: a one-sided test that rejects at the first look with w_k z_k >= C has this level over all looks.

    Raises ValueError for a level outside [1e-12, 0.5].
    """
    if not 1e-12 <= level <= 0.5:
        raise ValueError(f"the level of a test must be in [1e-12, 0.5], got {level}")
    from scipy.optimize import brentq  # type: ignore[import-untyped]  # imported here because it takes 0.1 s

    return float(brentq(lambda c: math.log(float(repeated_p(c, looks, shape)) / level), _LOW, _HIGH, xtol=1e-10))


def nominal_levels(c: npt.ArrayLike, looks: tuple[int, ...], shape: float) -> Numbers:
    """Return the level of the plain test at each look, 1 - Phi(c / w_k): one more axis, [..., K]."""
    found: Numbers = special.ndtr(-np.asarray(c, dtype=float)[..., None] / weights(looks, shape))
    return found


@cache
def _ratio(looks: tuple[int, ...], shape: float) -> Callable[[Numbers], Numbers]:
    """Return G(c) over the sum of the nominal levels, a smooth function of c between 1 / K and 1.

    Let l_k be the nominal levels. Every path that crosses does so for the last time at one look, so

        G(c) = sum of l_k P(no crossing after look k | t_k is beyond its boundary)

    The l_k are known. The other factor is a mean over paths that begin beyond the boundary of look k (importance
    sampling, in equal strata of the level), so that a level of 1e-6 takes no more of them than one of 0.025, where
    plain paths would have to be 7e8; at the last look it is 1. The paths use the same random numbers at each c, so that
    the ratio is smooth, and a spline through the nodes is enough.
    """
    nodes = np.linspace(_LOW, _HIGH, _NODES)
    levels = nominal_levels(nodes, looks, shape)
    bounds = _correlation(levels, np.array(looks, dtype=float))
    strata = (np.arange(_STRATA) + 0.5) / _STRATA
    begins = [_correlation(levels[:, k, None] * strata, float(n)) for k, n in enumerate(looks[:-1])]
    stays = np.zeros((_NODES, len(looks)))
    stays[:, -1] = _BLOCKS
    random = np.random.Generator(np.random.PCG64(_SEED))
    for _ in range(_BLOCKS if len(looks) > 1 else 0):
        steps = [_step(random, before, after) for before, after in itertools.pairwise(looks)]
        for k, begin in enumerate(begins):
            for node in range(_NODES):
                stays[node, k] += _stays(begin[node], steps[k:], bounds[node, k + 1 :])
    from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]  # imported here as it takes 0.1 s

    spline: Callable[[Numbers], Numbers] = CubicSpline(nodes, (levels * stays).sum(1) / _BLOCKS / levels.sum(1))
    return spline


def _stays(begin: Numbers, steps: list[tuple[Numbers, Numbers]], bounds: Numbers) -> float:
    """Return the share of paths that cross none of the bounds."""
    correlation, below = np.tile(begin, (_ROWS, 1)), np.ones((_ROWS, _STRATA), dtype=bool)
    for (factor, term), bound in zip(steps, bounds, strict=True):
        correlation *= factor
        correlation += term
        below &= correlation < bound
    return np.count_nonzero(below) / below.size


def _step(random: np.random.Generator, before: int, after: int) -> tuple[Numbers, Numbers]:
    """Return (factor, term) [rows, strata] that take r of the first `before` differences to r of the first `after`.

    r = t / sqrt(n - 1 + t^2) is the cosine between the n differences and a constant. It and all r before it follow from
    the direction of the differences, which is independent of their length if they are normal with mean 0. So the next r
    needs nothing but this one and fresh numbers: the squared length so far (chi^2 with n degrees of freedom, for an sd
    of 1), the sum of the new differences, and what is left of their squares.
    """
    new, size = after - before, (_ROWS, _STRATA)
    length = random.chisquare(before, size)
    total = random.standard_normal(size)
    rest = random.chisquare(new - 1, size) if new > 1 else np.zeros(size)
    scale = np.sqrt(after * (length + total**2 + rest))
    return np.sqrt(before * length) / scale, math.sqrt(new) * total / scale


def _correlation(levels: Numbers, n: Numbers | float) -> Numbers:
    """Return r of the t with n - 1 degrees of freedom that is exceeded with this probability."""
    # P(T >= t) is half the regularised incomplete beta function of 1 - r^2, which keeps its digits for tiny levels.
    beyond = special.betaincinv((n - 1) / 2, 0.5, 2 * np.minimum(levels, 1 - levels))
    found: Numbers = np.where(levels > 0.5, -1.0, 1.0) * np.sqrt(1 - beyond)
    return found
