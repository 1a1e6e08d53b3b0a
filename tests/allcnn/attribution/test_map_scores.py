"""Scores from their formulas, from cases done by hand, and from scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from allcnn.attribution.map_scores import deletion, gini, insertion, signed_cosine, spearman, strength


def one_map(*pixels: float) -> Tensor:
    """Return [1, 3, 1, w]: pixels of the first channel, the others are zero."""
    maps = torch.zeros(1, 3, 1, len(pixels))
    maps[0, 0, 0] = torch.tensor(pixels)
    return maps


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class FirstPixels(nn.Module):
    """Two classes; the lead of the second is a sum over the first channel's pixels, each with a weight."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = torch.tensor(weights)
        self.images_seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images_seen += len(images)
        lead = (images[:, 0].flatten(1) * self.weights).sum(1)
        return torch.stack([torch.zeros_like(lead), lead], 1)


def test_a_pixels_strength_is_the_sum_of_its_channels_sizes():
    maps = torch.tensor([[[[1.0, 0.0]], [[-2.0, 0.0]], [[0.5, 4.0]]]])
    assert strength(maps).tolist() == [[3.5, 4.0]]


def test_gini_is_zero_where_all_are_alike_and_nearly_one_where_one_has_all():
    # 1 - 1/N, the index's largest value.
    assert gini(one_map(2, -2, 2, 2)).item() == pytest.approx(0, abs=1e-12)
    assert gini(one_map(0, 0, 0, -7)).item() == pytest.approx(1 - 1 / 4)


def test_gini_is_half_the_mean_difference_of_all_pairs_over_the_mean():
    # The index's other definition: sum over all pairs |x - y| / (2 N^2 mean).
    maps = drawn(0, 3, 3, 5, 4)
    for row, index in zip(strength(maps).numpy(), gini(maps).tolist(), strict=True):
        pairs = np.abs(row[:, None] - row[None, :]).sum()
        assert index == pytest.approx(pairs / (2 * len(row) ** 2 * row.mean()))


def test_gini_does_not_depend_on_scale_sign_or_order():
    maps = drawn(1, 2, 3, 4, 4)
    assert gini(-5 * maps.flip(3)).tolist() == pytest.approx(gini(maps).tolist())


def test_spearman_is_scipys_also_with_ties():
    # Few different values: most pixels share theirs with others.
    maps, others = drawn(2, 4, 3, 5, 5).round(), drawn(3, 4, 3, 5, 5).round()
    assert len(strength(maps)[0].unique()) < 25
    expected = [
        stats.spearmanr(*pair).statistic for pair in zip(strength(maps).numpy(), strength(others).numpy(), strict=True)
    ]
    assert min(map(abs, expected)) > 0
    assert spearman(maps, others).tolist() == pytest.approx(expected, abs=1e-12)


def test_spearman_sees_order_alone_and_no_sign():
    rising = one_map(1, 2, 3, 4)
    assert spearman(rising, one_map(-1, 10, -100, 1000)).item() == pytest.approx(1)
    assert spearman(rising, one_map(9, 7, 5, 1)).item() == pytest.approx(-1)


def test_the_cosine_has_the_sign_that_the_rank_correlation_lacks():
    maps = drawn(4, 3, 3, 4, 4)
    assert signed_cosine(maps, -2 * maps).tolist() == pytest.approx([-1] * 3)
    assert spearman(maps, -2 * maps).tolist() == pytest.approx([1] * 3)
    # 3-4-5: the angle between (3, 4) and (1, 0).
    assert signed_cosine(one_map(3, 4), one_map(1, 0)).item() == pytest.approx(0.6)


@pytest.mark.parametrize("score", [spearman, signed_cosine])
def test_nothing_is_known_of_the_agreement_with_a_map_of_zeros(score):
    both = torch.cat([one_map(0, 0, 0), one_map(1, 2, 3)])
    found = score(both, torch.cat([one_map(1, 2, 3)] * 2))
    assert found[0].isnan()
    assert found[1].item() == pytest.approx(1)


def test_a_map_of_zeros_has_no_score():
    network, zero, images = FirstPixels(1, 1), one_map(0, 0), one_map(1, 1)
    assert gini(zero).isnan().all()
    for area in (deletion, insertion):
        assert area(network, images, zero, torch.tensor([1]), steps=2).isnan().all()


def test_deletion_is_the_area_by_the_trapezoid_rule():
    # The lead of the class is 3, then 1 without the strongest pixel, then 0: each step is half of the pixels.
    network, images, maps = FirstPixels(1, 2), one_map(1, 1), one_map(0.1, -0.9)
    p = [1 / (1 + np.exp(-lead)) for lead in (3, 1, 0)]
    area = deletion(network, images, maps, torch.tensor([1]), steps=2)
    assert area.item() == pytest.approx((p[0] + p[1]) / 4 + (p[1] + p[2]) / 4)
    assert area.dtype is torch.float64


def test_insertion_begins_with_the_baseline_and_its_strongest_pixel_comes_first():
    network, images, maps = FirstPixels(1, 2), one_map(1, 1), one_map(0.1, -0.9)
    p = [1 / (1 + np.exp(-lead)) for lead in (0, 2, 3)]
    area = insertion(network, images, maps, torch.tensor([1]), steps=2)
    assert area.item() == pytest.approx((p[0] + p[1]) / 4 + (p[1] + p[2]) / 4)
    # The other class has what is left.
    assert insertion(network, images, maps, torch.tensor([0]), steps=2).item() == pytest.approx(1 - area.item())


def test_what_is_taken_away_becomes_the_baseline():
    network, images, maps = FirstPixels(1, 2), one_map(1, 1), one_map(0.1, 0.9)
    p = [1 / (1 + np.exp(-lead)) for lead in (3, 1 - 2 * 5, -5 - 2 * 5)]
    area = deletion(network, images, maps, torch.tensor([1]), steps=2, baseline=-5.0)
    assert area.item() == pytest.approx((p[0] + p[1]) / 4 + (p[1] + p[2]) / 4)


def test_deletion_of_one_map_is_the_insertion_of_its_reverse():
    # Taking away the strongest first leaves what inserting the weakest first has built, from the other end.
    images, maps, network = drawn(5, 3, 3, 4, 4), drawn(6, 3, 3, 4, 4), FirstPixels(*drawn(7, 16).tolist())
    reverse = 1 / strength(maps).view(3, 1, 4, 4).expand(3, 3, 4, 4)
    channels = torch.tensor([0, 1, 0])
    taken = deletion(network, images, maps, channels, steps=16)
    assert taken.tolist() == pytest.approx(insertion(network, images, reverse, channels, steps=16).tolist())
    assert taken.tolist() != pytest.approx(insertion(network, images, maps, channels, steps=16).tolist(), abs=1e-3)


def test_images_are_scored_each_by_itself():
    images, maps, network = drawn(8, 40, 3, 32, 32), drawn(9, 40, 3, 32, 32), FirstPixels(*drawn(10, 1024).tolist())
    channels = torch.arange(40) % 2
    together = deletion(network, images, maps, channels, steps=7)
    assert network.images_seen == 40 * 8
    alone = [deletion(network, images[[row]], maps[[row]], channels[[row]], steps=7).item() for row in (0, 17, 39)]
    assert together[[0, 17, 39]].tolist() == pytest.approx(alone, abs=1e-6)
