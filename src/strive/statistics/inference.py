"""Intervals, paired tests and verdicts over seeds. All intervals are 95%; smaller values are better.

Sums use math.fsum, so the order of the seeds does not change a bit of the result.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar

from scipy import special  # type: ignore[import-untyped]

from strive.errors import UnpairedError

LEVEL = 0.95  # of intervals; two-sided tests use 1 - LEVEL
SIDE = 0.025  # level of a one-sided test: the part of 1 - LEVEL on one side

K = TypeVar("K", bound=Hashable)
Interval = tuple[float | None, float | None]  # (low, high), None in both if there is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The values of one condition over seeds."""

    n: int
    mean: float
    sd: float | None  # of the sample, divided by n - 1; None for n = 1
    low: float | None  # 95% interval of the mean; None for n = 1 and if all values are equal
    high: float | None
    next_low: float | None  # 95% prediction interval of one further value; None like low
    next_high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Own minus baseline over pairs; negative values are better than the baseline."""

    n: int
    mean: float
    sd: float | None  # of the differences, divided by n - 1; None for n = 1
    low: float | None  # 95% interval of the mean; None for n = 1 and if all differences are equal
    high: float | None
    p: float | None  # two-sided, for a mean of 0; None if low is None


class Verdict(StrEnum):
    """The conclusion of a comparison with the baseline; 'worse' is by more than the margin."""

    not_worse = "not worse"
    worse = "worse"
    undecided = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict with its p-values. Each p is one-sided and Holm-corrected; None if no test is possible."""

    verdict: Verdict
    p_no_loss: float | None  # of a loss of the margin or more
    p_loss: float | None  # of a loss of the margin or less

    @classmethod
    def of(cls, p_no_loss: float | None, p_loss: float | None) -> Self:
        """Return the verdict that these p-values give."""
        verdict = Verdict.undecided
        if p_no_loss is not None and p_no_loss <= SIDE:
            verdict = Verdict.not_worse
        elif p_loss is not None and p_loss <= SIDE:
            verdict = Verdict.worse
        return cls(verdict=verdict, p_no_loss=p_no_loss, p_loss=p_loss)


