"""Networks with fresh weights, another class, another image, and maps that no network made."""

import copy

import pytest
import torch
from support import MakeConfig
from torch import Tensor, nn

from allcnn.attribution import AttributionError
from allcnn.attribution.baselines import (
    cascade,
    contrast_map,
    layers_from_top,
    noise_map,
    other_images,
    reset_layers,
    wrong_class,
)
from allcnn.config import Family, Init, ModelConfig
from allcnn.networks.build import build_network

CUSTOM = ModelConfig(family=Family.custom, builder="a.module:small")


def built(model: ModelConfig, seed: int = 0) -> nn.Module:
    return build_network(model, num_classes=10, image_size=32, seed=seed).eval()


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def changed(network: nn.Module, other: nn.Module) -> set[str]:
    """Return the names of the modules whose weights or statistics differ."""
    before, after = weights(network), weights(other)
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def trained(network: nn.Module) -> nn.Module:
    """Return the network with all that training changes moved away from where it began."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(3)
    return network


def test_only_the_named_layers_get_fresh_weights_and_the_network_stays_as_it_is():
    network = trained(built(ModelConfig(width=0.1)))
    before = weights(network)
    fresh = reset_layers(network, ModelConfig(width=0.1), ["conv9", "conv4"], seed=0)
    assert changed(network, fresh) == {"conv9", "conv4"}
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(network).items())


@pytest.mark.parametrize(
    ("init", "std"), [(Init.he, (2 / (9 * 96)) ** 0.5), (Init.gaussian, 0.05), (Init.xavier_caffe, (9 * 96) ** -0.5)]
)
def test_fresh_weights_have_the_spread_of_the_nets_own_initialisation(init, std):
    # conv2 of the full net: fan-in 9 x 96, and 82,944 weights, so that a spread is known to within a percent.
    model = ModelConfig(init=init)
    fresh = reset_layers(trained(built(model)), model, ["conv2"], seed=3).get_submodule("conv2")
    assert fresh.weight.std().item() == pytest.approx(std, rel=0.015)
    assert fresh.weight.mean().item() == pytest.approx(0, abs=0.02 * std)
    assert not fresh.bias.any()


def test_each_seed_draws_anew_and_the_same_seed_the_same():
    model = ModelConfig(width=0.1)
    network = built(model)
    first, second, again = (
        weights(reset_layers(network, model, ["conv5"], seed))["conv5.weight"] for seed in (0, 1, 0)
    )
    assert torch.equal(first, again)
    angle = nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    # Of independent draws: below 5 standard deviations of 1 / sqrt(number of weights).
    assert abs(angle) < 5 / first.numel() ** 0.5


def test_no_seed_gives_the_weights_that_the_training_began_with():
    # The net below is what training with seed 1 begins with: drawn again it would be its own control.
    model = ModelConfig(width=0.1)
    assert changed(built(model, seed=1), reset_layers(built(model, seed=1), model, ["conv2", "conv9"], seed=1)) == {
        "conv2",
        "conv9",
    }


def test_a_layers_draw_does_not_depend_on_the_layers_reset_with_it():
    model = ModelConfig(width=0.1)
    network = built(model)
    alone, together = (reset_layers(network, model, names, 0) for names in (["conv9"], ["conv9", "conv8", "conv1"]))
    assert torch.equal(weights(alone)["conv9.weight"], weights(together)["conv9.weight"])


def test_a_layers_batch_norm_goes_back_to_where_it_began():
    model = ModelConfig(width=0.1, batch_norm=True)
    network = trained(built(model))
    fresh = reset_layers(network, model, ["conv3"], 0)
    assert changed(network, fresh) == {"conv3", "norm3"}
    norm = fresh.get_submodule("norm3")
    expected = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    assert {name: float(tensor.float().mean()) for name, tensor in norm.state_dict().items()} == expected
    assert norm.running_var.std() == 0


def test_torchs_global_generator_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    network(torch.zeros(1, 3, 5, 5))
    state = torch.get_rng_state()
    reset_layers(network, CUSTOM, ["0", "3"], 0)
    assert torch.equal(state, torch.get_rng_state())


class Residual(nn.Module):
    """Names its parts in another order than it calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.idle = nn.Conv2d(1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images).relu()
        return self.head((maps + self.second_norm(self.second(maps))).relu().mean((2, 3)))


def test_the_cascade_follows_the_calls_and_leaves_no_layer_out():
    network = Residual().eval()
    assert layers_from_top(network, torch.zeros(2, 3, 6, 6)) == ["head", "second", "first", "idle"]
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_custom_nets_layers_reset_themselves():
    network = trained(Residual()).eval()
    names = layers_from_top(network, torch.zeros(1, 3, 6, 6))
    fresh, other = (reset_layers(network, CUSTOM, names, seed) for seed in (0, 1))
    assert changed(network, fresh) == {"head", "second", "second_norm", "first", "idle"}
    assert changed(fresh, other) == {"head", "second", "first", "idle"}  # a normalisation draws nothing
    # torch's own: uniform within 1 / sqrt(fan-in).
    assert fresh.second.weight.abs().max() <= 1 / (9 * 4) ** 0.5
    assert fresh.second.weight.std() > 0.5 / (9 * 4) ** 0.5


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale


