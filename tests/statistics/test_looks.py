import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from strive.look_design import LookDesign
from strive.statistics.boundaries import critical_value, weights
from strive.statistics.inference import Verdict, difference, judge, simultaneous
from strive.statistics.looks import (
    Line,
    LineVerdict,
    interval,
    largest_death_rate,
    replay,
    verdicts,
)

MARGIN = 0.5
DESIGN = LookDesign(looks=(5, 8, 12, 20))
TWO = LookDesign(looks=(4, 8), shape=0.5)


def line(values: Sequence[float | None], dead: Sequence[int] = ()) -> Line:
    return Line(differences=tuple(values), dead=tuple(index in dead for index in range(len(values))))


def around(mean: float, n: int, half_width: float = 0.1) -> list[float]:
    """Return mean - w, mean + w, mean - w, ...: for an even n their mean is `mean` up to the last bits."""
    return [mean - half_width if index % 2 else mean + half_width for index in range(n)]


def drawn(seed: int, mean: float, n: int, sd: float = 0.5) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(mean, sd, n).tolist()
    return found


def one(design: LookDesign, values: Sequence[float | None], dead: Sequence[int] = (), h: float = 0.0) -> LineVerdict:
    (found,) = verdicts(design, [line(values, dead)], MARGIN, h)
    return found


# --- what is given


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_that_is_not_above_0_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="the margin must be finite and above 0"):
        verdicts(DESIGN, [], margin, 0.0)


@pytest.mark.parametrize("resolution", [-1.0, math.nan])
def test_a_resolution_below_0_is_refused(resolution: float) -> None:
    with pytest.raises(ValueError, match="the resolution must be finite"):
        verdicts(DESIGN, [], MARGIN, resolution)


def test_lines_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"line 0 has 2 differences, but says of 1 if they are dead"):
        verdicts(DESIGN, [Line(differences=(1.0, 2.0), dead=(False,))], MARGIN, 0.0)
    with pytest.raises(ValueError, match=r"line 1 has a difference of nan; a missing one is None"):
        verdicts(DESIGN, [line([1.0]), line([math.nan])], MARGIN, 0.0)


# --- tests and intervals


def test_one_look_gives_the_verdicts_p_values_and_intervals_of_the_fixed_design() -> None:
    values = [drawn(seed, mean, 8) for seed, mean in enumerate([-0.5, 0.0, 0.5, 1.5, 4.0])]
    own = [difference(dict(enumerate(each)), dict.fromkeys(range(8), 0.0)) for each in values]
    found = verdicts(LookDesign(looks=(8,)), [line(each) for each in values], MARGIN, 0.0)
    for each, fixed, single, joint in zip(found, judge(own, MARGIN), own, simultaneous(own), strict=True):
        assert each.verdict is fixed.verdict
        assert (each.p_no_loss, each.p_loss) == (pytest.approx(fixed.p_no_loss), pytest.approx(fixed.p_loss))
        assert (each.mean, each.sd, each.n) == (single.mean, pytest.approx(single.sd), 8)
        assert each.own == (pytest.approx(single.low), pytest.approx(single.high))
        assert joint is not None
        assert each.simultaneous == pytest.approx(joint)
    assert {each.verdict for each in found} == set(Verdict)


def test_a_p_value_holds_over_both_looks() -> None:
    # Differences 0.2 and 0.6: mean 0.4, sd 0.2828, t = (0.5 - 0.4) / 0.2 = 0.5, with 1 degree of freedom
    # p = 1/2 - atan(0.5) / pi = 0.3524. With Pocock's shape both looks are tested at 0.3524. The first look alone
    # rejects in a lune of the sphere, the second in a cap; what both have is integrated on a grid of directions.
    p = 0.5 - math.atan(0.5) / math.pi
    z, phi = np.meshgrid(np.linspace(-1, 1, 1001), np.linspace(-math.pi, math.pi, 1001))
    t = stats.t.isf(p, 2)
    cap = z / math.sqrt(3) + np.sqrt(1 - z**2) * math.sqrt(2 / 3) * np.cos(phi) >= t / math.sqrt(2 + t * t)
    crossed = float(((np.abs(phi) <= p * math.pi) | cap).mean())
    assert one(LookDesign(looks=(2, 3), shape=0.5), [0.2, 0.6]).p_no_loss == pytest.approx(crossed, rel=3e-3)


