import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats  # type: ignore[import-untyped]
from statsmodels.formula.api import ols  # type: ignore[import-untyped]
from statsmodels.regression.mixed_linear_model import MixedLM  # type: ignore[import-untyped]
from statsmodels.stats.anova import anova_lm  # type: ignore[import-untyped]

from strive.errors import EffectsError
from strive.statistics.factorial import Effects, factorial_effects

# Montgomery, Design and Analysis of Experiments, the battery example of chapter 5: hours of life of four batteries, by
# material type and temperature (15, 70, 125 degrees Fahrenheit).
BATTERY = {
    (1, 15): (130, 155, 74, 180),
    (1, 70): (34, 40, 80, 75),
    (1, 125): (20, 70, 82, 58),
    (2, 15): (150, 188, 159, 126),
    (2, 70): (136, 122, 106, 115),
    (2, 125): (25, 70, 58, 45),
    (3, 15): (138, 110, 168, 160),
    (3, 70): (174, 120, 150, 139),
    (3, 125): (96, 104, 82, 60),
}
# The same book, the example of a factorial in blocks: the intensity at which each of four operators sees a target on a
# radar scope, by ground clutter and filter type.
RADAR = {
    ("low", 1): (90, 96, 100, 92),
    ("low", 2): (86, 84, 92, 81),
    ("medium", 1): (102, 106, 105, 96),
    ("medium", 2): (87, 90, 97, 80),
    ("high", 1): (114, 112, 108, 98),
    ("high", 2): (93, 91, 95, 83),
}
# The same book, the plasma etching example of chapter 6: a 2 x 2 x 2 factorial with two replicates.
ETCHING = {
    (0, 0, 0): (550, 604),
    (1, 0, 0): (669, 650),
    (0, 1, 0): (633, 601),
    (1, 1, 0): (642, 635),
    (0, 0, 1): (1037, 1052),
    (1, 0, 1): (749, 868),
    (0, 1, 1): (1075, 1063),
    (1, 1, 1): (729, 860),
}


def frame(data: Mapping[Any, Sequence[float]], *names: str, paired: bool) -> pd.DataFrame:
    """One row for each value; unpaired, no two have the same seed."""
    rows = []
    for place, (key, values) in enumerate(data.items()):
        for index, value in enumerate(values):
            seed = index if paired else 100 * place + index
            rows.append(dict(zip(names, key, strict=True)) | {"seed": seed, "error": value})
    return pd.DataFrame(rows)


def battery() -> Effects:
    return factorial_effects(
        frame(BATTERY, "material", "temperature", paired=False), "error", ["material", "temperature"]
    )


def radar() -> Effects:
    return factorial_effects(frame(RADAR, "clutter", "filter", paired=True), "error", ["clutter", "filter"])


def random_frame(paired: bool) -> pd.DataFrame:
    """3 x 2 x 2 combinations of 3 cells, in a random order; the seed moves them all."""
    random = np.random.default_rng(7)
    data = {
        key: tuple(9 + key[0] + random.normal(size=3) + np.arange(3))
        for key in itertools.product(range(3), range(2), range(2))
    }
    return frame(data, "a", "b", "c", paired=paired).sample(frac=1, random_state=7)


def test_the_battery_example_has_its_printed_f_values() -> None:
    found = battery()
    assert [each.source for each in found.effects] == [("material",), ("temperature",), ("material", "temperature")]
    assert [each.df for each in found.effects] == [2, 2, 4]
    # The book prints F 7.91, 28.97 and 3.56, P 0.0020, < 0.0001 and 0.0186, and an error mean square of 675.21.
    assert [each.f for each in found.effects] == pytest.approx([7.91, 28.97, 3.56], abs=0.005)
    assert [each.p for each in found.effects] == pytest.approx([0.0020, 0.0000, 0.0186], abs=5e-5)
    assert (found.residual_df, found.blocked) == (27, False)
    assert found.residual_sd**2 == pytest.approx(675.21, abs=0.005)


