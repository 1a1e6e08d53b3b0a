from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allcnn.attribution import AttributionError, activations, attribute
from allcnn.attribution.pool_switches import pooled_twin
from allcnn.attribution.receptive_field_probe import fields
from allcnn.config import Base, Family, ModelConfig, StridedB, Variant
from allcnn.networks.build import SampledConv, build_network

STRIDED_NETS = [
    {"base": base, "variant": variant, "strided_b": how}
    for base in Base
    for variant in (Variant.strided, Variant.all_cnn)
    for how in StridedB
    if how is StridedB.conv1x1 or (base is Base.b and variant is Variant.strided)
]


def paper_net(**choices: Any) -> nn.Sequential:
    """Return a net of random weights and biases in float64."""
    model = ModelConfig(**({"width": 0.05} | choices))
    net = build_network(model, num_classes=3, image_size=32, seed=1).double().eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    assert isinstance(net, nn.Sequential)
    return net


def images(size: int = 32, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def strides(net: nn.Module) -> list[str]:
    """Return the names of the convolutions with stride."""
    return [name for name, each in net.named_modules() if isinstance(each, nn.Conv2d) and each.stride[0] > 1]


def relu_of(conv: str) -> str:
    return conv.replace("conv", "relu")


@pytest.mark.parametrize("size", [32, 29])
@pytest.mark.parametrize("choices", STRIDED_NETS, ids=str)
def test_the_first_stride_samples_what_its_pooling_takes_the_maximum_of(choices: dict[str, Any], size: int) -> None:
    net = paper_net(**choices)
    twin = pooled_twin(net)
    relu = relu_of(strides(net)[0])
    with torch.no_grad():
        strided = activations(net, images(size), relu)
        dense, pooled = activations(twin, images(size), relu), activations(twin, images(size), "switches1")
    assert strided.abs().sum() > 0
    # In float64, on whatever kernels: equal but for the order of sums.
    assert torch.allclose(dense[:, :, ::2, ::2], strided, rtol=1e-12, atol=1e-14)
    assert bool((pooled >= dense[:, :, ::2, ::2]).all())
    assert bool((pooled > dense[:, :, ::2, ::2]).any())


@pytest.mark.parametrize("size", [32, 29])
@pytest.mark.parametrize("choices", STRIDED_NETS, ids=str)
def test_all_maps_keep_their_sizes(choices: dict[str, Any], size: int) -> None:
    net = paper_net(**choices)
    twin = pooled_twin(net)
    behind = [relu_of(name) for name in strides(net)]
    assert len(behind) == 2
    for name, _ in net.named_children():
        own = f"switches{behind.index(name) + 1}" if name in behind else name
        with torch.no_grad():
            shape = activations(twin, images(size, 1), own).shape
            if name not in strides(net):
                assert shape == activations(net, images(size, 1), name).shape


def test_modules_keep_their_names_and_the_switches_stand_behind_the_relus() -> None:
    net = paper_net()
    names = [name for name, _ in net.named_children()]
    at = [names.index("relu3") + 1, names.index("relu6") + 2]
    expected = list(names)
    expected.insert(at[0], "switches1")
    expected.insert(at[1], "switches2")
    assert [name for name, _ in pooled_twin(net).named_children()] == expected


def test_the_twin_has_the_weights_and_the_network_stays_as_it_was() -> None:
    net = paper_net(batch_norm=True)
    before = deepcopy(net.state_dict())
    twin = pooled_twin(net)
    assert list(twin.state_dict()) == list(before)
    assert all(torch.equal(twin.state_dict()[name], value) for name, value in before.items())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert strides(net) == ["conv3", "conv6"]
    assert strides(twin) == []
    assert not twin.training


def test_a_normalisation_comes_before_the_pooling() -> None:
    net = paper_net(batch_norm=True)
    names = [name for name, _ in pooled_twin(net).named_children()]
    at = names.index("switches1")
    assert names[at - 3 : at] == ["conv3", "norm3", "relu3"]


def test_without_a_relu_the_pooling_stands_behind_the_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 1, stride=2), nn.BatchNorm2d(2))
    assert [name for name, _ in pooled_twin(net.eval()).named_children()] == ["0", "switches1", "1", "2", "switches2"]


