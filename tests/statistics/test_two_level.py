"""Effects of two-level designs, against textbooks and statsmodels."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from strive.errors import EffectsError
from strive.statistics.factorial import factorial_effects
from strive.statistics.inference import difference
from strive.statistics.two_level import Contrasts, two_level_effects

# Montgomery, Design and Analysis of Experiments, 8th edition, example 6.2, table 6.10: filtration rate in gal/h, in
# standard order (A moves fastest): (1), a, b, ab, c, ac, bc, abc, d, ad, bd, abd, cd, acd, bcd, abcd.
FILTRATION = [45, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96]
# Its table 6.12.
FILTRATION_EFFECTS = {
    "A": 21.625, "B": 3.125, "C": 9.875, "D": 14.625, "AB": 0.125, "AC": -18.125, "AD": 16.625, "BC": 2.375,
    "BD": -0.375, "CD": -1.125, "ABC": 1.875, "ABD": 4.125, "ACD": -1.625, "BCD": -2.625, "ABCD": 1.375,
}  # fmt: skip
# Its example 8.1, table 8.4: the half fraction with D = ABC, I = ABCD; each is an effect with its alias.
HALF_EFFECTS = {"A": 19.0, "B": 1.5, "C": 14.0, "D": 16.5, "AB": -1.0, "AC": -18.5, "AD": 19.0}
# Box, Hunter and Hunter, Statistics for Experimenters (1978), section 10.2: pilot plant, yield in %, two runs of each
# in standard order (temperature moves fastest, then concentration, then catalyst).
PILOT = [(59, 61), (74, 70), (50, 58), (69, 67), (50, 54), (81, 85), (46, 44), (79, 81)]
PILOT_EFFECTS = {"T": 23.0, "C": -5.0, "K": 1.5, "TC": 1.5, "TK": 10.0, "CK": 0.0, "TCK": 0.5}
# Its section 12.2: reactor, % reacted, the half fraction with 5 = 1234 in standard order of factors 1 to 4: feed rate,
# catalyst, agitation, temperature; 5 is concentration. Resolution V: main effects and interactions of two.
REACTOR_HALF = [56, 53, 63, 65, 53, 55, 67, 61, 69, 45, 78, 93, 49, 60, 95, 82]
REACTOR_EFFECTS = {
    "1": -2.0, "2": 20.5, "3": 0.0, "4": 12.25, "5": -6.25, "12": 1.5, "13": 0.5, "14": -0.75, "15": 1.25, "23": 1.5,
    "24": 10.75, "25": 1.25, "34": 0.25, "35": 2.25, "45": -9.5,
}  # fmt: skip


def standard_order(names: str) -> list[dict[str, int]]:
    """Return the runs of a full factorial, {factor: -1 or 1}; the first factor moves fastest."""
    return [dict(zip(names, reversed(row), strict=True)) for row in product((-1, 1), repeat=len(names))]


def signs(runs: Sequence[Mapping[str, int]], words: Sequence[str]) -> list[list[int]]:
    return [[math.prod(run[factor] for factor in word) for run in runs] for word in words]


def effects(found: Contrasts) -> list[float]:
    return [each.estimate for each in found.contrasts]


def single(values: Sequence[float]) -> list[dict[int, float]]:
    return [{0: value} for value in values]


def random_runs(seeds: int = 4, spread: float = 1.0) -> list[dict[int, float]]:
    random = np.random.default_rng(3)
    shared = random.normal(size=seeds)
    return [
        {seed: 10 + run % 3 + shared[seed] + spread**run * random.normal() for seed in range(seeds)} for run in range(8)
    ]


THREE, WORDS = standard_order("abc"), ["a", "b", "c", "ab", "ac", "bc", "abc"]


def test_the_filtration_rates_have_their_printed_effects():
    runs = standard_order("ABCD")
    found = two_level_effects(single(FILTRATION), signs(runs, list(FILTRATION_EFFECTS)))
    assert effects(found) == list(FILTRATION_EFFECTS.values())


def test_the_half_fraction_of_the_filtration_rates_has_its_printed_effects():
    runs = [run | {"y": y} for run, y in zip(standard_order("ABCD"), FILTRATION, strict=True)]
    half = [run for run in runs if run["A"] * run["B"] * run["C"] == run["D"]]
    assert [run["y"] for run in half] == [45, 65, 60, 80, 100, 45, 75, 96]
    found = two_level_effects(single([run["y"] for run in half]), signs(half, list(HALF_EFFECTS)))
    assert effects(found) == list(HALF_EFFECTS.values())


def test_the_pilot_plant_has_its_printed_effects_with_their_standard_error():
    runs = standard_order("TCK")
    # Its two runs are no blocks: each has numbers of its own.
    values = [{(run, number): y for number, y in enumerate(pair)} for run, pair in enumerate(PILOT)]
    found = two_level_effects(values, signs(runs, list(PILOT_EFFECTS)))
    assert effects(found) == list(PILOT_EFFECTS.values())
    # The book's table 10.2: a variance of 8 with 8 degrees of freedom, an effect's standard error is 1.4.
    assert found.residual_sd == pytest.approx(math.sqrt(8))
    assert (found.df, found.blocked, found.pooled) == (8, False, True)
    low, high = found.contrasts[0].alone
    assert low is not None
    assert high is not None
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 8) * math.sqrt(2), rel=1e-9)


def test_the_half_fraction_of_the_reactor_has_its_printed_effects():
    runs = [run | {"5": math.prod(run.values())} for run in standard_order("1234")]
    found = two_level_effects(single(REACTOR_HALF), signs(runs, list(REACTOR_EFFECTS)))
    assert effects(found) == list(REACTOR_EFFECTS.values())


def frame(runs: Sequence[Mapping[int, float]], design: Sequence[Mapping[str, int]]) -> pd.DataFrame:
    rows = [
        levels | {"seed": str(seed), "y": y}
        for run, levels in zip(runs, design, strict=True)
        for seed, y in run.items()
    ]
    return pd.DataFrame(rows)


def test_a_full_factorial_agrees_with_statsmodels_with_the_seed_as_a_block():
    runs = random_runs()
    found = two_level_effects(runs, signs(THREE, WORDS))
    fit = ols("y ~ C(seed) + a*b*c", frame(runs, THREE)).fit()
    table = anova_lm(fit, typ=1)
    names = [":".join(word) for word in WORDS]
    assert effects(found) == pytest.approx([2 * fit.params[name] for name in names])
    assert found.df == fit.df_resid
    low, high = zip(*(each.alone for each in found.contrasts), strict=True)
    assert low == pytest.approx([2 * fit.conf_int()[0][name] for name in names])
    assert high == pytest.approx([2 * fit.conf_int()[1][name] for name in names])
    wide = fit.conf_int(alpha=0.05 / 7)
    low, high = zip(*(each.simultaneous for each in found.contrasts), strict=True)
    assert low == pytest.approx([2 * wide[0][name] for name in names])
    assert high == pytest.approx([2 * wide[1][name] for name in names])
    smallest = min(table["PR(>F)"][name] for name in names)
    assert min(each.p for each in found.contrasts if each.p is not None) == pytest.approx(min(1, 7 * smallest))


def test_a_fraction_agrees_with_statsmodels():
    half = [run for run in standard_order("abcd") if run["a"] * run["b"] * run["c"] == run["d"]]
    runs, words = random_runs(3), ["a", "b", "c", "d", "ab", "ac", "ad"]
    found = two_level_effects(runs, signs(half, words))
    fit = ols("y ~ C(seed) + a + b + c + d + a:b + a:c + a:d", frame(runs, half)).fit()
    assert effects(found) == pytest.approx([2 * fit.params[":".join(word)] for word in words])
    assert found.df == fit.df_resid == 14
    assert found.residual_sd == pytest.approx(math.sqrt(fit.mse_resid))


def test_the_analysis_of_variance_of_a_full_factorial_has_the_same_p_values():
    runs = random_runs()
    found = two_level_effects(runs, signs(THREE, WORDS))
    anova = factorial_effects(frame(runs, THREE), "y", ["a", "b", "c"])
    by_word = {"".join(each.source): each for each in anova.effects}
    first = min(range(7), key=lambda index: by_word[WORDS[index]].p)
    assert found.contrasts[first].p == pytest.approx(min(1, 7 * by_word[WORDS[first]].p))
    unequal = [by_word[word].p_unequal or 1.0 for word in WORDS]
    second = unequal.index(min(unequal))
    assert found.contrasts[second].p_unequal == pytest.approx(min(1, 7 * min(unequal)))
    assert found.assumptions is not None
    for name in ("variance_ratio", "p_equal", "p_normal"):
        assert getattr(found.assumptions, name) == pytest.approx(getattr(anova.assumptions, name))


def test_where_spreads_differ_each_interval_is_that_of_a_paired_t_test():
    runs = random_runs(seeds=6, spread=2.5)
    found = two_level_effects(runs, signs(THREE, WORDS))
    assert not found.pooled
    sides = [
        {
            seed: sum(run[seed] for run, row in zip(runs, THREE, strict=True) if row["a"] == side) / 4
            for seed in range(6)
        }
        for side in (1, -1)
    ]
    paired = difference(*sides)
    assert found.contrasts[0].estimate == pytest.approx(paired.mean)
    assert found.contrasts[0].alone == pytest.approx((paired.low, paired.high))


def test_where_spreads_differ_and_no_seed_is_shared_it_is_welch_s_interval():
    random = np.random.default_rng(5)
    # Two runs: the one contrast is the difference of two means.
    runs = [
        {(run, number): float(random.normal(scale=scale)) for number in range(9)} for run, scale in enumerate((1, 30))
    ]
    found = two_level_effects(runs, [[-1, 1]])
    welch = stats.ttest_ind(list(runs[1].values()), list(runs[0].values()), equal_var=False)
    assert not found.pooled
    assert found.contrasts[0].p_unequal == pytest.approx(welch.pvalue)
    assert found.contrasts[0].alone == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_one_seed_has_effects_and_no_interval():
    found = two_level_effects(single(FILTRATION[:8]), signs(THREE, WORDS))
    assert found.assumptions is None
    assert {(each.simultaneous, each.alone, each.p, each.p_unequal) for each in found.contrasts} == {
        ((None, None), (None, None), None, None)
    }


def test_what_a_seed_does_to_all_runs_alike_is_no_effect_and_no_noise():
    runs = random_runs()
    moved = [{seed: value + 100 * seed for seed, value in run.items()} for run in runs]
    before, after = (two_level_effects(each, signs(THREE, WORDS)) for each in (runs, moved))
    assert effects(after) == pytest.approx(effects(before))
    assert after.residual_sd == pytest.approx(before.residual_sd)


def test_runs_of_other_sizes_holes_and_runs_without_any_spread_are_refused():
    runs = random_runs()
    with pytest.raises(EffectsError, match="unbalanced: runs have 3 to 4 values"):
        two_level_effects([dict(list(runs[0].items())[:3]), *runs[1:]], signs(THREE, WORDS))
    with pytest.raises(EffectsError, match="a value is missing"):
        two_level_effects([runs[0] | {0: math.nan}, *runs[1:]], signs(THREE, WORDS))
    with pytest.raises(EffectsError, match="no spread"):
        two_level_effects([{0: 1.0, 1: 1.0}] * 8, signs(THREE, WORDS))
