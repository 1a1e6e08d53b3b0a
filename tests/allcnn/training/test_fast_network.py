import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from allcnn.config import Base, Config, Family, ModelConfig, Precision, Variant
from allcnn.networks.build import build_network
from allcnn.networks.dropout import reseed
from allcnn.randomness import streams
from allcnn.training.fast_network import WorkingConv, WorkingNetwork, with_moved_strides

CPU = torch.device("cpu")
GRID = list(itertools.product(Base, Variant))


def network(base: Base, variant: Variant, **knobs: object) -> nn.Module:
    model = ModelConfig(base=base, variant=variant, width=0.1, **knobs)  # type: ignore[arg-type]
    net = build_network(model, num_classes=10, image_size=32, seed=0).double()
    with torch.no_grad():
        for parameter in net.parameters():
            # Biases that are not zero, and class outputs that no ReLU cuts off.
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    reseed(net, streams(0, 0, CPU))
    return net.train()


def images() -> Tensor:
    return torch.randn(6, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gradients(net: nn.Module, forward: nn.Module) -> tuple[Tensor, list[Tensor]]:
    logits = forward(images())
    labels = torch.arange(len(logits)) % 10
    return logits, list(torch.autograd.grad(F.cross_entropy(logits.double(), labels), list(net.parameters())))


@pytest.mark.parametrize(("base", "variant"), GRID)
@pytest.mark.parametrize("channels", [0, 8])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_working_net_computes_what_the_net_computes(base: Base, variant: Variant, channels: int, batch_norm: bool):
    net = network(base, variant, batch_norm=batch_norm)
    wanted, wanted_gradients = gradients(net, net)
    got, got_gradients = gradients(net, with_moved_strides(net, channels=channels))
    # float32 in the global average, the rest float64.
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7)
    for a, b in zip(got_gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


def test_strided_cnn_b_as_written_computes_four_outputs_where_one_is_read():
    net = network(Base.b, Variant.strided)
    convs = [part for part in with_moved_strides(net).children() if isinstance(part, WorkingConv)]
    # 5x5, 1x1, 5x5, 1x1, then the head: the paper strides the 1x1.
    assert [conv.stride for conv in convs[:4]] == [(2, 2), (1, 1), (2, 2), (1, 1)]
    assert [part.stride for part in net.children() if isinstance(part, nn.Conv2d)][:4] == [
        (1, 1),
        (2, 2),
        (1, 1),
        (2, 2),
    ]


def test_strided_cnn_b_with_the_stride_moved_gives_the_same_maps_to_twelve_digits():
    net = network(Base.b, Variant.strided)
    assert isinstance(net, nn.Sequential)
    # Without the global average, which is in float32.
    torch.testing.assert_close(with_moved_strides(net)[:-1](images()), net[:-1](images()), rtol=1e-12, atol=1e-14)


def test_batch_normalisation_between_keeps_the_stride_where_it_is():
    # Its statistics are those of all outputs, read or not.
    net = network(Base.b, Variant.strided, batch_norm=True)
    convs = [part for part in with_moved_strides(net).children() if isinstance(part, WorkingConv)]
    assert [conv.stride for conv in convs[:4]] == [(1, 1), (2, 2), (1, 1), (2, 2)]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_bf16_copies_give_the_step_that_autocast_gives(batch_norm: bool):
    config = Config(model=ModelConfig(width=0.1, batch_norm=batch_norm), precision=Precision.bf16)
    net = build_network(config.model, num_classes=10, image_size=32, seed=0).to(memory_format=torch.channels_last)
    twin = copy.deepcopy(net)
    cast, copied = WorkingNetwork(net, config, CPU), WorkingNetwork(twin, config, CPU)
    copied.use_bf16_copies()
    for working, own in ((cast, net), (copied, twin)):
        reseed(own.train(), streams(0, 0, CPU))
        with torch.autocast("cpu", torch.bfloat16):
            logits = working.module(images().float().contiguous(memory_format=torch.channels_last))
        working.backward(F.cross_entropy(logits, torch.arange(6)))
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert b.grad.dtype == torch.float32
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("family", [Family.paper, Family.custom])
def test_each_steps_gradients_are_its_own(family: Family):
    config = Config(model=ModelConfig(family=family))
    conv = nn.Conv2d(3, 1, 1)
    working = WorkingNetwork(nn.Sequential(conv), config, CPU)
    for images in torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 5.0):
        working.backward(working.module(images).sum())
        assert conv.weight.grad is not None
        assert torch.equal(conv.weight.grad, images.sum((0, 2, 3))[None, :, None, None])


def test_refreshed_copies_are_those_of_the_parameters_now():
    config = Config(model=ModelConfig(width=0.1))
    net = build_network(config.model, num_classes=10, image_size=32, seed=0)
    working = WorkingNetwork(net, config, CPU)
    working.use_bf16_copies()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert not torch.equal(working.copies[0], next(net.parameters()).bfloat16())
    working.refresh()
    for mine, parameter in zip(working.copies, net.parameters(), strict=True):
        assert torch.equal(mine, parameter.bfloat16())