def test_a_clear_loss_and_a_clear_gain_are_decided_at_the_first_look() -> None:
    loss, gain = verdicts(DESIGN, [line(around(4, 5)), line(around(-2, 5))], MARGIN, 0.01)
    assert (loss.verdict, loss.look, loss.n, loss.reason, loss.next_look) == (Verdict.worse, 0, 5, "", None)
    assert (gain.verdict, gain.look, gain.n, gain.reason, gain.next_look) == (Verdict.not_worse, 0, 5, "", None)
    assert loss.p_loss is not None
    assert loss.p_no_loss is not None
    assert loss.p_loss < 1e-3 < 0.99 < loss.p_no_loss


@pytest.mark.parametrize("shape", [0.0, 0.25, 0.5])
def test_the_first_look_decides_exactly_when_its_interval_clears_the_margin(shape: float) -> None:
    design = replace(DESIGN, shape=shape)
    # A single line, so that Holm's method has one step and the line's own interval is the simultaneous one.
    for seed in range(60):
        found = one(design, drawn(seed, 1.5, 5))
        assert found.own is not None
        assert found.own == pytest.approx(found.simultaneous)
        assert (found.verdict is Verdict.worse) is (found.own[0] > MARGIN)
        assert (found.verdict is Verdict.not_worse) is (found.own[1] < MARGIN)


def test_an_interval_is_as_wide_as_the_boundary_of_its_look() -> None:
    c = critical_value(0.025, DESIGN.looks, 0.25)
    for look, n in enumerate(DESIGN.looks):
        tail = stats.norm.sf(c / weights(DESIGN.looks, 0.25)[look])
        low, high = interval(DESIGN, look, 2.0, 0.3, 0.025)
        assert (high - low) / 2 == pytest.approx(stats.t.isf(tail, n - 1) * 0.3 / math.sqrt(n))
        assert (high + low) / 2 == pytest.approx(2.0)


def test_nine_lines_need_more_than_one() -> None:
    values = around(0.75, 4, 0.11)
    alone = one(LookDesign(looks=(4, 20), shape=0.5), values)
    rest = [line(drawn(seed, 0.5, 4)) for seed in range(8)]
    among_nine, *_ = verdicts(LookDesign(looks=(4, 20), shape=0.5), [line(values), *rest], MARGIN, 0.0)
    assert alone.verdict is Verdict.undecided
    assert alone.p_loss is not None
    assert among_nine.p_loss == pytest.approx(min(1, 9 * alone.p_loss))
    assert alone.own == among_nine.own
    assert alone.own is not None
    assert among_nine.simultaneous is not None
    assert among_nine.simultaneous[0] < alone.own[0] < alone.own[1] < among_nine.simultaneous[1]


def test_a_line_that_is_decided_eases_the_next_one() -> None:
    doubtful, near, clear = around(1.05, 8, 0.5), around(MARGIN, 8, 0.5), around(4, 8)
    before, *_ = verdicts(TWO, [line(doubtful), line(near)], MARGIN, 0.0)
    after, *_ = verdicts(TWO, [line(doubtful), line(clear)], MARGIN, 0.0)
    assert (before.verdict, after.verdict) == (Verdict.undecided, Verdict.worse)
    assert before.p_loss is not None
    assert after.p_loss == pytest.approx(before.p_loss / 2)


def test_lines_in_another_order_have_the_same_verdicts() -> None:
    lines = [line(drawn(seed, mean, 12)) for seed, mean in enumerate([-0.5, 0, 0.5, 1, 1.5, 2, 4])]
    found = verdicts(DESIGN, lines, MARGIN, 0.01)
    assert verdicts(DESIGN, lines[::-1], MARGIN, 0.01) == found[::-1]


def test_a_table_without_lines_has_no_verdicts() -> None:
    assert verdicts(DESIGN, [], MARGIN, 0.0) == []


# --- what a look may use


def test_a_look_uses_the_first_seeds_of_the_file_alone() -> None:
    values = drawn(7, 0.9, 20, sd=1.0)
    found = one(DESIGN, values[:8])
    assert (found.look, found.next_look) == (1, 2)
    for more in (1, 2, 3):
        assert one(DESIGN, values[: 8 + more]) == replace(
            found, reason=f"waits for seeds: it has {8 + more} of the first 12"
        )
    assert one(DESIGN, [*values[:8], *drawn(2, -50, 3)]).p_no_loss == found.p_no_loss


