"""Builds a network from a ModelConfig: [n, 3, h, w] images in, [n, num_classes] logits out."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from allcnn.config import Family, ModelConfig
from allcnn.networks import spec
from allcnn.networks.custom import build_custom
from allcnn.networks.dropout import HashDropout
from allcnn.networks.init import initialise
from allcnn.networks.pooling import NormPool
from allcnn.networks.spec import Conv, Dropout, Layer, Pool
from strive.errors import ConfigError

IMAGE_CHANNELS = 3


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


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFacts:
    """The size of a net, known before it is trained."""

    parameters: int  # trainable numbers, biases included
    flops: int  # of one forward pass of one image; a multiply-add is two


def check_network(model: ModelConfig, *, num_classes: int, image_size: int) -> NetworkFacts:
    """Return the size of a net that can be built and takes such images.

    Raises ConfigError for an image that is too small, or a builder that is wrong.
    """
    if model.family is not Family.custom:
        _check_image_size(model, num_classes, image_size)
    # Meta tensors have shapes and no values, which costs next to nothing.
    with contextlib.suppress(Exception):
        return _measure(model, num_classes, image_size, torch.device("meta"))
    # Builders that read values (.item(), .numpy()) are sound, but fail on meta tensors.
    return _measure(model, num_classes, image_size, torch.device("cpu"))


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


def _check_image_size(model: ModelConfig, num_classes: int, image_size: int) -> None:
    layers = spec.layers(model, num_classes)
    if min(spec.sides(layers, image_size)) >= 1:
        return
    least = next(size for size in itertools.count(1) if min(spec.sides(layers, size)) >= 1)
    raise ConfigError(
        f"{_model_override(model)} needs images of at least {least}x{least} pixels, got {image_size}x{image_size};"
        f" raise data.image_size (with augment=extreme: augment.canvas_px) to {least} or more,"
        " or choose another model"
    )


def _measure(model: ModelConfig, num_classes: int, image_size: int, device: torch.device) -> NetworkFacts:
    """Build the net on the device, check the shape of its logits for one image, count its operations."""
    with device:
        if model.family is Family.custom:
            network = build_custom(model, num_classes=num_classes, image_size=image_size, seed=0)
        else:
            network = _assemble(spec.layers(model, num_classes))
        image = torch.zeros(1, IMAGE_CHANNELS, image_size, image_size)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits = network.eval()(image)
    except Exception as error:
        raise ConfigError(
            f"{_model_override(model)}: the net failed on images {list(image.shape)}: {type(error).__name__}: {error}"
        ) from error
    got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != [1, num_classes]:
        raise ConfigError(
            f"{_model_override(model)}: the net must map images {list(image.shape)} to logits [1, {num_classes}]"
            f" (one row for each image, one column for each class), got {got}"
        )
    return NetworkFacts(parameters=count_parameters(network), flops=counter.get_total_flops())


def _model_override(model: ModelConfig) -> str:
    """Return the choice as the user typed it."""
    match model.family:
        case Family.paper:
            return f"model={model.name}"
        case Family.custom:
            return f"model.builder={model.builder}"
        case Family.large_all_cnn | Family.all_cnn_b_imagenet:
            return f"model=extra/{model.name}"
