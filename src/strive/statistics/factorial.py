"""Main effects and interactions of a factorial sweep: which factors matter, and how much."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special  # type: ignore[import-untyped]

from strive.errors import EffectsError
from strive.format import counted
from strive.statistics.inference import LEVEL

MOST_COMBINATIONS = 500  # readers cannot use more
_MOST_RESIDUALS = 5000  # Shapiro and Wilk's p-value is not accurate above

Numbers = npt.NDArray[np.float64]


class UnequalTest(NamedTuple):
    """The F test of an effect that does without equal spread."""

    f: float
    df: float  # of the effect
    error_df: float
    p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """One line of the analysis of variance."""

    source: tuple[str, ...]  # factors: one for a main effect, two for an interaction, ...
    df: int
    f: float
    p: float  # of this effect alone, not corrected for the other lines
    share: float  # partial eta squared: SS / (SS + residual SS), in [0, 1]
    unequal: UnequalTest | None  # None if its own error has no spread

    @property
    def p_unequal(self) -> float | None:
        """Return p without the assumption of equal spread; None if there is no such test."""
        return self.unequal.p if self.unequal is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """The marginal mean of a level over all its cells, with equal weights for the other factors' levels."""

    factor: str
    value: Any
    mean: float
    low: float  # end of its 95% interval
    high: float
    n: int  # cells with that value


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """An analysis of variance, in the unit of its values."""

    effects: tuple[Effect, ...]  # main effects in the order of the factors, then interactions of two, of three, ...
    levels: tuple[Level, ...]  # factor by factor, in order of appearance
    residual_df: int
    residual_sd: float
    blocked: bool  # every combination has the same seeds, whose shared effect is removed
    assumptions: "Assumptions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    """What the cells say of the two assumptions of an analysis of variance."""

    variance_ratio: float  # largest to smallest variance over seeds of the combinations; inf if one has none
    p_equal: float  # Bartlett's test that all combinations have one variance
    p_normal: float | None  # Shapiro and Wilk's test that the residuals are normal; None for too many of them

    @property
    def equal_spread(self) -> bool:
        """Return whether equal spread is not rejected at 5%."""
        return self.p_equal > 1 - LEVEL

    @property
    def normal(self) -> bool:
        """Return whether normal residuals are not rejected at 5%."""
        return self.p_normal is None or self.p_normal > 1 - LEVEL


@dataclass(frozen=True, kw_only=True, slots=True)
class _Design:
    """A complete and balanced factorial of N = combinations x cells of each."""

    factors: tuple[str, ...]
    levels: tuple[list[Any], ...]  # of each factor
    codes: list[list[int]]  # [factors][N]: the index of each cell's level
    blocks: list[int]  # [N]
    values: list[float]  # [N]
    seeds: int  # cells of each combination
    blocked: bool

    @property
    def table(self) -> Numbers:
        """Return the values with an axis for each factor and a last one for the cells of a combination."""
        order = np.lexsort((self.blocks, *reversed(self.codes)))
        shape = (*map(len, self.levels), self.seeds)
        return np.array(self.values)[order].reshape(shape)

    def said(self, combination: Sequence[int]) -> str:
        named = zip(self.factors, self.levels, combination, strict=True)
        return ", ".join(f"{factor}={values[code]}" for factor, values, code in named)


class _AnovaLine(NamedTuple):
    df: int
    square: float  # sum of squares

    @property
    def mean_square(self) -> float:
        return self.square / self.df


def factorial_effects(frame: pd.DataFrame, value: str, factors: Sequence[str], block: str = "seed") -> Effects:
    """Return the fixed-effects analysis of variance of a complete, balanced factorial, with all interactions.

    frame: one row for each cell. The sums of squares are Montgomery's, Design and Analysis of Experiments, chapter 5;
    in a balanced design those of types I, II and III are equal.
    If every combination has the same seeds, the seed is a block (section 5.6): an effect of the seed on all nets alike
    is neither an effect nor noise, as in a paired test. The residual is then how the effects differ between seeds,
    with (seeds - 1)(combinations - 1) degrees of freedom. Otherwise it is the spread within combinations, with
    combinations x (cells of each - 1). It is assumed to be normal, with the same variance everywhere: `assumptions`
    tests that, and `p_unequal` of an effect does without equal variances (see `_unequal`).

    The interval of a level's mean is about further seeds, so a block counts as drawn at random; see `_half`. To
    compare levels use the F test: the intervals include the variation that seeds share, the test does not.

    Raises EffectsError for fewer than two factors, a factor of one level, a missing value, a combination that is
    missing or has another number of cells, one cell for each combination, two cells of one seed in a combination,
    more than MOST_COMBINATIONS, and if there is no spread to compare with.
    """
    design = _design(frame, value, tuple(factors), block)
    blocks, residual = _blocks(design), _residual(design)
    # Otherwise F would be the ratio of two rounding errors.
    if math.sqrt(residual.mean_square) <= 1e-10 * max(map(abs, design.values)):
        raise EffectsError(f"{value} leaves no spread over {block} to compare effects with")
    indices = range(len(factors))
    sources = [source for order in indices for source in combinations(indices, order + 1)]
    return Effects(
        effects=tuple(_effect(design, source, residual) for source in sources),
        levels=_levels(design, residual, blocks),
        residual_df=residual.df,
        residual_sd=math.sqrt(residual.mean_square),
        blocked=design.blocked,
        assumptions=assumptions_of(design.table.reshape(-1, design.seeds), blocked=design.blocked),
    )


def _design(frame: pd.DataFrame, value: str, factors: tuple[str, ...], block: str) -> _Design:
    if len(factors) < 2:
        raise EffectsError(f"effects need at least two factors, got {', '.join(factors) or 'none'}")
    if frame.empty:
        raise EffectsError("effects need cells, got none")
    codes, levels = [], []
    for factor in factors:
        code, found = pd.factorize(frame[factor], use_na_sentinel=False)
        codes.append(code.tolist())
        levels.append([None if pd.isna(each) else each for each in found.tolist()])  # pandas converts null to NaN
        if len(found) == 1:
            raise EffectsError(f"{factor} does not vary: it is {levels[-1][0]} in every cell")
    values = pd.to_numeric(frame[value], errors="coerce").astype(float).tolist()
    if holes := sum(not math.isfinite(each) for each in values):
        raise EffectsError(f"{holes} of {len(values)} cells have no {value}; effects need them all")
    combinations = list(zip(*codes, strict=True))
    blocks = pd.factorize(frame[block], use_na_sentinel=False)[0].tolist()
    design = _Design(
        factors=factors,
        levels=tuple(levels),
        codes=codes,
        blocks=blocks,
        values=values,
        seeds=combinations.count(combinations[0]),
        # The check below ensures that each combination has this many cells of different seeds, and so has each seed.
        blocked=len(set(blocks)) == combinations.count(combinations[0]),
    )
    _check_balance(design, Counter(combinations), block)
    return design


def _check_balance(design: _Design, counts: Counter[tuple[int, ...]], block: str) -> None:
    number = math.prod(len(values) for values in design.levels)
    if number > MOST_COMBINATIONS:
        raise EffectsError(f"{number} combinations of factors; effects are worked out for up to {MOST_COMBINATIONS}")
    every = list(product(*(range(len(values)) for values in design.levels)))
    missing = [each for each in every if each not in counts]
    if missing:
        example = design.said(missing[0])
        raise EffectsError(f"{len(missing)} of {len(every)} combinations have no cell, such as {example}")
    few, many = min(every, key=lambda each: counts[each]), max(every, key=lambda each: counts[each])
    if counts[few] != counts[many]:
        raise EffectsError(
            f"unbalanced: {design.said(few)} has {counted(counts[few], 'cell')}, {design.said(many)} has"
            f" {counts[many]}; effects need equally many"
        )
    if design.seeds < 2:
        raise EffectsError(f"one cell for each combination: effects need at least 2 that differ in {block}")
    (*combination, _), cells = Counter(zip(*design.codes, design.blocks, strict=True)).most_common(1)[0]
    if cells > 1:
        raise EffectsError(
            f"{design.said(combination)} has {cells} cells of one {block}: they differ in something that is no factor"
        )


def _effect(design: _Design, source: Sequence[int], residual: _AnovaLine) -> Effect:
    """Return the line of an effect. source: indices of its factors."""
    means = design.table.mean(axis=-1)
    square = design.seeds * float((_along(means, _projection(design, source)) ** 2).sum())
    line = _AnovaLine(math.prod(len(design.levels[index]) - 1 for index in source), square)
    f = line.mean_square / residual.mean_square
    return Effect(
        source=tuple(design.factors[index] for index in source),
        df=line.df,
        f=f,
        p=float(special.fdtrc(line.df, residual.df, f)),
        share=line.square / (line.square + residual.square),
        unequal=_unequal(design, source, line.df),
    )


def _blocks(design: _Design) -> _AnovaLine | None:
    """Return the line of the seeds, which all combinations share; None if they do not."""
    if not design.blocked:
        return None
    means = design.table.reshape(-1, design.seeds).mean(axis=0)
    combinations = len(design.values) // design.seeds
    return _AnovaLine(design.seeds - 1, combinations * float(((means - means.mean()) ** 2).sum()))


def _residual(design: _Design) -> _AnovaLine:
    table = design.table.reshape(-1, design.seeds)
    apart = table - table.mean(axis=1, keepdims=True)
    if design.blocked:
        apart = apart - apart.mean(axis=0)
    free = len(table) - 1 if design.blocked else len(table)
    return _AnovaLine(free * (design.seeds - 1), float((apart**2).sum()))


def _projection(design: _Design, source: Sequence[int]) -> list[Numbers]:
    """Return the projection on an effect, a matrix [l, l] along the axis of each factor."""
    averages = [np.full((len(levels), len(levels)), 1 / len(levels)) for levels in design.levels]
    return [np.eye(len(own)) - own if index in source else own for index, own in enumerate(averages)]


def _levels(design: _Design, residual: _AnovaLine, blocks: _AnovaLine | None) -> tuple[Level, ...]:
    found = []
    for factor, values, codes in zip(design.factors, design.levels, design.codes, strict=True):
        half = _half(design, len(values), residual, blocks)
        for code, value in enumerate(values):
            own = [each for each, its in zip(design.values, codes, strict=True) if its == code]
            mean = math.fsum(own) / len(own)
            found.append(Level(factor=factor, value=value, mean=mean, low=mean - half, high=mean + half, n=len(own)))
    return tuple(found)


def _half(design: _Design, levels: int, residual: _AnovaLine, blocks: _AnovaLine | None) -> float:
    """Return half the 95% interval of the mean of a level, for a factor with this many levels.

    Without blocks its variance is the residual mean square over the level's cells, N / levels. With random blocks it is
    var(block) / seeds + levels var(residual) / N. As the mean squares MS estimate
    MS(block) = (N / seeds) var(block) + var(residual) and MS(residual) = var(residual), that is
    (MS(block) + (levels - 1) MS(residual)) / N, with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin
    2:110).
    """
    cells = len(design.values)
    if blocks is None:
        variance, df = residual.mean_square * levels / cells, float(residual.df)
    else:
        rest = (levels - 1) * residual.mean_square
        variance = (blocks.mean_square + rest) / cells
        df = (blocks.mean_square + rest) ** 2 / (blocks.mean_square**2 / blocks.df + rest**2 / residual.df)
    return float(special.stdtrit(df, (1 + LEVEL) / 2)) * math.sqrt(variance)


def assumptions_of(groups: Numbers, *, blocked: bool) -> Assumptions:
    """Return the tests of the assumptions. groups [combinations, seeds]; blocked: the seeds are the same in all.

    A seed's effect on all combinations is in each of the variances, so that they are those of the table's sd. It makes
    Bartlett's test reject less often, not more. The residuals are without it.
    """
    from scipy import stats  # here because it takes most of a second

    variances = groups.var(axis=1, ddof=1)
    ratio = float(variances.max() / variances.min()) if variances.min() > 0 else math.inf
    residuals = groups - groups.mean(axis=1, keepdims=True)
    if blocked:
        residuals = residuals - residuals.mean(axis=0)
    normal = None
    if residuals.size <= _MOST_RESIDUALS:
        with warnings.catch_warnings(action="ignore"):
            normal = float(stats.shapiro(residuals.ravel()).pvalue)
    return Assumptions(
        variance_ratio=ratio,
        p_equal=float(stats.bartlett(*groups).pvalue) if math.isfinite(ratio) else 0.0,
        p_normal=normal,
    )


def _unequal(design: _Design, source: Sequence[int], rank: int) -> UnequalTest | None:
    """Return the test of an effect for combinations of any spreads; None if there is no spread to compare with.

    With X [combinations] the means over n seeds, S their covariance over seeds and T the projection on the effect,
    F = n X'TX / tr(TS) has about f1 = tr(TS)^2 / tr(TSTS) degrees of freedom (Box 1954). With the seed as a block S is
    estimated in full, F is the effect over its own interaction with the seed, and the error has f1 (n - 1) degrees of
    freedom (Geisser and Greenhouse 1958). Otherwise S is diagonal, and it has tr(TS)^2 / sum((T_ii S_ii)^2 / (n - 1))
    of them (Brunner, Dette and Munk 1997). For two levels these are the paired t-test and Welch's.
    """
    table, n = design.table, design.seeds
    means = table.mean(axis=-1)
    apart = table - means[..., None]
    projection = _projection(design, source)
    if design.blocked:
        effect = _along(apart, projection).reshape(-1, n)
        products = effect.T @ effect / (n - 1)  # DTD' for the deviations D [n, combinations], as T = TT
        trace, square = float(np.trace(products)), float((products**2).sum())
        uncertain = square / (n - 1)  # of which the trace squared is a multiple by the degrees of freedom of the error
    else:
        variances = (apart**2).sum(axis=-1) / (n - 1)
        own_part = rank / means.size * variances  # T_ii S_ii: the diagonal of T is constant
        squared = [each**2 for each in projection]
        trace, square = float(own_part.sum()), float((variances * _along(variances, squared)).sum())
        uncertain = float((own_part**2).sum()) / (n - 1)
    # Otherwise F would be the ratio of two rounding errors.
    if math.sqrt(max(0.0, trace) / rank) <= 1e-10 * float(np.abs(table).max()):
        return None
    f = n * float((_along(means, projection) ** 2).sum()) / trace
    df, error_df = trace**2 / square, trace**2 / uncertain
    return UnequalTest(f, df, error_df, float(special.fdtrc(df, error_df, f)))


def _along(values: Numbers, matrices: Sequence[Numbers]) -> Numbers:
    """Return values [l1, l2, ..., any] multiplied along each of the first axes by its matrix [l, l]."""
    for axis, matrix in enumerate(matrices):
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values