def test_a_line_without_all_seeds_skips_the_look_and_the_others_do_not() -> None:
    whole, hole = around(4, 8), [*around(4, 6), None, 4.1]
    first, second = verdicts(replace(DESIGN, looks=(8, 12)), [line(whole), line(hole)], MARGIN, 0.0)
    assert first.verdict is Verdict.worse
    assert second == LineVerdict(
        verdict=Verdict.undecided,
        look=None,
        n=0,
        p_no_loss=None,
        p_loss=None,
        mean=None,
        sd=None,
        own=None,
        simultaneous=None,
        reason="waits for seeds: it has 7 of the first 8",
        next_look=0,
        dead_pairs=0,
    )


def test_a_missing_line_counts_among_those_that_are_corrected_for() -> None:
    values = drawn(3, 1.25, 8)
    alone, (beside, _) = one(TWO, values), verdicts(TWO, [line(values), line([])], MARGIN, 0.0)
    assert alone.p_loss is not None
    assert beside.p_loss == pytest.approx(2 * alone.p_loss)


def test_a_line_is_not_decided_at_a_look_that_it_skips() -> None:
    # Its p-value is enough for one line, and at the second look it is the only one that is left; but it lacks a seed.
    doubtful, clear = around(1.15, 4, 0.25), line([*[4.0] * 4, *around(4, 4)])  # silent at first
    decided = [line(around(4, 8)) for _ in range(3)]
    assert one(TWO, doubtful).verdict is Verdict.worse
    waits, *_ = verdicts(TWO, [line([*doubtful, *around(1.15, 3, 0.25)]), clear, *decided], MARGIN, 0.0)
    assert (waits.verdict, waits.look, waits.next_look) == (Verdict.undecided, 0, 1)


def test_a_verdict_stays_with_its_p_value_whatever_comes_later() -> None:
    early = around(4, 5)
    found = one(DESIGN, early)
    assert found.verdict is Verdict.worse
    for later in (around(-9, 3), around(-9, 15), [None, 4.0, 4.0]):
        assert one(DESIGN, [*early, *later]) == found
    assert one(DESIGN, [*early, 0, 0, 0], dead=[6]) == found


def test_an_earlier_look_still_counts_in_the_p_value() -> None:
    # At 4 pairs p is near alpha / 2; at 8 the mean lies at the margin.
    strong, weak = around(1.0, 4, 0.25), around(0.0, 4, 0.5)
    at_first, at_last = one(TWO, strong), one(TWO, [*strong, *weak])
    assert at_first.verdict is Verdict.undecided
    assert at_last.look == 1
    assert at_last.mean == pytest.approx(MARGIN)
    assert at_last.p_loss == at_first.p_loss
    assert at_last.reason == "undecided at the last look"
    assert at_last.next_look is None


def test_what_a_line_waits_for_is_its_next_look() -> None:
    values = drawn(7, 0.9, 20, sd=1.0)
    assert [one(DESIGN, values[:n]).next_look for n in (0, 4, 5, 7, 8, 11, 12)] == [0, 0, 1, 1, 2, 2, 3]


# --- silent looks and dead seeds


@pytest.mark.parametrize("h", [0.0, 0.01])
@pytest.mark.parametrize("value", [0.0, 4.0, 0.1 + 0.2])
def test_equal_differences_never_give_a_verdict(value: float, h: float) -> None:
    found = one(DESIGN, [value] * 5, h=h)
    assert (found.verdict, found.look, found.next_look) == (Verdict.undecided, 0, 1)
    assert (found.p_no_loss, found.p_loss, found.own, found.simultaneous) == (None, None, None, None)
    assert found.reason.startswith("silent: the sd of the differences, 0, is")
    last = one(DESIGN, [value] * 20, h=h)
    assert (last.verdict, last.look, last.next_look) == (Verdict.undecided, 3, None)


def test_a_spread_of_rounding_is_none() -> None:
    assert one(DESIGN, [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]).reason.startswith("silent: ")


def test_the_limit_is_half_a_step_of_the_metric() -> None:
    values = around(-2, 5, 0.05)  # sd 0.0548
    silent, usable = one(DESIGN, values, h=0.11), one(DESIGN, values, h=0.109)
    assert silent.reason == (
        "silent: the sd of the differences, 0.055, is below half a step of the metric, 0.055, so nothing is tested"
    )
    assert (silent.verdict, silent.mean, silent.p_no_loss) == (Verdict.undecided, usable.mean, None)
    assert usable.verdict is Verdict.not_worse


def test_a_silent_look_does_not_count_later() -> None:
    # Four ties of -2, then a spread: with the first look p would be nearly 0, by the second alone it is not.
    values = [-2.0, -2.0, -2.0, -2.001, 2.0, 2.4, 2.6, 3.0]
    found = one(TWO, values, h=0.01)
    assert found.look == 1
    assert found.p_no_loss is not None
    assert found.p_no_loss > 0.2
    assert one(TWO, values, h=0.0).verdict is Verdict.not_worse


