import dense
import pytest
import torch
import torch.nn.functional as F
from small_nets import distance
from torch import nn

from allcnn.attribution.rules import Pooling, Rule, ruled_norm_pool, ruled_relu, switchless_pool
from allcnn.config import PoolRounding
from allcnn.networks.pooling import NormPool

# f and R of the paper's figure 1, with every pair of signs.
F_IN = [1.0, -1.0, 0.0, 2.0, -2.0, 0.0, 3.0]
R_IN = [-2.0, -1.0, -3.0, 5.0, 4.0, 6.0, 0.0]
PASSED = {
    Rule.backprop: [-2.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0],
    Rule.deconvnet: [0.0, 0.0, 0.0, 5.0, 4.0, 6.0, 0.0],
    Rule.guided: [0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("rule", Rule)
def test_a_signal_passes_a_relu_as_the_papers_figure_1_says(rule):
    inputs = torch.tensor(F_IN, requires_grad=True)
    made = ruled_relu(inputs, rule)
    assert made.tolist() == [1, 0, 0, 2, 0, 0, 3]
    (signal,) = torch.autograd.grad(made, inputs, torch.tensor(R_IN))
    assert signal.tolist() == PASSED[rule]


def test_a_signal_is_not_changed_where_it_comes_from():
    inputs, signal = torch.tensor(F_IN, requires_grad=True), torch.tensor(R_IN)
    for rule in Rule:
        torch.autograd.grad(ruled_relu(inputs, rule), inputs, signal)
    assert signal.tolist() == R_IN


def pool_back(inputs, signal, *, kernel, stride, padding, dilation=1, ceil_mode=False):
    """Give each window's signal to all of its places, one place after the other."""
    back = torch.zeros_like(inputs)
    high, wide = signal.shape[2:]
    for row in range(high):
        for column in range(wide):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    top = row * stride[0] - padding[0] + i * dilation
                    left = column * stride[1] - padding[1] + j * dilation
                    if 0 <= top < inputs.shape[2] and 0 <= left < inputs.shape[3]:
                        back[:, :, top, left] += signal[:, :, row, column]
    return back


GEOMETRIES = [
    ((2, 2), (2, 2), (0, 0), 1, False),
    ((3, 3), (2, 2), (0, 0), 1, False),
    ((3, 3), (2, 2), (0, 0), 1, True),
    ((3, 3), (2, 2), (1, 1), 1, False),
    ((3, 2), (1, 2), (1, 0), 1, True),
    ((2, 2), (3, 3), (0, 0), 1, False),
    ((2, 2), (1, 1), (0, 0), 3, False),
]


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_without_switches_each_window_gives_its_signal_to_all_of_its_places(geometry, size):
    kernel, stride, padding, dilation, ceil_mode = geometry
    noise = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, *size, generator=noise, dtype=torch.float64).requires_grad_()
    pooled = F.max_pool2d(inputs.detach(), kernel, stride, padding, dilation, ceil_mode)
    made = switchless_pool(pooled, inputs, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    assert torch.equal(made, pooled)
    signal = torch.randn(pooled.shape, generator=noise, dtype=torch.float64)
    (back,) = torch.autograd.grad(made, inputs, signal)
    by_hand = pool_back(inputs.detach(), signal, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    assert distance(back, by_hand) < 1e-12


def test_a_module_may_spell_its_geometry_in_short():
    inputs = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pooled = F.max_pool2d(inputs.detach(), 2)
    for kernel, padding in [(2, 0), ([2], [0]), ((2, 2), (0, 0))]:
        made = switchless_pool(pooled, inputs, kernel=kernel, stride=kernel, padding=padding, dilation=1)
        assert torch.autograd.grad(made.sum(), inputs)[0].tolist() == torch.ones(1, 1, 4, 4).tolist()


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("rounding", PoolRounding)
@pytest.mark.parametrize("norm", [1.0, 1.5, 2.0, 10.0, float("inf")])
def test_norm_pooling_goes_back_by_its_formula(norm, rounding, pooling):
    noise = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 7, 8, generator=noise, dtype=torch.float64).relu()
    inputs[:, :4, :4] = 0  # windows of zeros
    module = NormPool(norm, rounding)
    leaf = inputs[None].clone().requires_grad_()
    pooled = module(inputs[None])
    made = ruled_norm_pool(pooled, leaf, module, pooling)
    assert torch.equal(made, pooled)
    signal = torch.randn(pooled.shape, generator=noise, dtype=torch.float64)
    (back,) = torch.autograd.grad(made, leaf, signal)
    (layer,) = dense.layers_of(nn.Sequential(module), (2, 7, 8))
    by_hand = dense._pool_back(layer, inputs.numpy().ravel(), signal.numpy().ravel(), pooling.value)
    assert distance(back.flatten(), torch.from_numpy(by_hand)) < 1e-12


def test_overlapping_windows_add_up_at_a_common_maximum():
    inputs = torch.zeros(1, 1, 5, 5, requires_grad=True)
    with torch.no_grad():
        inputs[0, 0, 2, 2] = 1  # in all four windows
    module = NormPool(float("inf"), PoolRounding.floor)
    made = ruled_norm_pool(module(inputs.detach()), inputs, module, Pooling.switches)
    (back,) = torch.autograd.grad(made, inputs, torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]]))
    assert back[0, 0, 2, 2] == 15
    assert back.sum() == 15
