import math

import pytest
import torch
from torch import nn

from allcnn.config import Init, ModelConfig
from allcnn.networks.build import build_network
from allcnn.networks.init import initialise


def net():
    return nn.Sequential(nn.Conv2d(64, 128, 3), nn.Conv2d(128, 64, 5))


def initialised(seed=0, network=None, **knobs):
    network = network or net()
    initialise(network, ModelConfig(**knobs), seed)
    return network


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        (Init.he, lambda fan_in: 2 / fan_in),
        (Init.gaussian, lambda fan_in: 0.05**2),
        (Init.xavier_caffe, lambda fan_in: 1 / fan_in),
        (Init.torch_default, lambda fan_in: 1 / (3 * fan_in)),
    ],
)
def test_weights_have_the_variance_of_the_formula_and_mean_zero(init, variance):
    for conv in initialised(init=init):
        weights, fan_in = conv.weight.double(), math.prod(conv.weight.shape[1:])
        assert weights.var().item() == pytest.approx(variance(fan_in), rel=0.02)
        assert abs(weights.mean().item()) < 5 * math.sqrt(variance(fan_in) / weights.numel())


def test_the_deviation_of_gaussian_is_a_knob():
    assert initialised(init=Init.gaussian, init_std=0.01)[0].weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_a_narrower_net_has_larger_gaussian_weights_behind_the_first_layer():
    first, second = initialised(init=Init.gaussian, width=0.25)
    # Fan-in x variance is what decides the size of the outputs: a quarter of one, four times the other.
    assert first.weight.std().item() == pytest.approx(0.05, rel=0.02)
    assert second.weight.std().item() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("init", [Init.he, Init.gaussian])
def test_normal_weights_have_the_tails_of_a_normal(init):
    weights = initialised(init=init)[0].weight
    # 4.55% of a normal lies beyond two deviations, nothing of a uniform does.
    assert (weights.abs() > 2 * weights.std()).float().mean().item() == pytest.approx(0.0455, abs=0.004)


def test_uniform_weights_stay_within_their_bounds():
    fan_in = 64 * 9
    for init, bound in ((Init.xavier_caffe, math.sqrt(3 / fan_in)), (Init.torch_default, 1 / math.sqrt(fan_in))):
        largest = initialised(init=init)[0].weight.abs().max().item()
        assert 0.999 * bound < largest <= bound


def test_torch_default_is_what_torch_itself_does():
    torch.manual_seed(0)
    theirs, ours = net(), initialised(init=Init.torch_default)
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.2)
        assert one.abs().max().item() == pytest.approx(other.abs().max().item(), rel=0.1)


@pytest.mark.parametrize("init", [Init.he, Init.gaussian, Init.xavier_caffe])
def test_biases_start_at_zero(init):
    assert all((conv.bias == 0).all() for conv in initialised(init=init))


def test_a_layer_does_not_depend_on_the_layers_around_it():
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(128, 64, 5), nn.Conv2d(7, 7, 1))
    assert torch.equal(initialised()[1].weight, initialised(network=other)[2].weight)


def test_layers_of_one_shape_differ():
    twins = initialised(network=nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)))
    assert not torch.equal(twins[0].weight, twins[1].weight)


def test_the_seed_decides_the_weights():
    assert torch.equal(initialised(seed=1)[0].weight, initialised(seed=1)[0].weight)
    assert not torch.equal(initialised(seed=1)[0].weight, initialised(seed=2)[0].weight)


@pytest.mark.parametrize(
    ("init", "size"),
    # Worked out for All-CNN-C: the product over its layers of the gains of weights and ReLUs.
    [(Init.he, 1.4), (Init.gaussian, 0.22), (Init.xavier_caffe, 0.06), (Init.torch_default, 4e-4)],
)
def test_the_signal_has_the_size_at_the_start_that_decides_whether_a_net_learns(init, size):
    model = ModelConfig(init=init, init_std=0.05, class_relu=False)
    network = build_network(model, num_classes=10, image_size=32, seed=0).eval()
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for conv in (module for module in network if isinstance(module, nn.Conv2d)):
            conv.bias.zero_()
        maps = network[:-1](images)
    assert size / 2 < maps.square().mean().sqrt().item() < size * 2
