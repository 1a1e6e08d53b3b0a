"""Verdicts of a design that looks at its seeds several times: seeds are added until a line is decided.

Testing again after every few seeds, at the same level, finds something sooner or later. Here the looks are fixed before
the first one, and the p-value of a line is one that holds over all of its looks (strive.statistics.boundaries). The
tests are those of `inference.judge`: two one-sided paired t-tests against the margin, each family corrected by Holm's
method over the lines of the table, also over the looks (Maurer and Bretz 2013, Statistics in Biopharmaceutical Research
5:311). A wrong claim of no loss anywhere in the table has a probability of at most alpha / 2, and so has one of a loss.

Nothing is remembered: verdicts follow from the differences in the order of the file, by going through all looks again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped]

from strive.look_design import LookDesign
from strive.statistics.boundaries import critical_value, repeated_p, weights
from strive.statistics.inference import LEVEL, Verdict, holm, summarise

FUTILE = 0.1  # a line is left alone if its chances of either verdict are below this
_NAMED = 3  # dead pairs that a reason names; it counts the others
SMALLEST_SPREAD = 1e-9  # of the margin or the largest difference: a smaller sd is rounding

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One comparison of a table: a pair of cells for each seed, in the order of the file."""

    differences: tuple[float | None, ...]  # own minus baseline, a loss positive; None: one of the pair is missing
    dead: tuple[bool, ...]  # one of the pair diverged or ended no better than chance; it need not have a difference
    notes: Mapping[int, str] = field(default_factory=dict)  # {index of a pair: why it is dead or missing, if known}


@dataclass(frozen=True, kw_only=True, slots=True)
class LineVerdict:
    """What is known of a line after its last look."""

    verdict: Verdict
    look: int | None  # index of the look that decided it, else of the last one that all seeds were there for
    n: int  # pairs at that look, 0 without one
    p_no_loss: float | None  # of a loss of the margin or more: over all looks, Holm-corrected; None: never tested
    p_loss: float | None  # of a loss of the margin or less
    mean: float | None  # of the differences at that look; None if one of them is missing
    sd: float | None
    own: tuple[float, float] | None  # interval of level 1 - alpha that holds over all looks
    simultaneous: tuple[float, float] | None  # the same for all lines of the table together
    reason: str  # why there is no verdict; empty for a decided line
    next_look: int | None  # index of the look whose seeds it needs; None if it needs no more
    dead_pairs: int  # among the n


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """Arrays [..., lines] of what the looks decided; p has one axis more in front: no loss, loss."""

    look: npt.NDArray[np.int64]  # that decided the line, -1 for none
    no_loss: Flags
    loss: Flags
    p: Numbers  # [2, ..., lines]: over all looks, Holm-corrected, of the last look used; NaN if there was none
    futile: Flags  # after the last look used, both chances of a verdict are below FUTILE


class _Data(Enum):
    """How the pairs of one line are at one look."""

    missing = auto()
    dead = auto()
    silent = auto()  # too little spread to estimate its sd
    usable = auto()


def verdicts(design: LookDesign, lines: Sequence[Line], margin: float, resolution: float) -> list[LineVerdict]:
    """Return the verdict of each line of a table.

    margin: the smallest loss that matters, above 0. resolution: the smallest step of the metric, in its unit (for a
    percentage 100 over the number of test images), 0 if it is not known.

    Look k uses the first n_k pairs. A line without all of them skips it. A line with a dead pair among them is not
    tested, nor one whose differences have an sd below half the resolution: several seeds that give the same number by
    rounding are no evidence of a small spread. Such a line stays in the number of lines that is corrected for.

    A decided line keeps its verdict and its p-values, whatever comes later. From the second look on, a line that has a
    chance below FUTILE of either verdict is left alone; if it has more seeds all the same, they are used, as the levels
    do not depend on this rule.

    Raises ValueError for a margin or a resolution that is not legal, and for differences that are not finite.
    """
    _check(lines, margin, resolution)
    if not lines:
        return []
    shape = (len(lines), len(design.looks))
    means, sds, data = np.zeros(shape), np.ones(shape), np.full(shape, _Data.missing)
    for index, line in enumerate(lines):
        for look, n in enumerate(design.looks):
            mean, sd = _mean_and_sd(line, n)
            data[index, look] = _data(line, n, sd, margin, resolution)
            if data[index, look] is _Data.usable:
                means[index, look], sds[index, look] = mean, sd
    usable: Flags = data == _Data.usable
    decisions = replay(design, means, sds, usable, margin)
    return [
        _line_verdict(design, line, data[index].tolist(), decisions, index, resolution)
        for index, line in enumerate(lines)
    ]


