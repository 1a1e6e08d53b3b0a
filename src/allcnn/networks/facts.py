"""The size of a net before it trains: can it be built, does it take such images, how much is there to compute.

Imports torch for a user's own net alone: the study's are lists of layers, and a sweep is planned without torch, which
takes seconds to import.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from allcnn.config import Family, ModelConfig
from allcnn.networks import spec
from allcnn.networks.spec import IMAGE_CHANNELS, Conv, Layer
from strive.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFacts:
    """The size of a net, known before it is trained."""

    parameters: int  # trainable numbers, biases included
    flops: int  # of the convolutions in one forward pass of one image; a multiply-add is two


def check_network(model: ModelConfig, *, num_classes: int, image_size: int) -> NetworkFacts:
    """Return the size of a net that can be built and takes such images.

    Raises ConfigError for an image that is too small, or a builder that is wrong.
    """
    if model.family is Family.custom:
        from allcnn.networks.custom_facts import check_custom

        return check_custom(model, num_classes=num_classes, image_size=image_size)
    layers = spec.layers(model, num_classes)
    if min(spec.sides(layers, image_size)) < 1:
        raise _too_small(model, layers, image_size)
    return _facts(layers, image_size)


def _facts(layers: Sequence[Layer], image_size: int) -> NetworkFacts:
    parameters = flops = 0
    for conv, channels, side in _convolutions(layers, image_size):
        weights = conv.channels * channels * conv.kernel**2
        parameters += weights + conv.channels * (3 if conv.batch_norm else 1)  # biases; scale and shift of each map
        flops += 2 * side**2 * weights
    return NetworkFacts(parameters=parameters, flops=flops)


def _convolutions(layers: Sequence[Layer], image_size: int) -> Iterator[tuple[Conv, int, int]]:
    """Yield each convolution, the channels that it takes, and the height (= width) of the map that it makes."""
    channels = IMAGE_CHANNELS
    for layer, side in zip(layers, spec.sides(layers, image_size), strict=True):
        if isinstance(layer, Conv):
            yield layer, channels, side
            channels = layer.channels


def _too_small(model: ModelConfig, layers: Sequence[Layer], image_size: int) -> ConfigError:
    least = next(size for size in itertools.count(1) if min(spec.sides(layers, size)) >= 1)
    group = "" if model.family is Family.paper else "extra/"
    return ConfigError(
        f"model={group}{model.name} needs images of at least {least}x{least} pixels, got {image_size}x{image_size};"
        f" raise data.image_size (with augment=extreme: augment.canvas_px) to {least} or more,"
        " or choose another model"
    )