def summarise(values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Summary:
    """Return mean, sample standard deviation and t-interval: mean -+ t(0.975, n - 1) sd / sqrt(n) (Student 1908).

    Values are assumed to be drawn from a normal distribution, one for each seed. The interval is about the mean over
    further seeds on the same test images. Values that agree to the last bits have an sd of 0 and no interval: two seeds
    that misclassify equally many images do not make the mean certain. R's t.test refuses such data, too.

    The prediction interval, mean -+ t(0.975, n - 1) sd sqrt(1 + 1 / n) (Geisser 1993), contains the next value from the
    same distribution with probability 0.95. A single published value is to be compared with it, not with the interval
    of the mean, which such a value misses the more often the more seeds there are.

    bounds: the least and the largest value that there can be, such as 0 and 100 of a percentage; cuts the intervals.
    Raises ValueError if there are no values or one is not finite.
    """
    own = _finite(enumerate(values), "value")
    if not own:
        raise ValueError("a summary needs at least one value, got none")
    mean, sd = _mean_and_sd(own, scale=max(map(abs, own)))
    low, high = cut(mean, _interval(len(own), mean, sd and _standard_error(len(own), sd)), bounds)
    next_low, next_high = cut(mean, _interval(len(own), mean, sd and sd * math.sqrt(1 + 1 / len(own))), bounds)
    return Summary(n=len(own), mean=mean, sd=sd, low=low, high=high, next_low=next_low, next_high=next_high)


def cut(mean: float, interval: Interval, bounds: tuple[float, float]) -> Interval:
    """Return the interval without what lies beyond the bounds; unchanged if the mean does, as then they are none."""
    low, high = interval
    if low is None or high is None or not bounds[0] <= mean <= bounds[1]:
        return interval
    return max(low, bounds[0]), min(high, bounds[1])


def difference(
    own: Mapping[K, float], baseline: Mapping[K, float], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Difference:
    """Return the paired t-test of own minus baseline, paired by key (the seed).

    t = mean / (sd / sqrt(n)) with n - 1 degrees of freedom, mean and sd of the n differences (Student 1908).
    Differences that are equal up to rounding have an sd of 0, no interval and no p, as in `summarise`.
    bounds: the least and the largest difference that there can be; cuts the interval, and changes no test.
    Raises UnpairedError if the keys differ, ValueError if there are no pairs or a value is not finite.
    """
    _check_paired(own, baseline)
    owns, baselines = (_finite(((key, side[key]) for key in own), "value of") for side in (own, baseline))
    if not owns:
        raise ValueError("a difference needs at least one pair, got none")
    values = [one - other for one, other in zip(owns, baselines, strict=True)]
    mean, sd = _mean_and_sd(values, scale=max(map(abs, owns + baselines)))
    low, high = cut(mean, _interval(len(values), mean, sd and _standard_error(len(values), sd)), bounds)
    p = two_sided(len(values) - 1, mean / _standard_error(len(values), sd)) if sd else None
    return Difference(n=len(values), mean=mean, sd=sd, low=low, high=high, p=p)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return Holm's step-down adjusted p-values (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Of m p-values in ascending order, the i-th becomes the largest of (m - j + 1) p(j) over j <= i, at most 1.
    None stays None and does not count in m, because nothing was tested. Raises ValueError outside [0, 1].
    """
    tested = [p for p in ps if p is not None]
    for p in tested:
        if not 0 <= p <= 1:  # also true for NaN
            raise ValueError(f"a p-value must be in [0, 1], or None for no test, got {p}")
    # Not statsmodels' multipletests, which runs the garbage collector at each call: a tenth of a second.
    adjusted, largest = [0.0] * len(tested), 0.0
    for rank, index in enumerate(sorted(range(len(tested)), key=tested.__getitem__)):
        largest = max(largest, min(1.0, (len(tested) - rank) * tested[index]))
        adjusted[index] = largest
    found = iter(adjusted)
    return [None if p is None else next(found) for p in ps]


def simultaneous(
    differences: Sequence[Difference], bounds: tuple[float, float] = (-math.inf, math.inf), among: int = 0
) -> list[tuple[float, float] | None]:
    """Return intervals that hold for all differences at once: each is the t-interval at level 1 - 0.05 / m.

    With probability 0.95 or more every true difference lies in its own (Bonferroni). m counts the differences that have
    an interval, as `holm` counts the tests; None for the others. An interval lies below (above) the margin exactly when
    the first step of Holm's correction in `judge` shows no loss (a loss), and excludes 0 exactly when the first step of
    the two-sided tests rejects. A later step may decide a difference whose interval still contains the margin.
    bounds: as in `difference`. among: m, where there are more differences than these.
    """
    tested = among or sum(each.low is not None for each in differences)
    found: list[tuple[float, float] | None] = []
    for each in differences:
        error = each.sd and _standard_error(each.n, each.sd)
        low, high = cut(each.mean, _interval(each.n, each.mean, error, 1 - (1 - LEVEL) / max(1, tested)), bounds)
        found.append(None if low is None or high is None else (low, high))
    return found


def judge(differences: Sequence[Difference], margin: float) -> list[Judgement]:
    """Return for each difference whether a loss of the margin or more is ruled out (non-inferiority).

    CONSORT's extension (Piaggio et al. 2012, JAMA 308:2594): no loss is shown if the 95% interval of the difference
    lies below the margin, a loss if it lies above. These are two one-sided paired t-tests at 2.5% (Schuirmann 1987),
    t = (mean - margin) / (sd / sqrt(n)) with n - 1 degrees of freedom; if neither rejects, it is undecided.

    Both are Holm-corrected over the given differences, so with several of them the interval that must clear the margin
    is that of `simultaneous`. The chance of any wrong claim of no loss in the whole family is at most 2.5%, the same
    holds for wrong claims of a loss, and so the chance of any wrong verdict is at most 5%.

    The 5% does not hold if the test is repeated after every few seeds until it gives a verdict.

    n = 1 and equal differences never give a verdict. Raises ValueError for a margin that is not above 0.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"the margin must be finite and above 0, got {margin}")
    sides = [one_sided(each, margin) for each in differences]
    below, above = (holm([each[side] for each in sides]) for side in (0, 1))
    return [Judgement.of(*sides) for sides in zip(below, above, strict=True)]


def one_sided(difference: Difference, margin: float) -> Interval:
    """Return the p-values of two paired t-tests, of a mean of the margin or more and of the margin or less.

    Each is None where there is no spread between the pairs. They are corrected for no other difference.
    """
    if not difference.sd:
        return None, None
    t = (difference.mean - margin) / _standard_error(difference.n, difference.sd)
    return _tail(difference.n - 1, t), _tail(difference.n - 1, -t)


def best(values: Sequence[Mapping[K, float]]) -> int | None:
    """Return the index of the condition that is shown to be below every other one; None if there is none.

    The condition with the smallest mean is compared with each other one by a paired two-sided t-test, Holm-corrected,
    and must be below all of them at 5%. All of these tests have to reject, so it does not matter that the candidate was
    picked for its small mean: in the worst case, with two equally good conditions and all others far off, one of the
    two is wrongly declared best with a chance of 5%. None also for fewer than two conditions, for different keys
    (seeds), for n = 1, and if two conditions differ by the same amount in every pair.
    """
    if len(values) < 2 or len(values[0]) < 2 or any(each.keys() != values[0].keys() for each in values):
        return None
    first = min(range(len(values)), key=lambda index: math.fsum(values[index].values()))
    others = [difference(values[first], other) for index, other in enumerate(values) if index != first]
    shown = [p is not None and p <= 1 - LEVEL for p in holm([each.p for each in others])]
    return first if all(shown) else None


def _finite(values: Iterable[tuple[object, float]], what: str) -> list[float]:
    found = []
    for key, value in values:
        if not math.isfinite(value):
            raise ValueError(f"{what} {key} is {value}; statistics need finite numbers: leave holes out, and say so")
        found.append(float(value))
    return found


def _check_paired(own: Mapping[K, float], baseline: Mapping[K, float]) -> None:
    lacks = []
    for name, side, other in (("own", own, baseline), ("the baseline", baseline, own)):
        missing = [str(key) for key in other if key not in side]
        if missing:
            lacks.append(f"{name} lacks {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}")
    if lacks:
        raise UnpairedError(f"a paired difference needs the same keys on both sides: {'; '.join(lacks)}")


def _mean_and_sd(values: list[float], scale: float) -> tuple[float, float | None]:
    """Return mean and standard deviation.

    scale: the largest magnitude of the numbers that the values come from; a spread below 1e-12 of it is rounding.
    """
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    if max(values) - min(values) <= 1e-12 * scale:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _standard_error(n: int, sd: float) -> float:
    return sd / math.sqrt(n)


def _interval(n: int, mean: float, error: float | None, level: float = LEVEL) -> Interval:
    """Return the interval of a mean over n; error: the standard error of what it is for, 0 or None without spread."""
    return t_interval(n - 1, mean, error, level) if error else (None, None)


def t_interval(df: float, mean: float, error: float, level: float = LEVEL) -> tuple[float, float]:
    """Return mean -+ t((1 + level) / 2, df) error (Student 1908). error: a standard error above 0."""
    # The lower tail, because a tiny one would be lost in (1 + level) / 2.
    half = -float(special.stdtrit(df, (1 - level) / 2)) * error
    return mean - half, mean + half


def two_sided(df: float, t: float) -> float:
    """Return P(|T| >= |t|) for Student's t."""
    # The lower tail, because a tiny p would be lost in 1 - 0.999...
    return 2 * _tail(df, -abs(t))


def _tail(df: float, t: float) -> float:
    """Return P(T <= t) for Student's t."""
    return float(special.stdtr(df, t))
