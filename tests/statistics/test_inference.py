import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from strive.errors import UnpairedError
from strive.statistics import inference
from strive.statistics.inference import (
    Difference,
    Summary,
    Verdict,
    best,
    difference,
    holm,
    judge,
    simultaneous,
    summarise,
)

# Student (1908), "The probable error of a mean", Biometrika 6:1: hours of sleep gained by ten patients with two drugs.
DEXTRO = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
LAEVO = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))


def two_sided_p(t: float, df: int) -> float:
    """The closed forms of Student's distribution for 1 and 2 degrees of freedom."""
    return {1: 1 - 2 / math.pi * math.atan(abs(t)), 2: 1 - abs(t) / math.sqrt(2 + t * t)}[df]


def of(*values: float) -> Difference:
    """Return the paired difference whose single differences are these."""
    return difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))


def holds(low: float | None, high: float | None, value: float) -> bool:
    assert low is not None
    assert high is not None
    return low <= value <= high


def with_spread(n: int, mean: float, sd: float) -> Difference:
    return Difference(n=n, mean=mean, sd=sd, low=-math.inf, high=math.inf, p=0.5)


# --- summarise


def test_three_seeds_have_the_interval_of_the_printed_t_table() -> None:
    found = summarise([9.1, 9.3, 8.9])
    # mean 27.3 / 3; squares 0 + 0.04 + 0.04 over 2; t(0.975, 2) = 4.303
    assert (found.n, found.mean, found.sd) == (3, pytest.approx(9.1), pytest.approx(0.2))
    assert found.low == pytest.approx(9.1 - 4.303 * 0.2 / math.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(9.1 + 4.303 * 0.2 / math.sqrt(3), abs=1e-4)


def test_two_seeds_have_a_very_wide_interval() -> None:
    found = summarise([9.0, 9.4])
    # sd = 0.4 / sqrt(2), so sd / sqrt(2) = 0.2; t(0.975, 1) = 12.706
    assert found.sd == pytest.approx(0.4 / math.sqrt(2))
    assert (found.low, found.high) == (pytest.approx(9.2 - 2.5412, abs=1e-4), pytest.approx(9.2 + 2.5412, abs=1e-4))


def test_one_seed_has_no_spread() -> None:
    assert summarise([9.2]) == Summary(n=1, mean=9.2, sd=None, low=None, high=None, next_low=None, next_high=None)


@pytest.mark.parametrize("values", [[9.3, 9.3], [0.0, 0.0, 0.0], [0.1 + 0.2, 0.3]])
def test_equal_values_have_a_spread_of_zero_and_no_interval(values: list[float]) -> None:
    found = summarise(values)
    assert (found.mean, found.sd, found.low, found.high) == (pytest.approx(values[0]), 0.0, None, None)
    assert (found.next_low, found.next_high) == (None, None)


def test_one_further_value_has_the_prediction_interval_of_the_formula() -> None:
    found = summarise([9.1, 9.3, 8.9])
    # sd 0.2, t(0.975, 2) = 4.303: 4.303 x 0.2 x sqrt(1 + 1/3)
    half = 4.303 * 0.2 * math.sqrt(4 / 3)
    assert (found.next_low, found.next_high) == (
        pytest.approx(9.1 - half, abs=2e-4),
        pytest.approx(9.1 + half, abs=2e-4),
    )


# The interval of the mean holds a further value with P(|T| < t / sqrt(n + 1)), T and t of n - 1 degrees of freedom.
@pytest.mark.parametrize(("n", "in_the_mean_s"), [(3, 0.84), (5, 0.68), (10, 0.49), (20, 0.35)])
def test_a_further_value_lies_in_the_prediction_interval_in_95_of_100_cases(n: int, in_the_mean_s: float) -> None:
    draws = np.random.default_rng(n).normal(30, 0.6, (20_000, n + 1))
    in_prediction = in_mean = 0
    for *values, further in draws.tolist():
        found = summarise(values)
        in_prediction += holds(found.next_low, found.next_high, further)
        in_mean += holds(found.low, found.high, further)
    assert in_prediction / len(draws) == pytest.approx(0.95, abs=0.005)
    assert in_mean / len(draws) == pytest.approx(in_the_mean_s, abs=0.01)


def test_a_spread_far_below_the_mean_is_not_lost() -> None:
    # The squares are 36, 9, 9, 36: their sum over 3 is 30. Sums of squares of the values themselves would cancel.
    found = summarise([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16])
    assert (found.mean, found.sd) == (1e9 + 10, pytest.approx(math.sqrt(30), rel=1e-12))


def test_a_hundred_thousand_values_have_the_normal_interval() -> None:
    found = summarise([8.0, 10.0] * 50_000)
    assert (found.n, found.mean, found.sd) == (100_000, 9.0, pytest.approx(math.sqrt(100_000 / 99_999)))
    assert found.high == pytest.approx(9 + 1.960 / math.sqrt(100_000), abs=2e-6)


def test_seeds_in_another_order_give_the_same_bits() -> None:
    assert len({summarise(values) for values in itertools.permutations([9.31, 0.1, 9.07, 1e-9, 1e9])}) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    with pytest.raises(ValueError, match=f"value 1 is {bad}; statistics need finite numbers"):
        summarise([9.0, bad])


def test_no_value_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one value, got none"):
        summarise([])


def test_intervals_of_a_percentage_end_at_0_and_100() -> None:
    low, high = summarise([0.1, 0.2, 0.3], (0, 100)), summarise([99.9, 99.8, 99.7], (0, 100))
    # 0.2 -+ 4.303 x 0.1 / sqrt(3)
    assert (low.low, low.high) == (0, pytest.approx(0.2 + 0.2484, abs=1e-4))
    assert (low.next_low, high.next_high, high.high) == (0, 100, 100)
    assert high.low == pytest.approx(99.8 - 0.2484, abs=1e-4)


def test_a_mean_beyond_the_bounds_shows_that_there_are_none() -> None:
    assert summarise([310.0, 320.0], (0, 100)) == summarise([310.0, 320.0])


# --- difference


def test_students_sleep_data_give_the_published_t_interval_and_p() -> None:
    found = difference(DEXTRO, LAEVO)
    # As R prints t.test(..., paired = TRUE) on its data set sleep:
    # t = -4.0621, df = 9, p-value = 0.002833, interval -2.4598858 to -0.7001142, mean -1.58
    assert (found.n, found.mean) == (10, pytest.approx(-1.58))
    assert found.sd is not None
    assert found.mean / (found.sd / math.sqrt(10)) == pytest.approx(-4.0621, abs=5e-5)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert (found.low, found.high) == (pytest.approx(-2.4598858, abs=5e-8), pytest.approx(-0.7001142, abs=5e-8))


def test_three_pairs_agree_with_the_formula_from_sums() -> None:
    own, baseline = {0: 9.4, 1: 9.1, 2: 9.6}, {0: 9.1, 1: 9.0, 2: 8.9}
    differences = [0.3, 0.1, 0.7]
    total, squares = sum(differences), sum(each**2 for each in differences)
    t = total / math.sqrt((3 * squares - total**2) / 2)
    assert difference(own, baseline).p == pytest.approx(two_sided_p(t, 2))


def test_two_pairs_have_one_degree_of_freedom() -> None:
    # Mean 0.3, sd 0.2 / sqrt(2), so t = 0.3 / 0.1 = 3; t(0.975, 1) = 12.706
    found = of(0.2, 0.4)
    assert found.p == pytest.approx(two_sided_p(3, 1))
    assert (found.low, found.high) == (pytest.approx(0.3 - 1.2706, abs=1e-4), pytest.approx(0.3 + 1.2706, abs=1e-4))


def test_one_pair_has_a_difference_and_nothing_else() -> None:
    found = difference({0: 9.5}, {0: 9.0})
    assert found == Difference(n=1, mean=0.5, sd=None, low=None, high=None, p=None)


def test_differences_that_are_equal_but_for_rounding_are_not_tested() -> None:
    assert 9.3 - 9.2 != 9.5 - 9.4
    found = difference({0: 9.3, 1: 9.5}, {0: 9.2, 1: 9.4})
    assert found == Difference(n=2, mean=found.mean, sd=0.0, low=None, high=None, p=None)
    assert found.mean == pytest.approx(0.1)


def test_rounding_is_measured_by_the_errors_and_not_by_their_difference() -> None:
    # The two differences of 0.01 are apart by more than 1e-12 of 0.01, and by less than 1e-12 of 90.
    assert abs((90.31 - 90.3) - (70.21 - 70.2)) > 1e-12 * 0.01
    assert difference({0: 90.31, 1: 70.21}, {0: 90.3, 1: 70.2}).p is None


def test_the_smallest_difference_between_seeds_is_not_taken_for_rounding() -> None:
    # One image of 50,000 is 0.002 points.
    assert difference({0: 9.3, 1: 9.502}, {0: 9.2, 1: 9.4}).sd == pytest.approx(0.002 / math.sqrt(2))


def test_what_the_two_sides_share_does_not_count() -> None:
    # By the unpaired formula the spread between the seeds, 1, would drown the difference.
    assert difference({0: 8.1, 1: 9.2, 2: 10.3}, {0: 8.0, 1: 9.0, 2: 10.0}).p == pytest.approx(
        two_sided_p(0.2 / (0.1 / math.sqrt(3)), 2)
    )


def test_a_tiny_p_is_not_rounded_to_nothing() -> None:
    found = of(1 - 1e-6, 1.0, 1 + 1e-6)
    # For 2 degrees of freedom and a large t, p = 1 / t^2, here (1e-6)^2 / 3
    assert found.p == pytest.approx(1e-12 / 3, rel=1e-6)


def test_pairs_are_found_by_key_and_not_by_order() -> None:
    backwards = dict(reversed(LAEVO.items()))
    assert difference(DEXTRO, backwards) == difference(DEXTRO, LAEVO)


def test_changing_sides_changes_the_sign_alone() -> None:
    one, other = difference(DEXTRO, LAEVO), difference(LAEVO, DEXTRO)
    assert (other.mean, other.sd, other.p) == (-one.mean, one.sd, one.p)
    assert one.low is not None
    assert other.high == -one.low


def test_keys_that_one_side_lacks_are_named() -> None:
    with pytest.raises(UnpairedError, match=r"same keys on both sides: the baseline lacks 2$"):
        difference({0: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0, 1: 1.0})
    with pytest.raises(UnpairedError, match=r"own lacks \(3, 'a'\); the baseline lacks \(0, 'a'\)"):
        difference({(0, "a"): 1.0}, {(3, "a"): 1.0})


def test_of_many_missing_keys_five_are_named() -> None:
    with pytest.raises(UnpairedError, match=r"the baseline lacks 1, 2, 3, 4, 5, \.\.\.$"):
        difference(dict.fromkeys(range(10), 1.0), {0: 1.0})


def test_nan_on_either_side_is_refused_with_its_key() -> None:
    for sides in (({7: math.nan}, {7: 1.0}), ({7: 1.0}, {7: math.nan})):
        with pytest.raises(ValueError, match="value of 7 is nan"):
            difference(*sides)


def test_no_pairs_have_no_difference() -> None:
    with pytest.raises(ValueError, match="at least one pair, got none"):
        difference({}, {})


# --- holm


def test_holms_worked_example() -> None:
    # Wikipedia, "Holm-Bonferroni method": 0.005 x 4, 0.01 x 3, 0.03 x 2, then the larger of 0.04 x 1 and 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    # Most to be small, so that some survive the correction; rounded, so that some are equal.
    ps = (np.random.default_rng(seed).random(30) ** 4).round(3).tolist()
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1].tolist())


