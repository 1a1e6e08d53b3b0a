"""Builds a network from a ModelConfig: [n, 3, h, w] images in, [n, num_classes] logits out."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from allcnn.config import Family, ModelConfig
from allcnn.networks import spec
from allcnn.networks.custom import build_custom
from allcnn.networks.dropout import HashDropout
from allcnn.networks.init import initialise
from allcnn.networks.pooling import NormPool
from allcnn.networks.spec import IMAGE_CHANNELS, Conv, Dropout, Layer, Pool


class GlobalMean(nn.Module):
    """Average each map over its height and width, in float32."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map [n, c, h, w] to float32 [n, c]."""
        return maps.float().mean(dim=(2, 3))


class SampledConv(nn.Conv2d):
    """A 1x1 convolution with stride, computed as sampling followed by a 1x1 convolution.

    torch 2.14.1 corrupts memory on a CPU in such a convolution of few channels (seen with 12 or 14, two threads
    and an odd batch, and with 3 and 6 and one thread): the process aborts, or worse, does not.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Map [n, c, h, w] to [n, c', h / stride, w / stride]."""
        down, right = self.stride
        sampled = maps[:, :, ::down, ::right].contiguous(memory_format=torch.channels_last)
        return F.conv2d(sampled, self.weight, self.bias)


def build_network(model: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Return an untrained network on the CPU.

    Maps images [n, 3, h, w] (float, h = w = image_size) to float32 logits [n, num_classes].
    Its weights depend on the model and the seed alone, and torch's global generator is left
    as it was. The paper's nets are nn.Sequential with named parts: dropout0 (of the input),
    conv1, relu1, conv2, ..., pool1, dropout1, ..., mean.
    """
    if model.family is Family.custom:
        return build_custom(model, num_classes=num_classes, image_size=image_size, seed=seed)
    network = _assemble(spec.layers(model, num_classes))
    initialise(network, model, seed)
    return network


def count_parameters(network: nn.Module) -> int:
    """Return the number of trained values: weights and biases."""
    return sum(parameter.numel() for parameter in network.parameters())


def _assemble(layers: Sequence[Layer]) -> nn.Sequential:
    # Convolutions draw weights when they are made. They are overwritten, but the draws must
    # not move the caller's generator.
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential()
        for name, module in _named_modules(layers):
            network.add_module(name, module)
    return network


def _named_modules(layers: Sequence[Layer]) -> Iterator[tuple[str, nn.Module]]:
    channels = IMAGE_CHANNELS
    conv_number, pool_number, dropout_number = itertools.count(1), itertools.count(1), itertools.count(0)
    for layer in layers:
        match layer:
            case Conv():
                number = next(conv_number)
                kind = SampledConv if layer.kernel == 1 and layer.stride > 1 else nn.Conv2d
                yield (
                    f"conv{number}",
                    kind(channels, layer.channels, layer.kernel, stride=layer.stride, padding=layer.padding),
                )
                if layer.batch_norm:
                    yield f"norm{number}", nn.BatchNorm2d(layer.channels)
                if layer.relu:
                    yield f"relu{number}", nn.LeakyReLU(layer.slope) if layer.slope else nn.ReLU()
                channels = layer.channels
            case Pool():
                yield f"pool{next(pool_number)}", NormPool(layer.norm, layer.rounding)
            case Dropout():
                yield f"dropout{next(dropout_number)}", HashDropout(layer.share)
    yield "mean", GlobalMean()