def test_sampled_convolutions_sample_no_longer() -> None:
    net = paper_net(base=Base.b, variant=Variant.strided)
    assert [type(net.get_submodule(name)) for name in strides(net)] == [SampledConv, SampledConv]
    with torch.no_grad():
        assert activations(pooled_twin(net), images(), strides(net)[0]).shape[2:] == (32, 32)


# attribution.md, section 4, "after stride->2x2 pool".
def test_receptive_fields_are_the_known_ones() -> None:
    twin = pooled_twin(paper_net())
    known = {
        **{f"conv{number}": side for number, side in ((1, 3), (2, 5), (3, 7), (4, 12), (5, 16), (6, 20), (7, 30))},
        **{"switches1": 8, "switches2": 22, "conv9": 30},
    }
    assert {layer: fields(twin, layer, 64).size[0] for layer in known} == known


def test_the_deconvnet_has_switches_to_go_by() -> None:
    net = paper_net(width=0.2)
    first, second = images(count=1), images(count=2)[1:]

    def maps(cell: nn.Module, image: Tensor) -> Tensor:
        unit = {"layer": "conv6", "channels": 1, "positions": [[3, 3]]}
        return attribute(cell, image, rule="deconvnet", **unit).maps

    assert maps(net, first).abs().sum() > 0
    assert torch.equal(maps(net, first), maps(net, second))
    twin = pooled_twin(net)
    assert maps(twin, first).abs().sum() > 0
    assert not torch.allclose(maps(twin, first), maps(twin, second))


def test_larger_strides_get_larger_windows() -> None:
    net = build_network(
        ModelConfig(family=Family.all_cnn_b_imagenet, width=0.02), num_classes=2, image_size=64, seed=1
    ).eval()
    twin = pooled_twin(net)
    pool = twin.get_submodule("switches1")
    assert isinstance(pool, nn.MaxPool2d)
    assert pool.kernel_size == 4
    image = images(64, 1).float()
    with torch.no_grad():
        assert activations(twin, image, "switches1").shape == activations(net, image, "relu1").shape
        assert twin(image).shape == (1, 2)


def test_modules_that_stand_there_twice_do_so_in_the_twin() -> None:
    conv, relu = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ReLU()
    twin = pooled_twin(nn.Sequential(conv, relu, conv, relu).eval())
    assert [name for name, _ in twin._modules.items()] == ["0", "1", "switches1", "2", "3", "switches2"]
    assert twin.get_submodule("1") is twin.get_submodule("3")
    assert fields(twin, "switches2", 16).size[0] == 3 + 1 + 2 * 2 + 2


class Net(nn.Module):
    """No sequence."""


class Own(nn.Sequential):
    """A sequence in its own order."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Net(), "Net: only the strides of an nn.Sequential"),
        (Own(nn.Conv2d(3, 1, 1, stride=2)), "Own: only the strides of an nn.Sequential"),
        (nn.Sequential(nn.Conv2d(3, 1, 3), nn.GELU()), "1 is a GELU, of which is not known what it sees"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 1, 1, stride=2))), "0 is a Sequential, of which is not known"),
        (nn.Sequential(nn.Conv2d(3, 1, 3, stride=(1, 2))), "0 is a Conv2d, of which is not known what it sees"),
        (nn.Sequential(nn.Conv2d(3, 1, 3), nn.MaxPool2d(3, 2)), "no convolution of the network has a stride"),
        (paper_net(variant=Variant.base), "no convolution of the network has a stride"),
        (paper_net(variant=Variant.convpool), "no convolution of the network has a stride"),
        (pooled_twin(paper_net()), "the network has a module switches1 already"),
    ],
)
def test_what_has_no_strides_or_is_no_plain_sequence_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(AttributionError, match=message):
        pooled_twin(net)