def replay(design: LookDesign, means: Numbers, sds: Numbers, usable: Flags, margin: float) -> Decisions:
    """Return what the looks decide, for any number of tables at once.

    means, sds, usable: [..., lines, K]: mean and sd (above 0) of the first n_k differences, and whether the line is
    tested at look k.
    """
    ns, lines = np.array(design.looks), means.shape[-2]
    side = np.array([1.0, -1.0]).reshape(2, *[1] * means.ndim)
    ts = side * (margin - means) / sds * np.sqrt(ns)  # [2, ..., lines, K]: large for no loss, and for a loss
    scores = weights(design.looks, design.shape) * _normal_score(ts, ns - 1)
    highest = np.full(ts.shape[:-1], -np.inf)
    shown, p = np.zeros(ts.shape[:-1], dtype=bool), np.full(ts.shape[:-1], np.nan)
    decided, futile = np.full(means.shape[:-1], -1), np.zeros(means.shape[:-1], dtype=bool)
    for look in range(len(ns)):
        tested = usable[..., look] & (decided == -1)
        highest = np.where(tested, np.maximum(highest, scores[..., look]), highest)
        single = repeated_p(highest, design.looks, design.shape)
        adjusted = np.array([holm(row) for row in single.reshape(-1, lines).tolist()], dtype=float).reshape(p.shape)
        p = np.where(tested, adjusted, p)
        new = tested & (adjusted <= design.alpha / 2)
        # An early look may have spoken for one and a late look for the other: the smaller p-value is the verdict.
        new[0] &= ~new[1] | (single[0] <= single[1])
        new[1] &= ~new[0]
        shown |= new
        decided[new.any(axis=0)] = look
        if 0 < look < len(ns) - 1:
            chances = _chances(design, ts[..., look], shown.sum(axis=-1, keepdims=True), look)
            futile = np.where(tested & (decided == -1), (chances < FUTILE).all(axis=0), futile & (decided == -1))
    return Decisions(look=decided, no_loss=shown[0], loss=shown[1], p=p, futile=futile & (decided == -1))


def interval(design: LookDesign, look: int, mean: float, sd: float, level: float) -> tuple[float, float]:
    """Return the interval of a mean at a look that holds over all looks, with `level` outside on each side."""
    n = design.looks[look]
    half = float(_critical_ts(design, level)[look]) * sd / math.sqrt(n)
    return mean - half, mean + half


def largest_death_rate(died: int, n: int) -> float:
    """Return the upper end of the 95% interval of the rate of deaths (Clopper, Pearson): 1 - 0.05^(1 / n) for none.

    Raises ValueError unless 0 <= died <= n and n >= 1.
    """
    if not 0 <= died <= n or n < 1:
        raise ValueError(f"died must be from 0 to n, and n at least 1, got {died} of {n}")
    return 1.0 if died == n else float(special.betaincinv(died + 1, n - died, LEVEL))


def _check(lines: Sequence[Line], margin: float, resolution: float) -> None:
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"the margin must be finite and above 0, got {margin}")
    if not (math.isfinite(resolution) and resolution >= 0):
        raise ValueError(f"the resolution must be finite and at least 0 (not known), got {resolution}")
    for number, line in enumerate(lines):
        if len(line.differences) != len(line.dead):
            raise ValueError(
                f"line {number} has {len(line.differences)} differences, but says of {len(line.dead)} if they are dead"
            )
        for each in line.differences:
            if each is not None and not math.isfinite(each):
                raise ValueError(f"line {number} has a difference of {each}; a missing one is None")


def _mean_and_sd(line: Line, n: int) -> tuple[float | None, float | None]:
    """Return mean and sd of the first n differences; None if one is missing."""
    found = [each for each in line.differences[:n] if each is not None]
    if len(found) < n:
        return None, None
    summary = summarise(found)
    return summary.mean, summary.sd


def _data(line: Line, n: int, sd: float | None, margin: float, resolution: float) -> _Data:
    if _missing(line, n):
        return _Data.missing
    if any(line.dead[:n]):
        return _Data.dead
    assert sd is not None
    rounding = SMALLEST_SPREAD * max(margin, *(abs(each) for each in line.differences[:n] if each is not None))
    return _Data.silent if sd < max(resolution / 2, rounding) else _Data.usable


def _missing(line: Line, n: int) -> int:
    """Return how many of the first n pairs are not there yet."""
    there = sum(each is not None or dead for each, dead in zip(line.differences[:n], line.dead[:n], strict=True))
    return n - there