def test_the_share_is_partial_eta_squared() -> None:
    # From the printed sums of squares 10683.72, 39118.72, 9613.78, and 18230.75 of the error.
    squares = [10683.72, 39118.72, 9613.78]
    expected = [each / (each + 18230.75) for each in squares]
    assert [each.share for each in battery().effects] == pytest.approx(expected, abs=1e-6)


def test_the_radar_example_has_its_printed_f_values_with_operators_as_blocks() -> None:
    found = radar()
    assert [each.source for each in found.effects] == [("clutter",), ("filter",), ("clutter", "filter")]
    assert [each.df for each in found.effects] == [2, 1, 2]
    # The book prints F 15.13, 96.19 and 3.48, and an error sum of squares of 166.33.
    assert [each.f for each in found.effects] == pytest.approx([15.13, 96.19, 3.48], abs=0.005)
    # With 2 and d degrees of freedom, P(F > f) = (1 + 2 f / d)^(-d / 2).
    clutter, _, both = found.effects
    assert [clutter.p, both.p] == pytest.approx([(1 + 2 * each.f / 15) ** -7.5 for each in (clutter, both)])
    assert (found.residual_df, found.blocked) == (15, True)
    assert found.residual_sd**2 * 15 == pytest.approx(166.33, abs=0.005)