def test_a_pair_with_a_dead_cell_gives_no_verdict_and_no_more_seeds() -> None:
    found = one(DESIGN, around(4, 5), dead=[2])
    assert (found.verdict, found.look, found.n, found.dead_pairs) == (Verdict.undecided, 0, 5, 1)
    assert found.reason == "nothing is tested, as 1 of 5 pairs died"
    assert found.next_look is None
    assert (found.p_loss, found.own, found.simultaneous) == (None, None, None)
    assert found.mean == pytest.approx(4.02)


def test_a_dead_pair_needs_no_difference() -> None:
    found = one(DESIGN, [4.0, 4.1, None, 4.2, 4.1], dead=[2])
    assert (found.look, found.n, found.mean, found.sd, found.dead_pairs) == (0, 5, None, None, 1)
    assert "1 of 5 pairs died" in found.reason


def test_what_is_known_of_dead_and_missing_pairs_of_the_look_is_said_and_at_most_three_by_name() -> None:
    notes = {index: f"seed {index} fell ill" for index in range(1, 6)}
    values: list[float | None] = [4.0, None, None, None, None, None, 4.0, 4.1]
    (waits,) = verdicts(DESIGN, [replace(line(values), notes=notes)], MARGIN, 0.0)
    assert waits.reason == (
        "waits for seeds: it has 1 of the first 5 (seed 1 fell ill, seed 2 fell ill, seed 3 fell ill, 1 more)"
    )
    (dead,) = verdicts(DESIGN, [replace(line(values[:5], dead=[1, 2, 3, 4]), notes=notes)], MARGIN, 0.0)
    assert dead.reason.startswith("nothing is tested, as 4 of 5 pairs died (seed 1 fell ill, ")


def test_the_seeds_of_a_look_are_finished_before_a_dead_one_is_named() -> None:
    values = drawn(7, 0.9, 8, sd=1.0)
    waits = one(DESIGN, values[:7], dead=[5])
    assert (waits.look, waits.reason, waits.next_look) == (0, "waits for seeds: it has 7 of the first 8", 1)
    found = one(DESIGN, values, dead=[5])
    assert (found.look, found.next_look, found.dead_pairs) == (1, None, 1)
    assert found.p_loss == waits.p_loss  # of the first look, in which all were alive