class HalfReset(nn.Conv2d):
    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.zero_()


def test_what_cannot_be_reset_is_refused_by_name():
    network = nn.Sequential(Scaled(), nn.Conv2d(3, 2, 1)).eval()
    assert layers_from_top(network, torch.zeros(1, 3, 4, 4)) == ["1", "0"]
    with pytest.raises(AttributionError, match=r"layer=0: Scaled has no reset_parameters\(\)"):
        reset_layers(network, CUSTOM, ["1", "0"], 0)


def test_a_layer_that_resets_half_of_its_weights_is_refused_by_name():
    network = nn.Sequential(HalfReset(3, 2, 1)).eval()
    with pytest.raises(AttributionError, match=r"layer=0: .* leaves some of its weights as they are"):
        reset_layers(network, CUSTOM, ["0"], 0)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(AttributionError, match=r"layer=conv99.*conv1, conv2, .*conv9"):
        reset_layers(built(ModelConfig(width=0.1)), ModelConfig(width=0.1), ["conv99"], 0)


def test_the_paper_nets_cascade_runs_from_the_class_convolution_down(make_small: MakeConfig):
    model = make_small("model.batch_norm=true").model
    layers = layers_from_top(built(model), torch.zeros(1, 3, 32, 32))
    assert layers == [f"conv{number}" for number in range(9, 0, -1)]
    assert [(stage[0], stage[-1]) for stage in cascade(layers)] == [
        ("conv9", "conv9"),
        ("conv9", "conv6"),
        ("conv9", "conv3"),
        ("conv9", "conv1"),
    ]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (7, [1, 3, 6, 7])])
def test_a_cascade_begins_with_one_layer_and_ends_with_all(count, sizes):
    assert [len(stage) for stage in cascade("abcdefg"[:count])] == sizes


def test_the_wrong_class_is_the_least_likely_and_never_the_predicted_one():
    logits = torch.tensor([[0.0, 3.0, -2.0], [1.0, 1.0, 1.0], [-5.0, 0.0, -5.0]])
    assert wrong_class(logits, torch.tensor([1, 0, 1])).tolist() == [2, 1, 0]
    assert wrong_class(logits, torch.tensor([2, 1, 0])).tolist() == [0, 0, 2]
    with pytest.raises(AttributionError, match="two classes"):
        wrong_class(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))


def test_another_image_is_one_of_another_class_if_there_is_one():
    # Half the images further on, and then the next.
    assert other_images(torch.tensor([0, 1, 0, 1])).tolist() == [3, 0, 1, 2]
    assert other_images(torch.tensor([0, 0, 1, 1])).tolist() == [2, 3, 0, 1]
    assert other_images(torch.tensor([7, 7, 7])).tolist() == [1, 2, 0]
    assert other_images(torch.tensor([4, 4, 4, 4, 5])).tolist() == [4, 4, 4, 4, 1]
    with pytest.raises(AttributionError, match="two images"):
        other_images(torch.tensor([0]))


def test_the_contrast_map_is_the_image_minus_its_median_channel_by_channel():
    image = torch.tensor([[[[1.0, 2.0, 9.0]], [[5.0, 5.0, 5.0]], [[-1.0, 0.0, 4.0]]]])
    assert contrast_map(image).tolist() == [[[[-1, 0, 7]], [[0, 0, 0]], [[-1, 0, 4]]]]


def test_noise_is_standard_normal_and_goes_by_its_seed():
    like = torch.zeros(8, 3, 32, 32)
    noise = noise_map(like, 0)
    # 24,576 numbers: five standard errors.
    assert noise.mean().item() == pytest.approx(0, abs=5 / noise.numel() ** 0.5)
    assert noise.std().item() == pytest.approx(1, abs=5 / (2 * noise.numel()) ** 0.5)
    assert torch.equal(noise, noise_map(like, 0))
    assert not torch.equal(noise, noise_map(like, 1))


def test_a_copy_of_a_reset_net_is_still_a_net():
    # Weights of fresh tensors, not views of one another: a reset of a reset must not reach back.
    model = ModelConfig(width=0.1)
    first = reset_layers(built(model), model, ["conv1"], 0)
    kept = copy.deepcopy(first)
    reset_layers(first, model, ["conv1"], 1)
    assert not changed(first, kept)
    assert first(torch.ones(2, 3, 32, 32)).shape == (2, 10)