def test_what_was_not_tested_stays_none_and_does_not_count() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


def test_equal_p_values_stay_equal_and_none_goes_above_one() -> None:
    assert holm([0.04, 0.04]) == pytest.approx([0.08, 0.08])
    assert holm([0.6, 0.7, 0.0]) == [1.0, 1.0, 0.0]


def test_a_single_p_value_is_not_corrected() -> None:
    assert holm([0.037]) == [0.037]


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], or None for no test, got"):
        holm([0.5, bad])


# --- judge

# One difference of mean 0.2 and sd 0.1 over 3 seeds: t = (0.2 - 0.5) / (0.1 / sqrt(3)) against a margin of 0.5
BELOW = (0.1, 0.2, 0.3)
T = 0.3 / (0.1 / math.sqrt(3))
P = two_sided_p(T, 2) / 2  # 0.0175


def test_a_difference_well_below_the_margin_shows_no_loss() -> None:
    (found,) = judge([of(*BELOW)], 0.5)
    assert found.verdict is Verdict.not_worse
    assert (found.p_no_loss, found.p_loss) == (pytest.approx(P), pytest.approx(1 - P))


def test_a_difference_well_above_the_margin_shows_a_loss() -> None:
    (found,) = judge([of(0.7, 0.8, 0.9)], 0.5)
    assert found.verdict is Verdict.worse
    assert (found.p_no_loss, found.p_loss) == (pytest.approx(1 - P), pytest.approx(P))


