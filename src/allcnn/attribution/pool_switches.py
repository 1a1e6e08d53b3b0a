"""Switches for a network without pooling: its strides give way to max-pooling, after training.

The deconvnet needs the switches of max-pooling. The paper's authors gave them to their networks without pooling
by taking the stride out of a convolution and adding 2x2 max-pooling after it. That changes what the network
computes: the strided map is a sample of what is pooled, and so never larger. What it costs is measured
(`accuracy.accuracy`) and given in every figure.
"""

from collections.abc import Iterator
from copy import deepcopy

from torch import nn

from allcnn.attribution.activations import modules_of
from allcnn.attribution.receptive_field import ReceptiveField, field_after
from allcnn.attribution.relu_override import AttributionError


def pooled_twin(network: nn.Module) -> nn.Module:
    """Return a copy of the network in which max-pooling replaces each convolution's stride.

    The convolutions keep their weights and all modules their names; switches1, switches2, ... are new, each after
    the ReLU of its convolution, or after its normalisation or itself where no ReLU follows. Their windows are as
    large as the stride was, and a window that the border cuts counts too (ceil_mode), as the strided convolution
    looked there: all maps have the sizes that they had.

    Raises AttributionError for a network that has no strides, or is no nn.Sequential of layers known here.
    """
    _check_plain(network)
    twin = nn.Sequential()
    number = 0
    for parts in _blocks(deepcopy(network)):
        first, conv = parts[0]
        stride = _stride(network.get_submodule(first))
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
        for name, module in parts:
            twin.add_module(name, module)
        if stride > 1:
            number += 1
            twin.add_module(f"switches{number}", nn.MaxPool2d(stride, stride, ceil_mode=True))
    return twin.train(network.training)


def _check_plain(network: nn.Module) -> None:
    if type(network).forward is not nn.Sequential.forward:
        raise AttributionError(
            f"{type(network).__name__}: only the strides of an nn.Sequential can be exchanged for max-pooling;"
            " attribute the network as it is"
        )
    for name, module in modules_of(network):
        if field_after(ReceptiveField(), module) is None:
            raise AttributionError(
                f"{name} is a {type(module).__name__}, of which is not known what it sees, so that the network's"
                " strides cannot be exchanged for max-pooling; attribute the network as it is"
            )
        if name.startswith("switches"):
            raise AttributionError(f"the network has a module {name} already, as its twin with max-pooling would have")
    if all(_stride(module) == 1 for module in network.children()):
        raise AttributionError(
            "no convolution of the network has a stride, so that there is nothing to exchange for max-pooling;"
            " a network with pooling has its switches there"
        )


def _blocks(network: nn.Module) -> Iterator[list[tuple[str, nn.Module]]]:
    """Yield the network's modules in order: a convolution together with the normalisation and ReLU after it."""
    parts: list[tuple[str, nn.Module]] = []
    for name, module in modules_of(network):
        last = parts[-1][1] if parts else None
        belongs = isinstance(module, nn.BatchNorm2d) and isinstance(last, nn.Conv2d)
        belongs |= isinstance(module, nn.ReLU | nn.LeakyReLU) and isinstance(last, nn.Conv2d | nn.BatchNorm2d)
        if parts and not belongs:
            yield parts
            parts = []
        parts.append((name, module))
    yield parts


def _stride(module: nn.Module) -> int:
    return module.stride[0] if isinstance(module, nn.Conv2d) else 1