def _line_verdict(
    design: LookDesign, line: Line, data: list[_Data], decisions: Decisions, index: int, resolution: float
) -> LineVerdict:
    there = sum(each is not _Data.missing for each in data)  # looks, always the first ones
    decided, last = int(decisions.look[index]), there - 1
    look = decided if decided >= 0 else last
    n = design.looks[look] if look >= 0 else 0
    mean, sd = _mean_and_sd(line, n) if n else (None, None)
    intervals: list[tuple[float, float] | None] = [None, None]
    if look >= 0 and data[look] is _Data.usable:
        assert mean is not None
        assert sd is not None
        number = decisions.look.shape[-1]
        intervals = [interval(design, look, mean, sd, design.alpha / 2 / lines) for lines in (1, number)]
    verdict, reason, more = Verdict.undecided, "", False
    if decided >= 0:
        verdict = Verdict.not_worse if decisions.no_loss[index] else Verdict.worse
    else:
        reason, more = _undecided(design, line, data, look, bool(decisions.futile[index]), sd, resolution)
    p_no_loss, p_loss = (None if math.isnan(p) else p for p in decisions.p[:, index].tolist())
    return LineVerdict(
        verdict=verdict,
        look=look if look >= 0 else None,
        n=n,
        p_no_loss=p_no_loss,
        p_loss=p_loss,
        mean=mean,
        sd=sd,
        own=intervals[0],
        simultaneous=intervals[1],
        reason=reason,
        next_look=look + 1 if more else None,
        dead_pairs=sum(line.dead[:n]),
    )


def _undecided(
    design: LookDesign, line: Line, data: list[_Data], look: int, futile: bool, sd: float | None, resolution: float
) -> tuple[str, bool]:
    """Return why a line has no verdict, and whether it needs the seeds of the next look."""
    last = look == len(design.looks) - 1
    if look >= 0 and data[look] is _Data.dead:
        n = design.looks[look]
        return f"nothing is tested, as {sum(line.dead[:n])} of {n} pairs died{_notes(line, n)}", False
    if look >= 0 and data[look] is _Data.silent:
        assert sd is not None
        limit = f"below half a step of the metric, {resolution / 2:.2g}" if sd < resolution / 2 else "mere rounding"
        return f"silent: the sd of the differences, {sd:.2g}, is {limit}, so nothing is tested", not last
    if last:
        return "undecided at the last look", False
    if futile:
        return f"undecided, left alone: each verdict has a chance below {FUTILE:.0%} at the looks that are left", False
    n = design.looks[look + 1]
    return f"waits for seeds: it has {n - _missing(line, n)} of the first {n}{_notes(line, n)}", True


def _notes(line: Line, n: int) -> str:
    """Return what is known of the first n pairs that are dead or missing, as the end of a sentence."""
    known = [line.notes[index] for index in range(n) if index in line.notes]
    more = [f"{len(known) - _NAMED} more"] if len(known) > _NAMED else []
    return f" ({', '.join([*known[:_NAMED], *more])})" if known else ""


def _normal_score(ts: Numbers, dfs: npt.NDArray[np.int64]) -> Numbers:
    """Return z with the same tail as t."""
    # By the lower tail of both, because a tiny p would be lost in 1 - 0.999...; a tail of 0 would be an infinite z.
    tails = np.maximum(special.stdtr(dfs, -np.abs(ts)), 1e-300)
    found: Numbers = -np.sign(ts) * special.ndtri(tails)
    return found


def _critical_ts(design: LookDesign, level: float) -> Numbers:
    """Return the t of each look that the level over all looks asks for."""
    c = critical_value(level, design.looks, design.shape)
    nominal = special.ndtr(-c / weights(design.looks, design.shape))
    found: Numbers = -special.stdtrit(np.array(design.looks) - 1, nominal)
    return found


def _chances(design: LookDesign, ts: Numbers, rejected: npt.NDArray[np.int64], look: int) -> Numbers:
    """Return for each line [2, ..., lines] the chance that a later look shows no loss, and that one shows a loss.

    The predictive power with a flat prior for the mean, the sd as estimated: t of look j is taken as if drawn round
    t_k sqrt(n_j / n_k) with the spread sqrt(n_j / n_k - 1) and n_k - 1 degrees of freedom. Of the later looks the one
    with the largest chance counts. The level is the one that Holm's method has for the next line.

    rejected: [2, ..., 1]: how many lines have this verdict.
    """
    lines = ts.shape[-1]
    counts, where = np.unique(np.minimum(rejected, lines - 1), return_inverse=True)
    needs = np.array([_critical_ts(design, design.alpha / 2 / (lines - int(count))) for count in counts])
    need = needs[where.reshape(rejected.shape)]  # [2, ..., 1, K]
    found = np.zeros(ts.shape)
    for later in range(look + 1, len(design.looks)):
        ratio = design.looks[later] / design.looks[look]
        distance = (ts * math.sqrt(ratio) - need[..., later]) / math.sqrt(ratio - 1)
        found = np.maximum(found, special.stdtr(design.looks[look] - 1, distance))
    return found