def test_a_loss_within_the_margin_that_is_surely_there_is_no_loss() -> None:
    # Worse than the baseline for certain, but by less than the margin.
    found = of(0.2, 0.21, 0.19, 0.2, 0.205)
    assert found.low is not None
    assert found.low > 0
    assert judge([found], 0.5)[0].verdict is Verdict.not_worse


def test_two_differences_are_corrected_by_holm() -> None:
    # Alone either shows no loss, at 0.0175; together both have 2 x 0.0175 > 0.025.
    found = judge([of(*BELOW), of(*BELOW)], 0.5)
    assert [each.p_no_loss for each in found] == pytest.approx([2 * P, 2 * P])
    assert [each.verdict for each in found] == [Verdict.undecided, Verdict.undecided]


def test_holm_takes_the_second_difference_at_its_own_p() -> None:
    # sd 0.01: t is ten times T, p = 0.00018, and what is left for the other is a family of one.
    found = judge([of(*BELOW), of(0.19, 0.2, 0.21)], 0.5)
    assert [each.p_no_loss for each in found] == pytest.approx([P, two_sided_p(10 * T, 2)])
    assert [each.verdict for each in found] == [Verdict.not_worse, Verdict.not_worse]


def test_the_two_questions_are_two_families() -> None:
    # One below and one above: for either question the other's p is 1 - P, so each is corrected by 2.
    found = judge([of(*BELOW), of(0.7, 0.8, 0.9)], 0.5)
    assert [each.p_no_loss for each in found] == pytest.approx([2 * P, 1 - P])
    assert [each.p_loss for each in found] == pytest.approx([1 - P, 2 * P])


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.1, 0.2, 0.25, 0.26, 0.3, 0.5, 0.7, 0.75, 0.8, 1.5])
def test_one_verdict_is_what_the_interval_says(shift: float) -> None:
    found = of(shift - 0.1, shift, shift + 0.1)
    assert found.low is not None
    assert found.high is not None
    expected = Verdict.not_worse if found.high < 0.5 else Verdict.worse if found.low > 0.5 else Verdict.undecided
    assert judge([found], 0.5)[0].verdict is expected


