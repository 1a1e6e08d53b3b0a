import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from allcnn.config import PoolRounding
from allcnn.networks.pooling import NormPool

NORMS = [0.5, 1.0, 1.5, 2.0, 3.0, 10.0]
# How max_pool2d spells the three roundings.
SPELLED = {
    PoolRounding.ceil: {"ceil_mode": True},
    PoolRounding.pad: {"padding": 1},
    PoolRounding.floor: {},
}


def maps(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).relu().to(dtype)


def formula(image, norm, rounding):
    """Equation 1, window by window, in Python's floats."""
    high, wide = image.shape
    first = -1 if rounding is PoolRounding.pad else 0
    last = {PoolRounding.ceil: 1, PoolRounding.pad: 1, PoolRounding.floor: 0}[rounding]
    tops = [top for top in range(first, high, 2) if top + 2 < high + last]
    lefts = [left for left in range(first, wide, 2) if left + 2 < wide + last]
    pooled = torch.zeros(len(tops), len(lefts))
    for (i, top), (j, left) in itertools.product(enumerate(tops), enumerate(lefts)):
        rows, columns = range(max(top, 0), min(top + 3, high)), range(max(left, 0), min(left + 3, wide))
        total = sum(abs(image[row, column].item()) ** norm for row in rows for column in columns)
        pooled[i, j] = total ** (1 / norm)
    return pooled


@pytest.mark.parametrize("rounding", PoolRounding)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 7)])
def test_norm_pooling_is_the_papers_formula(norm, rounding, size):
    image = maps(1, 1, *size)
    pooled = NormPool(norm, rounding)(image)[0, 0]
    torch.testing.assert_close(pooled, formula(image[0, 0], norm, rounding), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rounding", PoolRounding)
@pytest.mark.parametrize("norm", [2.0, math.inf])
@pytest.mark.parametrize("size", [(32, 32), (16, 16), (9, 9), (3, 4)])
def test_sizes_are_those_of_max_pooling(norm, rounding, size):
    image = maps(2, 3, *size)
    pooled = NormPool(norm, rounding)(image)
    assert pooled.shape == F.max_pool2d(image, 3, 2, **SPELLED[rounding]).shape


@pytest.mark.parametrize("rounding", PoolRounding)
def test_the_infinite_norm_is_max_pooling(rounding):
    image = maps(2, 3, 32, 32)
    pooled = NormPool(math.inf, rounding)(image)
    assert torch.equal(pooled, F.max_pool2d(image, 3, 2, **SPELLED[rounding]))


@pytest.mark.parametrize("norm", [100.0, 1e4, 1e8, 1e30, 1e300])
def test_a_large_norm_is_close_to_the_maximum(norm):
    image = maps(2, 3, 16, 16)
    largest = F.max_pool2d(image, 3, 2, ceil_mode=True)
    pooled = NormPool(norm, PoolRounding.ceil)(image)
    # The sum has at most nine terms, none above the maximum.
    assert (pooled >= largest * (1 - 1e-6)).all()
    assert (pooled <= largest * (9 ** (1 / norm) + 1e-6)).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("norm", [0.5, 3.0, 50.0])
def test_scaling_the_input_scales_the_output_without_over_or_underflow(norm, scale):
    image, pool = maps(1, 2, 8, 8), NormPool(norm, PoolRounding.ceil)
    torch.testing.assert_close(pool(image * scale) / scale, pool(image), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", [0.3, 0.5, 1.0, 1.5, 2.0, 7.0, 200.0, 1e6, math.inf])
def test_windows_of_zeros_give_zero_and_a_finite_gradient(norm):
    image = maps(1, 2, 16, 16)
    image[:, 0] = 0
    image[:, 1, :8] = 0
    image.requires_grad_()
    pooled = NormPool(norm, PoolRounding.ceil)(image)
    pooled.sum().backward()
    assert (pooled[:, 0] == 0).all()
    assert image.grad.isfinite().all()
    if norm < math.inf:
        assert (image.grad[:, 0] == 0).all()
    assert (image.grad[:, 1] > 0).any()


@pytest.mark.parametrize("rounding", PoolRounding)
@pytest.mark.parametrize("norm", [0.7, 1.0, 2.0, 5.0])
def test_gradients_agree_with_finite_differences(norm, rounding):
    # Away from zero: there the norm has a kink.
    image = (maps(1, 2, 6, 7, dtype=torch.float64) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(NormPool(norm, rounding), image)


def test_the_sum_is_in_float32_even_for_bf16_maps():
    image = maps(2, 3, 16, 16, dtype=torch.bfloat16)
    pooled = NormPool(2.0, PoolRounding.ceil)(image)
    exact = NormPool(2.0, PoolRounding.ceil)(image.float())
    assert pooled.dtype is torch.bfloat16
    assert torch.equal(pooled, exact.to(torch.bfloat16))
