"""Effects of components that are there or not: contrasts of a two-level factorial or of a fraction of it."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from strive.errors import EffectsError
from strive.statistics.factorial import Assumptions, assumptions_of
from strive.statistics.inference import LEVEL, Interval, holm, t_interval, two_sided

K = TypeVar("K", bound=Hashable)
Numbers = npt.NDArray[np.float64]
_ROUNDING = 1e-10  # a spread below this share of the largest value is no spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """The mean of the runs on one side minus the mean of those on the other, in the unit of the values."""

    estimate: float
    simultaneous: Interval  # 95%, for all contrasts at once (Bonferroni)
    alone: Interval  # its own 95% interval
    p: float | None  # one spread in all runs, Holm-corrected over all contrasts
    p_alone: float | None  # of this contrast alone, by the error of its intervals; not corrected
    p_unequal: float | None  # without that assumption, corrected likewise; None if its own error has no spread
    error: tuple[float, float] | None  # standard error and its degrees of freedom, of the intervals and of p_alone

    def simultaneous_among(self, number: int) -> Interval:
        """Return the interval that holds for so many comparisons at once (Bonferroni), this one among them."""
        return _interval(self.estimate, self.error, 1 - (1 - LEVEL) / max(1, number))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrasts:
    """All contrasts of a design."""

    contrasts: tuple[Contrast, ...]
    seeds: int  # values of each run
    df: int  # of the residual; 0 for one seed, which leaves nothing to test with
    residual_sd: float | None
    blocked: bool  # every run has the same seeds, whose shared effect is removed
    pooled: bool  # whether the intervals are of the residual of all runs, or each of its contrast's own spread
    assumptions: Assumptions | None  # None for one seed


def two_level_effects(runs: Sequence[Mapping[K, float]], signs: Sequence[Sequence[int]]) -> Contrasts:
    """Return the contrasts of a two-level design with R runs and n values of each.

    runs: {seed: value} of each run. signs: of each contrast, 1 or -1 for each run; equally many of both.

    An effect is the mean where its sign is 1 minus the mean where it is -1 (Box, Hunter and Hunter, Statistics for
    Experimenters, chapters 5 and 6; Montgomery, Design and Analysis of Experiments, chapters 6 and 8). Its standard
    error is 2 s / sqrt(R n), with s the residual of all runs. If all runs have the same seeds, the seed is a block, and
    s has (R - 1)(n - 1) degrees of freedom, else R (n - 1). In a full factorial these are the F tests of its analysis
    of variance.

    If the runs contradict one spread (Bartlett, 5%), intervals do without it, as `p_unequal` always does: with the seed
    as a block by the spread of the contrast over seeds (a paired t-test, n - 1 degrees of freedom), else by the sum of
    the runs' variances with Satterthwaite's degrees of freedom, as Welch's test.

    Raises EffectsError for runs with other numbers of values, for a missing value, and for runs without any spread.
    """
    sizes = {len(run) for run in runs}
    if len(sizes) != 1:
        raise EffectsError(f"unbalanced: runs have {min(sizes)} to {max(sizes)} values; effects need equally many")
    (seeds,) = sizes
    blocked = seeds > 1 and all(run.keys() == runs[0].keys() for run in runs)
    table = np.array([[run[key] for key in (runs[0] if blocked else run)] for run in runs], dtype=float)
    if not np.isfinite(table).all():
        raise EffectsError("a value is missing; effects need them all")
    matrix = np.array(signs, dtype=float)  # [contrasts, runs]
    estimates = 2 / len(runs) * (matrix @ table.mean(axis=1))
    if seeds == 1:
        return _estimates_alone(estimates)
    residuals = table - table.mean(axis=1, keepdims=True)
    if blocked:
        residuals = residuals - residuals.mean(axis=0)
    df = (len(runs) - 1 if blocked else len(runs)) * (seeds - 1)
    sd = math.sqrt(float((residuals**2).sum()) / df)
    if sd <= _ROUNDING * float(np.abs(table).max()):
        raise EffectsError("the seeds leave no spread to compare effects with")
    assumptions = assumptions_of(table, blocked=blocked)
    pooled = [(2 * sd / math.sqrt(table.size), float(df))] * len(matrix)
    unequal = [_own_error(table, row, blocked) for row in matrix]
    ps, ps_unequal = (holm([_p(*each) for each in zip(estimates, errors, strict=True)]) for errors in (pooled, unequal))
    errors = pooled if assumptions.equal_spread else unequal
    tested = sum(error is not None for error in errors)
    return Contrasts(
        contrasts=tuple(
            Contrast(
                estimate=float(estimate),
                simultaneous=_interval(estimate, error, 1 - (1 - LEVEL) / max(1, tested)),
                alone=_interval(estimate, error, LEVEL),
                p=p,
                p_alone=_p(estimate, error),
                p_unequal=p_unequal,
                error=error,
            )
            for estimate, error, p, p_unequal in zip(estimates, errors, ps, ps_unequal, strict=True)
        ),
        seeds=seeds,
        df=df,
        residual_sd=sd,
        blocked=blocked,
        pooled=assumptions.equal_spread,
        assumptions=assumptions,
    )


def _estimates_alone(estimates: Numbers) -> Contrasts:
    found = (
        Contrast(
            estimate=float(each),
            simultaneous=(None, None),
            alone=(None, None),
            p=None,
            p_alone=None,
            p_unequal=None,
            error=None,
        )
        for each in estimates
    )
    return Contrasts(
        contrasts=tuple(found), seeds=1, df=0, residual_sd=None, blocked=False, pooled=True, assumptions=None
    )


def _own_error(table: Numbers, signs: Numbers, blocked: bool) -> tuple[float, float] | None:
    """Return (standard error, degrees of freedom) of a contrast for runs of any spreads; None if it has no spread."""
    runs, seeds = table.shape
    if blocked:
        own = 2 / runs * (signs @ table)
        error, df = math.sqrt(own.var(ddof=1) / seeds), float(seeds - 1)
    else:
        variances = table.var(axis=1, ddof=1)
        error = 2 / runs * math.sqrt(variances.sum() / seeds)
        square = (variances**2).sum()
        df = float(variances.sum() ** 2 / square * (seeds - 1)) if square else 0.0
    return (error, df) if error > _ROUNDING * float(np.abs(table).max()) else None


def _p(estimate: float, error: tuple[float, float] | None) -> float | None:
    return two_sided(error[1], estimate / error[0]) if error is not None else None


def _interval(estimate: float, error: tuple[float, float] | None, level: float) -> Interval:
    return t_interval(error[1], float(estimate), error[0], level) if error is not None else (None, None)