def test_a_difference_of_exactly_the_margin_is_undecided_for_ever() -> None:
    (found,) = judge([of(0.25, 0.5, 0.75)], 0.5)
    assert found == inference.Judgement(verdict=Verdict.undecided, p_no_loss=0.5, p_loss=0.5)


@pytest.mark.parametrize("values", [(-3.0,), (3.0,), (-3.0, -3.0), (0.5, 0.5)])
def test_without_a_spread_there_is_never_a_verdict(values: tuple[float, ...]) -> None:
    (found,) = judge([of(*values)], 0.5)
    assert found == inference.Judgement(verdict=Verdict.undecided, p_no_loss=None, p_loss=None)


def test_what_has_no_spread_does_not_count_in_the_family() -> None:
    found = judge([of(-3.0), of(*BELOW), of(-3.0, -3.0)], 0.5)
    assert found[1].p_no_loss == pytest.approx(P)
    assert found[1].verdict is Verdict.not_worse


def test_many_seeds_show_a_tiny_distance_from_the_margin() -> None:
    # sd 1 over 1,000,000 seeds: a standard error of 0.001, and a distance of 0.01 is ten of them.
    assert judge([with_spread(10**6, 0.49, 1.0)], 0.5)[0].verdict is Verdict.not_worse
    assert judge([with_spread(10**6, 0.51, 1.0)], 0.5)[0].verdict is Verdict.worse