def test_three_factors_have_all_their_interactions() -> None:
    found = factorial_effects(frame(ETCHING, "a", "b", "c", paired=False), "error", ["a", "b", "c"])
    sources = [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert [each.source for each in found.effects] == sources
    # The book prints F 18.34, 0.10, 166.41, 1.10, 41.91, 0.01 and 0.06, and an error sum of squares of 18020.50.
    assert [each.f for each in found.effects] == pytest.approx(
        [18.34, 0.10, 166.41, 1.10, 41.91, 0.01, 0.06], abs=0.005
    )
    assert (found.residual_df, found.residual_sd**2 * 8) == (8, pytest.approx(18020.50))


def test_two_seeds_and_two_levels_agree_with_the_formula_by_hand() -> None:
    # With 2 x 2 combinations each effect is a contrast of the 4 means over seeds, SS = 2 (contrast)^2 / 4; the same
    # contrast of the differences between the 2 seeds is residual, SS = (contrast)^2 / 8, one degree of freedom each.
    one, two = np.array([9.0, 8.1, 7.3, 7.0]), np.array([9.4, 8.2, 7.9, 7.1])
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    data = {key: (a, b) for key, a, b in zip(keys, one.tolist(), two.tolist(), strict=True)}
    found = factorial_effects(frame(data, "a", "b", paired=True), "error", ["a", "b"])
    contrasts = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    squares = 2 * (contrasts @ ((one + two) / 2)) ** 2 / 4
    residual = float(((contrasts @ (one - two)) ** 2 / 8).sum())
    assert (found.residual_df, found.residual_sd) == (3, pytest.approx(math.sqrt(residual / 3)))
    assert [each.f for each in found.effects] == pytest.approx((squares / (residual / 3)).tolist())


def contrast(data: Mapping[tuple[int, int], Sequence[float]], sign: Mapping[tuple[int, int], int]) -> np.ndarray:
    """Return the sum over combinations with these signs, for each seed."""
    return np.sum([sign[key] * np.array(values) for key, values in data.items()], axis=0)


# Spreads as those of the battery example would be if one material were not made evenly.
UNEVEN = {(0, 0): (9.0, 9.4, 9.1), (0, 1): (8.1, 8.2, 8.0), (1, 0): (3.3, 9.9, 6.1), (1, 1): (7.0, 7.1, 6.8)}
SIGNS = {
    "a": {key: (-1) ** key[0] for key in UNEVEN},
    "b": {key: (-1) ** key[1] for key in UNEVEN},
    "ab": {key: (-1) ** sum(key) for key in UNEVEN},
}


def test_with_seeds_as_blocks_two_levels_are_compared_by_the_paired_t_test_whatever_the_spread() -> None:
    found = factorial_effects(frame(UNEVEN, "a", "b", paired=True), "error", ["a", "b"])
    for each, sign in zip(found.effects, SIGNS.values(), strict=True):
        assert each.p_unequal == pytest.approx(stats.ttest_1samp(contrast(UNEVEN, sign), 0).pvalue)


def test_without_blocks_two_levels_are_compared_by_welch_s_test_whatever_the_spread() -> None:
    found = factorial_effects(frame(UNEVEN, "a", "b", paired=False), "error", ["a", "b"])
    parts = np.array([np.var(values, ddof=1) / 3 for values in UNEVEN.values()])
    # Welch (1947): the variance of a sum of means, with Satterthwaite's degrees of freedom.
    df = parts.sum() ** 2 / (parts**2 / 2).sum()
    for each, sign in zip(found.effects, SIGNS.values(), strict=True):
        t = contrast(UNEVEN, sign).mean() / math.sqrt(parts.sum())
        assert each.p_unequal == pytest.approx(2 * stats.t.sf(abs(t), df))


def test_more_levels_with_seeds_as_blocks_have_box_s_epsilon() -> None:
    (clutter, *_) = radar().effects
    # The mean over the two filters, [operators, clutters]; epsilon by Winer's formula from their covariance.
    own = np.array([np.add(RADAR[each, 1], RADAR[each, 2]) / 2 for each in ("low", "medium", "high")]).T
    s, k, n = np.cov(own.T), 3, 4
    over = (s**2).sum() - 2 * k * (s.mean(axis=0) ** 2).sum() + k**2 * s.mean() ** 2
    epsilon = k**2 * (np.diag(s).mean() - s.mean()) ** 2 / ((k - 1) * over)
    rest = own - own.mean(axis=0) - own.mean(axis=1, keepdims=True) + own.mean()
    f = n * ((own.mean(axis=0) - own.mean()) ** 2).sum() / (k - 1) / ((rest**2).sum() / ((k - 1) * (n - 1)))
    assert 1 / (k - 1) <= epsilon <= 1
    df = epsilon * (k - 1), epsilon * (k - 1) * (n - 1)
    assert clutter.unequal == pytest.approx((f, *df, stats.f.sf(f, *df)))


def test_more_levels_without_blocks_have_the_degrees_of_freedom_of_brunner_dette_and_munk() -> None:
    material, temperature, both = battery().effects
    values = np.array(list(BATTERY.values()))
    s, middle, apart = np.diag(values.var(axis=1, ddof=1)), np.full((3, 3), 1 / 3), np.eye(3) - 1 / 3
    for each, t in zip(
        (material, temperature, both), map(np.kron, (apart, middle, apart), (middle, apart, apart)), strict=True
    ):
        means = values.mean(axis=1)
        trace = np.trace(t @ s)
        df = trace**2 / np.trace(t @ s @ t @ s), trace**2 / np.sum((np.diag(t) * np.diag(s)) ** 2 / 3)
        # With one variance estimated from all it is the F of the analysis itself.
        assert 4 * means @ t @ means / trace == pytest.approx(each.f)
        assert each.p_unequal == pytest.approx(stats.f.sf(each.f, *df))


def test_three_factors_are_multiplied_along_their_own_axes() -> None:
    for paired in (True, False):
        found = factorial_effects(random_frame(paired), "error", ["a", "b", "c"])
        turned = factorial_effects(random_frame(paired), "error", ["c", "a", "b"])
        ps = {frozenset(each.source): each.p_unequal for each in turned.effects}
        for each in found.effects:
            assert each.p_unequal == pytest.approx(ps[frozenset(each.source)])


def test_equal_differences_between_two_levels_leave_nothing_to_compare_their_effect_with() -> None:
    data = {(0, 0): (9.0, 9.5), (0, 1): (8.0, 8.3), (1, 0): (10.0, 10.5), (1, 1): (9.0, 9.3)}
    found = factorial_effects(frame(data, "a", "b", paired=True), "error", ["a", "b"])
    # Every seed and every b has the same difference between the values of a.
    assert [each.p_unequal is None for each in found.effects] == [True, False, True]


def test_the_assumptions_are_tested_by_bartlett_and_by_shapiro_and_wilk() -> None:
    found = battery().assumptions
    groups = [np.array(values, float) for values in BATTERY.values()]
    variances = [np.var(values, ddof=1) for values in groups]
    assert found.variance_ratio == pytest.approx(max(variances) / min(variances))
    assert found.p_equal == pytest.approx(stats.bartlett(*groups).pvalue)
    assert found.p_normal == pytest.approx(
        stats.shapiro(np.concatenate([each - each.mean() for each in groups])).pvalue
    )
    # The book finds nothing wrong with these residuals.
    assert found.equal_spread
    assert found.normal


def test_residuals_are_without_the_block() -> None:
    table = np.array(list(RADAR.values()), float)
    residuals = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    assert radar().assumptions.p_normal == pytest.approx(stats.shapiro(residuals.ravel()).pvalue)


def test_a_combination_without_spread_contradicts_equal_spread() -> None:
    found = factorial_effects(frame(UNEVEN | {(1, 1): (7.0, 7.0, 7.0)}, "a", "b", paired=True), "error", ["a", "b"])
    assert (found.assumptions.variance_ratio, found.assumptions.equal_spread) == (math.inf, False)


@pytest.mark.parametrize("typ", [2, 3])
@pytest.mark.parametrize("paired", [True, False])
def test_sums_of_squares_of_types_two_and_three_are_the_same(typ: int, paired: bool) -> None:
    data = random_frame(paired)
    model = "error ~ C(a, Sum) * C(b, Sum) * C(c, Sum)" + " + C(seed, Sum)" * paired
    table = anova_lm(ols(model, data).fit(), typ=typ)
    found = factorial_effects(data, "error", ["a", "b", "c"])
    assert found.blocked is paired
    assert found.residual_df == table.loc["Residual", "df"]
    for each in found.effects:
        row = table.loc[":".join(f"C({factor}, Sum)" for factor in each.source)]
        assert (each.df, each.f, each.p) == (row["df"], pytest.approx(row["F"]), pytest.approx(row["PR(>F)"]))


def test_what_a_seed_does_to_all_cells_alike_is_no_effect_and_no_noise() -> None:
    before = frame(RADAR, "clutter", "filter", paired=True)
    after = before.assign(error=before["error"] + 50.0 * before["seed"])
    found = factorial_effects(after, "error", ["clutter", "filter"])
    assert [each.f for each in found.effects] == pytest.approx([each.f for each in radar().effects])
    assert found.residual_sd == pytest.approx(radar().residual_sd)


def test_the_order_of_cells_does_not_matter() -> None:
    data = frame(RADAR, "clutter", "filter", paired=True)
    found = factorial_effects(data.iloc[::-1], "error", ["clutter", "filter"])
    assert [each.f for each in found.effects] == pytest.approx([each.f for each in radar().effects])
    assert {each.value: pytest.approx(each.mean) for each in found.levels} == {
        each.value: each.mean for each in radar().levels
    }


def test_values_may_be_shares_or_points() -> None:
    data = frame(RADAR, "clutter", "filter", paired=True)
    found = factorial_effects(data.assign(error=data["error"] / 100), "error", ["clutter", "filter"])
    assert [each.f for each in found.effects] == pytest.approx([each.f for each in radar().effects])
    assert found.residual_sd == pytest.approx(radar().residual_sd / 100)


# --- levels


def test_levels_come_factor_by_factor_as_they_appear() -> None:
    assert [(each.factor, each.value) for each in radar().levels] == [
        ("clutter", "low"),
        ("clutter", "medium"),
        ("clutter", "high"),
        ("filter", 1),
        ("filter", 2),
    ]


def test_without_blocks_a_level_has_the_interval_of_the_residual() -> None:
    level = battery().levels[0]
    # Material 1: its twelve hours add up to 998. sqrt(675.21 / 12), t(0.975, 27) = 2.052.
    assert level.mean == pytest.approx(998 / 12)
    assert level.high - level.mean == pytest.approx(2.052 * math.sqrt(675.21 / 12), abs=5e-3)
    assert level.mean - level.low == pytest.approx(level.high - level.mean)


def test_with_blocks_a_level_has_the_interval_of_satterthwaite() -> None:
    clutter, *_, filters = radar().levels
    # Filter 2 adds up to 1059. Mean squares: operators 402.17 / 3 = 134.06, error 166.33 / 15 = 11.09. Variance
    # (134.06 + 11.09) / 24, with (134.06 + 11.09)^2 / (134.06^2 / 3 + 11.09^2 / 15) = 3.51 degrees of freedom.
    # t(0.975) is 3.182 for 3 of them, 2.776 for 4.
    assert filters.mean == pytest.approx(1059 / 12)
    assert 2.776 < (filters.high - filters.mean) / math.sqrt((134.06 + 11.09) / 24) < 3.182
    # Low clutter adds up to 721; (134.06 + 2 x 11.09) / 24, 4.05 degrees of freedom; t(0.975) is 2.571 for 5.
    assert clutter.mean == pytest.approx(721 / 8)
    assert 2.571 < (clutter.mean - clutter.low) / math.sqrt((134.06 + 2 * 11.09) / 24) < 2.776


def test_the_variance_of_a_level_is_that_of_a_mixed_model_with_random_seeds() -> None:
    data = frame(RADAR, "clutter", "filter", paired=True)
    means = pd.get_dummies(data["clutter"] + data["filter"].astype(str)).astype(float)
    model = MixedLM(data["error"].astype(float), means, groups=data["seed"]).fit(reml=True)
    covariance = model.cov_params().loc[means.columns, means.columns].to_numpy()
    weights = np.array([1 / 3 if name.endswith("2") else 0.0 for name in means.columns])
    expected = weights @ covariance @ weights
    level = radar().levels[-1]
    residual, operators = 166.3333 / 15, 402.1667 / 3
    # The half-width over the standard error is the quantile of the 3.51 degrees of freedom: P(|T| > it) is 5%.
    df = (operators + residual) ** 2 / (operators**2 / 3 + residual**2 / 15)
    t = (level.high - level.mean) / math.sqrt(expected)
    assert student_tail(t, df) == pytest.approx(0.025, abs=1e-5)


def student_tail(t: float, df: float) -> float:
    """P(T > t), the density summed up by the trapezoidal rule in t = tan x, which ends at pi / 2."""
    x = np.linspace(math.atan(t), math.pi / 2, 200_001)[:-1]
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    return float(np.trapezoid(scale * (1 + np.tan(x) ** 2 / df) ** (-(df + 1) / 2) * (1 + np.tan(x) ** 2), x))


def test_level_means_weigh_every_combination_alike() -> None:
    found = factorial_effects(random_frame(paired=True), "error", ["a", "b", "c"])
    by_factor = {name: [each.mean for each in found.levels if each.factor == name] for name in "abc"}
    grand = random_frame(paired=True)["error"].mean()
    for means in by_factor.values():
        assert sum(means) / len(means) == pytest.approx(grand)


@pytest.mark.parametrize("values", [[None, 0.5], [True, False], ["[]", "[0.5]"], [1, 2], [1e-3, math.inf]])
def test_a_level_has_the_value_that_the_knob_has(values: list[Any]) -> None:
    cells = small(a=pd.Series([values[index] for index in small()["a"]], dtype=object))
    found = factorial_effects(cells, "error", ["a", "b"]).levels
    assert [each.value for each in found] == [*values, 0, 1]


def test_names_and_values_are_never_read_as_code() -> None:
    names = ("model.kwargs.x) + __import__('os').abort(", "arm | 'quoted' \"twice\" `tick`")
    data = {(f"{a}:C(f1, Sum)", f"<script>{b}</script>"): value for (a, b), value in RADAR.items()}
    found = factorial_effects(frame(data, *names, paired=True), "error", names)
    assert [each.source for each in found.effects] == [names[:1], names[1:], names]
    assert [each.f for each in found.effects] == pytest.approx([15.13, 96.19, 3.48], abs=0.005)


# --- what cannot be analysed


def refusal(data: pd.DataFrame, factors: list[str]) -> str:
    with pytest.raises(EffectsError) as caught:
        factorial_effects(data, "error", factors)
    return str(caught.value)


def small(**changes: Any) -> pd.DataFrame:
    """2 x 2 combinations of 2 seeds, with some columns changed."""
    data = {(0, 0): (9.0, 9.1), (0, 1): (8.0, 8.3), (1, 0): (7.0, 7.2), (1, 1): (6.0, 6.9)}
    return frame(data, "a", "b", paired=True).assign(**changes)


def test_one_factor_has_no_interactions() -> None:
    assert refusal(small(), ["a"]) == "effects need at least two factors, got a"
    assert refusal(small(), []) == "effects need at least two factors, got none"


def test_no_cells_have_no_effects() -> None:
    assert refusal(small().iloc[:0], ["a", "b"]) == "effects need cells, got none"


def test_a_factor_of_one_level_is_none() -> None:
    assert refusal(small(b="flip_shift"), ["a", "b"]) == "b does not vary: it is flip_shift in every cell"


@pytest.mark.parametrize("hole", [math.nan, None, math.inf])
def test_a_hole_is_refused_and_counted(hole: float | None) -> None:
    values: list[Any] = small()["error"].tolist()
    values[3] = hole
    for dtype in (float, object):
        message = refusal(small(error=pd.Series(values, dtype=dtype)), ["a", "b"])
        assert message == "1 of 8 cells have no error; effects need them all"


def test_a_missing_combination_is_named() -> None:
    data = small()
    message = refusal(data[(data["a"] == 0) | (data["b"] == 0)], ["a", "b"])
    assert message == "1 of 4 combinations have no cell, such as a=1, b=1"


def test_unequal_numbers_of_cells_are_named() -> None:
    assert refusal(small().iloc[:-1], ["a", "b"]) == (
        "unbalanced: a=1, b=1 has 1 cell, a=0, b=0 has 2; effects need equally many"
    )


def test_one_seed_has_nothing_to_compare_with() -> None:
    data = small()
    message = refusal(data[data["seed"] == 0], ["a", "b"])
    assert message == "one cell for each combination: effects need at least 2 that differ in seed"


def test_two_cells_of_one_seed_differ_in_something_else() -> None:
    message = refusal(small(seed=0), ["a", "b"])
    assert message == "a=0, b=0 has 2 cells of one seed: they differ in something that is no factor"


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 8,
        [9.3] * 8,
        [9.3, 9.4, 8.1, 8.2, 7.7, 7.8, 6.3, 6.4],  # every combination gains 0.1 with seed 1
    ],
)
def test_without_a_spread_there_is_no_test(values: list[float]) -> None:
    assert refusal(small(error=values), ["a", "b"]) == "error leaves no spread over seed to compare effects with"


def test_seeds_that_are_not_the_same_everywhere_are_no_blocks() -> None:
    found = factorial_effects(small(seed=[0, 1, 0, 1, 0, 1, 0, 2]), "error", ["a", "b"])
    # Each combination has a spread of its own: half the squared differences 0.1, 0.3, 0.2, 0.9, over 4.
    assert (found.blocked, found.residual_df) == (False, 4)
    assert found.residual_sd**2 == pytest.approx((0.01 + 0.09 + 0.04 + 0.81) / 2 / 4)


def test_too_many_combinations_are_refused_before_they_take_long() -> None:
    data = pd.DataFrame(
        [{"a": a, "b": b, "seed": s, "error": a + s} for a in range(26) for b in range(20) for s in (0, 1)]
    )
    assert refusal(data, ["a", "b"]) == "520 combinations of factors; effects are worked out for up to 500"
