import math

import pytest
import torch

from allcnn import randomness
from allcnn.config import AugmentConfig
from allcnn.data.augment import augment
from allcnn.data.augment import purposes as augment_purposes
from allcnn.data.mixup import mixed

CPU = torch.device("cpu")
IMAGES = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)).contiguous(
    memory_format=torch.channels_last
)


def share(alpha: float, step: int) -> float:
    _, found = mixed(IMAGES[:2], AugmentConfig(mixup=alpha), randomness.streams(3, step, CPU))
    assert found is not None
    return float(found)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_follows_beta(alpha: float):
    shares = torch.tensor([share(alpha, step) for step in range(2000)])
    assert 0 <= shares.min() <= shares.max() <= 1
    # Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within four standard errors.
    variance = 1 / (4 * (2 * alpha + 1))
    assert float(shares.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(variance / 2000))
    assert float(shares.var()) == pytest.approx(variance, rel=0.15)


def test_without_mixup_nothing_is_drawn():
    assert mixed(IMAGES, AugmentConfig(), {}.__getitem__) == (IMAGES, None)
    assert augment_purposes(AugmentConfig()) == []
    assert augment_purposes(AugmentConfig(mixup=0.2, cutout_px=4)) == ["cutout_y", "cutout_x", "mixup"]


def test_the_layout_in_memory_stays():
    images, _ = mixed(IMAGES, AugmentConfig(mixup=1), randomness.streams(0, 0, CPU))
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [1, 7, 8])
def test_cutout_sets_one_square_a_picture_to_zero_and_nothing_else(side: int):
    streams = randomness.streams(1, 5, CPU)
    found = augment(IMAGES, AugmentConfig(cutout_px=side), size=32, streams=streams)
    assert found.is_contiguous(memory_format=torch.channels_last)
    rows, columns = (randomness.integers(streams(f"cutout_{axis}"), 64, 32).tolist() for axis in "yx")
    for before, after, row, column in zip(IMAGES, found, rows, columns, strict=True):
        expected = before.clone()
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert torch.equal(after, expected)