def test_no_differences_have_no_judgements() -> None:
    assert judge([], 0.5) == []


@pytest.mark.parametrize("bad", [0.0, -0.5, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="margin must be finite and above 0, got"):
        judge([of(*BELOW)], bad)


def test_bounds_cut_the_intervals_of_a_difference_and_change_no_test() -> None:
    sides = {0: 90.0, 1: 10.0}, {0: 1.0, 1: 2.0}
    free, bounded = difference(*sides), difference(*sides, (-100, 100))
    # Mean 48.5, sd 57.3: 12.7 x 57.3 / sqrt(2) = 515.
    assert (bounded.low, bounded.high, bounded.p) == (-100, 100, free.p)
    assert judge([bounded], 0.5) == judge([free], 0.5)
    assert simultaneous([free], (-100, 100)) == [(-100, 100)]


# --- simultaneous


def nine_lines(n: int, random: np.random.Generator) -> list[Difference]:
    """Nine nets without any difference, against three baselines that three of them share each."""
    baselines, own = random.normal(0, 1, (3, n)).tolist(), random.normal(0, 1, (9, n)).tolist()
    return [
        difference(dict(enumerate(values)), dict(enumerate(baselines[line % 3]))) for line, values in enumerate(own)
    ]


@pytest.mark.parametrize("n", [3, 10])
def test_simultaneous_intervals_hold_all_true_differences_at_once_in_95_of_100_cases(n: int) -> None:
    random, sweeps = np.random.default_rng(n), 3000
    together = alone = 0
    for _ in range(sweeps):
        found = nine_lines(n, random)
        together += all(each is not None and each[0] <= 0 <= each[1] for each in simultaneous(found))
        alone += all(holds(each.low, each.high, 0) for each in found)
    # Three standard errors below 0.95; shared baselines make Bonferroni's intervals a little too wide.
    assert 0.938 <= together / sweeps <= 0.975
    assert alone / sweeps < 0.75


def test_a_single_difference_has_its_own_interval() -> None:
    found = of(0.1, 0.2, 0.4)
    assert simultaneous([found]) == [(pytest.approx(found.low), pytest.approx(found.high))]


def test_two_differences_have_intervals_of_97_and_a_half_percent() -> None:
    found = simultaneous([of(0.1, 0.2, 0.3), of(1.0), of(1.1, 1.2, 1.3), of(2.0, 2.0)])
    # t with 2 degrees of freedom whose two-sided p is 0.025: 1 - |t| / sqrt(2 + t^2) = 0.025
    t = 0.975 * math.sqrt(2 / (1 - 0.975**2))
    half = t * 0.1 / math.sqrt(3)
    assert found[0] == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert found[2] == (pytest.approx(1.2 - half), pytest.approx(1.2 + half))
    assert (found[1], found[3]) == (None, None)


def test_an_interval_on_one_side_of_the_margin_has_the_verdict_of_that_side() -> None:
    random = np.random.default_rng(0)
    verdicts = set()
    for _ in range(300):
        lines = [of(*random.normal(shift, 0.2, 4)) for shift in (-0.5, 0.0, 0.5, 1.0, 1.5)]
        for interval, judged in zip(simultaneous(lines), judge(lines, 0.5), strict=True):
            assert interval is not None
            if interval[1] < 0.5:
                assert judged.verdict is Verdict.not_worse
            elif interval[0] > 0.5:
                assert judged.verdict is Verdict.worse
            verdicts.add(judged.verdict)
    assert verdicts == set(Verdict)


# --- best


def above(condition: dict[int, float], *more: float) -> dict[int, float]:
    return {seed: value + each for (seed, value), each in zip(condition.items(), more, strict=True)}


FIRST = {0: 1.0, 1: 3.0, 2: 2.0}


def test_the_condition_below_every_other_is_best() -> None:
    # t = 0.6 / (0.1 / sqrt(3)): p = 0.009, times 2; then 0.5 / ...: p = 0.013, times 1.
    others = [above(FIRST, 0.5, 0.6, 0.7), above(FIRST, 0.4, 0.5, 0.6)]
    assert best([FIRST, *others]) == 0
    assert best([others[0], FIRST, others[1]]) == 1
    assert best([*others, FIRST]) == 2


def test_merely_smaller_is_not_best() -> None:
    assert best([FIRST, above(FIRST, 0.1, -0.1, 0.3)]) is None


def test_best_is_below_every_other_and_not_below_most() -> None:
    assert best([FIRST, above(FIRST, 0.5, 0.6, 0.7), above(FIRST, 0.1, -0.1, 0.3)]) is None


def test_best_is_corrected_for_the_number_of_others() -> None:
    # t with 2 degrees of freedom and p = 0.03: t^2 / (2 + t^2) = 0.97^2
    middle = math.sqrt(2 * 0.97**2 / (1 - 0.97**2)) * 0.1 / math.sqrt(3)
    other = above(FIRST, middle - 0.1, middle, middle + 0.1)
    assert best([FIRST, other]) == 0
    assert best([FIRST, other, other]) is None  # 2 x 0.03


def test_equal_conditions_are_not_best() -> None:
    assert best([FIRST, dict(FIRST)]) is None


def test_the_same_difference_for_every_seed_is_no_test() -> None:
    assert best([FIRST, above(FIRST, 1.0, 1.0, 1.0)]) is None


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [FIRST],
        [{0: 1.0}, {0: 9.0}],
        [{}, {}],
        [FIRST, {0: 9.0, 1: 9.1}],
        [FIRST, {0: 9.0, 1: 9.1, 3: 9.3}],
    ],
)
def test_what_cannot_be_paired_has_no_best(conditions: list[dict[int, float]]) -> None:
    assert best(conditions) is None


def test_best_refuses_nan() -> None:
    with pytest.raises(ValueError, match="is nan"):
        best([FIRST, {0: 9.0, 1: math.nan, 2: 9.0}])


def test_seeds_in_another_order_have_the_same_best() -> None:
    assert best([FIRST, dict(reversed(above(FIRST, 0.5, 0.6, 0.7).items()))]) == 0


# --- all


def test_importing_the_statistics_does_not_import_the_slow_libraries() -> None:
    check = (
        "import sys, strive.statistics.inference, strive.statistics.factorial;"
        "sys.exit(len({'statsmodels', 'scipy.stats', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