def test_none_dead_of_n_leaves_the_rate_of_three_over_n() -> None:
    assert largest_death_rate(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert largest_death_rate(0, 1000) == pytest.approx(3 / 1000, rel=0.01)
    assert largest_death_rate(4, 4) == 1
    # The rate at which 2 or fewer of 12 die with a probability of 5%.
    assert stats.binom.cdf(2, 12, largest_death_rate(2, 12)) == pytest.approx(0.05)


@pytest.mark.parametrize(("died", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_more_dead_than_there_are_is_refused(died: int, n: int) -> None:
    with pytest.raises(ValueError, match="died must be from 0 to n"):
        largest_death_rate(died, n)


# --- futility


def test_a_line_at_the_margin_is_left_alone_from_the_second_look_on() -> None:
    values, design = around(MARGIN, 20, 0.1), LookDesign(looks=(12, 16, 20))
    first, second = one(design, values[:12]), one(design, values[:16])
    assert (first.reason, first.next_look) == ("waits for seeds: it has 12 of the first 16", 1)
    assert second.reason.startswith("undecided, left alone: ")
    assert second.next_look is None
    assert second.own is not None


def test_seeds_of_a_line_that_was_left_alone_are_used() -> None:
    values = [*around(MARGIN, 8, 0.1), *around(3, 12, 0.1)]
    assert one(DESIGN, values[:8]).reason.startswith("undecided, left alone")
    found = one(DESIGN, values)
    assert (found.verdict, found.look) == (Verdict.worse, 3)


def test_a_line_with_a_chance_goes_on() -> None:
    found = one(DESIGN, around(MARGIN + 0.3, 8, 0.5))
    assert (found.verdict, found.next_look) == (Verdict.undecided, 2)


def at_the_edge(design: LookDesign, level: float, more: float) -> list[float]:
    """Return 8 differences whose chance of a loss at the next and last look is just below (above) 0.1."""
    # t(20) is drawn round t sqrt(20/8) with the spread sqrt(20/8 - 1) and 7 degrees of freedom.
    need = stats.t.isf(stats.norm.sf(critical_value(level, design.looks, design.shape)), 19)
    t = (need + stats.t.ppf(0.1, 7) * math.sqrt(20 / 8 - 1)) / math.sqrt(20 / 8) + more
    sd = 0.1 * math.sqrt(8 / 7)
    return around(MARGIN + t * sd / math.sqrt(8), 8, 0.1)


@pytest.mark.parametrize(("more", "goes_on"), [(-0.01, False), (0.01, True)])
def test_the_chance_is_the_predictive_power_of_the_look_to_come(more: float, goes_on: bool) -> None:
    design = LookDesign(looks=(5, 8, 20))
    found = one(design, at_the_edge(design, 0.025, more))
    assert (found.verdict, found.next_look) == (Verdict.undecided, 2 if goes_on else None)


def test_the_chance_grows_with_every_line_that_is_decided() -> None:
    design = LookDesign(looks=(5, 8, 20))
    own = line(at_the_edge(design, 0.025, 0.01))
    beside_decided, _ = verdicts(design, [own, line(around(4, 8))], MARGIN, 0.0)
    beside_open, _ = verdicts(design, [own, line(around(MARGIN, 8))], MARGIN, 0.0)
    assert (beside_decided.next_look, beside_open.next_look) == (2, None)


# --- many tables


def test_a_table_is_decided_as_it_is_among_many() -> None:
    draws = np.random.default_rng(8).normal([[0], [0.5], [1.0], [2.0]], 0.6, (30, 4, 20))
    draws[:, 0, :5] = draws[:, 0, :1]  # silent at the first look
    means = np.stack([draws[..., :n].mean(-1) for n in DESIGN.looks], axis=-1)
    sds = np.stack([draws[..., :n].std(-1, ddof=1) for n in DESIGN.looks], axis=-1)
    found = replay(DESIGN, means, np.maximum(sds, 1e-9), sds > 0.005, MARGIN)
    for index, table in enumerate(draws.tolist()):
        for number, each in enumerate(verdicts(DESIGN, [line(values) for values in table], MARGIN, 0.01)):
            assert (found.no_loss[index, number], found.loss[index, number]) == (
                each.verdict is Verdict.not_worse,
                each.verdict is Verdict.worse,
            )
            assert found.look[index, number] == (-1 if each.verdict is Verdict.undecided else each.look)
            assert found.p[:, index, number] == pytest.approx([each.p_no_loss, each.p_loss], rel=1e-6)


@pytest.mark.parametrize("shape", [0.0, 0.25, 0.5])
def test_wrong_verdicts_at_the_margin_are_as_rare_as_the_level_says(shape: float) -> None:
    tables, alpha = 4000, 0.05
    random = np.random.default_rng(9)
    baselines = random.standard_normal((tables, 3, 20))
    draws = MARGIN + random.standard_normal((tables, 9, 20)) - baselines[:, np.arange(9) % 3]
    means = np.stack([draws[..., :n].mean(-1) for n in DESIGN.looks], axis=-1)
    sds = np.stack([draws[..., :n].std(-1, ddof=1) for n in DESIGN.looks], axis=-1)
    found = replay(replace(DESIGN, shape=shape), means, sds, np.ones(means.shape, dtype=bool), MARGIN)
    largest = alpha / 2 + 3 * math.sqrt(alpha / 2 * (1 - alpha / 2) / tables)
    for family in (found.no_loss, found.loss):
        assert 0.01 < family.any(-1).mean() <= largest


def test_where_looks_speak_for_both_verdicts_the_smaller_p_value_is_the_verdict() -> None:
    # At the first look line 0 is below the margin, but not by enough for nine lines. At the second look the others
    # are decided, so that the first look of line 0 would be enough, but now it lies far above the margin.
    means, sds = np.zeros((9, 2)), np.ones((9, 2))
    means[0], sds[0] = (0.2, 4.0), (0.075, 0.3)
    means[1:], sds[1:] = (0.5, -4.0), (0.5, 0.3)
    tested = np.ones(means.shape, dtype=bool)
    found, alone = replay(TWO, means, sds, tested, MARGIN), replay(TWO, means[:1], sds[:1], tested[:1], MARGIN)
    assert (alone.no_loss[0], alone.look[0]) == (True, 0)
    assert (found.p[:, 0] <= 0.025).all()
    assert (found.loss[0], found.no_loss[0], found.look[0]) == (True, False, 1)
    assert found.no_loss[1:].all()
