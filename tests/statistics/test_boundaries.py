import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import special, stats  # type: ignore[import-untyped]

from strive.statistics import boundaries
from strive.statistics.boundaries import critical_value, nominal_levels, repeated_p, weights

LOOKS = (5, 8, 12, 20)


def normal_tail(c: float, looks: Sequence[int], shape: float) -> float:
    """P(M >= c) for differences with a known sd, by recursive numerical integration.

    Armitage, McPherson and Rowe (1969, JRSS A 132:235): the density of the sum so far, of paths that have not crossed,
    carried from look to look by the normal density of what comes between.
    """
    information = np.array(looks) / looks[-1]
    bounds = c * information**shape  # of the sum, whose sd at look k is sqrt(information)
    points, sizes = np.polynomial.legendre.leggauss(200)

    def grid(bound: float) -> tuple[np.ndarray, np.ndarray]:
        return (bound + 9) / 2 * points + (bound - 9) / 2, (bound + 9) / 2 * sizes

    x, dx = grid(bounds[0])
    sd = math.sqrt(information[0])
    density, crossed = stats.norm.pdf(x, scale=sd), stats.norm.sf(bounds[0], scale=sd)
    for k in range(1, len(looks)):
        step = math.sqrt(information[k] - information[k - 1])
        crossed += (density * dx) @ stats.norm.sf((bounds[k] - x) / step)
        new, d_new = grid(bounds[k])
        density = (density * dx) @ stats.norm.pdf(new[None, :], loc=x[:, None], scale=step)
        x, dx = new, d_new
    return float(crossed)


def tail_of_2_and_3(c: float, shape: float) -> tuple[float, float]:
    """P(M >= c) for looks at 2 and 3 differences, and the part in which both cross, by geometry.

    The direction of three normal differences is a point of the sphere. The first look rejects in a lune round the plane
    of (1, 1, 0) and the axis of the third, the second one in a cap round (1, 1, 1).
    """
    first, second = (stats.norm.sf(c / w) for w in ((2 / 3) ** (0.5 - shape), 1))
    half_lune = first * math.pi
    t = stats.t.isf(second, 2)
    height = t / math.sqrt(2 + t * t)
    points, sizes = np.polynomial.legendre.leggauss(400)
    phi = half_lune * points
    length, middle = np.sqrt((2 * np.cos(phi) ** 2 + 1) / 3), np.arctan2(math.sqrt(2) * np.cos(phi), 1)
    half = np.arccos(np.clip(height / length, -1, 1))
    slices = np.cos(np.maximum(0, middle - half)) - np.cos(np.minimum(math.pi, middle + half))
    both = float((slices * sizes).sum() * half_lune / (4 * math.pi))
    return first + second - both, both


@pytest.mark.parametrize(("shape", "published"), [(0.0, 2.0401), (0.5, 2.4132)])
def test_five_equal_looks_have_the_critical_values_of_jennison_and_turnbull(shape: float, published: float) -> None:
    # Group Sequential Methods (2000), tables 2.1 and 2.3: 2.413 and 2.040, for a two-sided level of 0.05.
    assert normal_tail(published, range(1, 6), shape) == pytest.approx(0.025, abs=1e-5)
    assert critical_value(0.025, (500, 1000, 1500, 2000, 2500), shape) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize("shape", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("level", [0.025, 0.025 / 9, 1e-6])
def test_many_seeds_at_unequal_looks_have_the_boundary_of_a_known_spread(shape: float, level: float) -> None:
    found = critical_value(level, tuple(500 * n for n in LOOKS), shape)
    assert normal_tail(found, LOOKS, shape) == pytest.approx(level, rel=3e-3)
    assert normal_tail(found - 1e-3, LOOKS, shape) > level > normal_tail(found + 1e-3, LOOKS, shape)


@pytest.mark.parametrize("shape", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("c", [0.5, 1.5, 1.96, 2.5, 3.5, 4.8])
def test_two_and_three_seeds_have_the_tail_of_a_lune_and_a_cap(shape: float, c: float) -> None:
    exact, both = tail_of_2_and_3(c, shape)
    assert both > 0
    assert repeated_p(c, (2, 3), shape) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("shape", [0.0, 0.25, 0.5])
def test_plain_paths_cross_as_often_as_the_level_says(shape: float) -> None:
    looks, paths = (3, 4, 7, 12), 100_000
    draws = np.random.default_rng(5).standard_normal((paths, looks[-1]))
    crossed = np.zeros((2, paths), dtype=bool)
    levels = (0.025, 0.2)
    for k, n in enumerate(looks):
        t = draws[:, :n].mean(1) / draws[:, :n].std(1, ddof=1) * math.sqrt(n)
        for row, level in enumerate(levels):
            crossed[row] |= (
                special.stdtr(n - 1, -t) <= nominal_levels(critical_value(level, looks, shape), looks, shape)[k]
            )
    for row, level in enumerate(levels):
        assert crossed[row].mean() == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / paths))


def test_one_look_is_the_plain_test() -> None:
    assert critical_value(0.025, (7,), 0.25) == pytest.approx(1.959964, abs=1e-6)
    assert repeated_p([1.0, 3.0, 7.5], (7,), 0.5) == pytest.approx(stats.norm.sf([1.0, 3.0, 7.5]), rel=1e-12)


def test_other_random_numbers_move_no_p_value_by_more_than_a_five_hundredth(monkeypatch: pytest.MonkeyPatch) -> None:
    c = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 4.8, 6.0])
    own = boundaries._ratio(LOOKS, 0.5)(c)
    monkeypatch.setattr(boundaries, "_SEED", boundaries._SEED + 1)
    other = boundaries._ratio.__wrapped__(LOOKS, 0.5)(c)
    assert (own != other).any()
    assert other == pytest.approx(own, rel=2e-3)


@pytest.mark.parametrize("looks", [LOOKS, (2, 3, 10, 40)])
def test_a_larger_statistic_has_a_smaller_p_value(looks: tuple[int, ...]) -> None:
    c = np.linspace(-3, 12, 1501)
    found = repeated_p(c, looks, 0.25)
    assert (np.diff(found) <= 0)[found[1:] < 0.999].all()
    assert found[0] == pytest.approx(1, abs=5e-3)
    assert repeated_p([-math.inf, math.inf], looks, 0.25).tolist() == [1, 0]
    assert (found >= 0.999 * nominal_levels(c, looks, 0.25).max(-1)).all()


def test_early_looks_weigh_less_the_smaller_the_shape() -> None:
    assert weights(LOOKS, 0.5).tolist() == [1, 1, 1, 1]
    assert weights((5, 20), 0.0).tolist() == [0.5, 1]
    assert weights((5, 20), 0.25).tolist() == [pytest.approx(math.sqrt(0.5)), 1]


@pytest.mark.parametrize("level", [0.0, -0.1, 0.51, math.nan])
def test_a_level_that_is_no_tests_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="the level of a test must be in"):
        critical_value(level, LOOKS, 0.25)
