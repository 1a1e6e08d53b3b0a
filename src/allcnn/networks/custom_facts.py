"""The size of a user's own net, which is built and tried to find it."""

import contextlib

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from allcnn.config import ModelConfig
from allcnn.networks.build import count_parameters
from allcnn.networks.custom import build_custom
from allcnn.networks.facts import NetworkFacts
from allcnn.networks.spec import IMAGE_CHANNELS
from allcnn.user_builder import builder_error


def check_custom(model: ModelConfig, *, num_classes: int, image_size: int) -> NetworkFacts:
    """Return the size of the net that the builder returns; raise ConfigError if it does not map images to logits."""
    # Meta tensors have shapes and no values, which costs next to nothing.
    with contextlib.suppress(Exception):
        return _tried(model, num_classes, image_size, torch.device("meta"))
    # Builders that read values (.item(), .numpy()) are sound, but fail on meta tensors.
    return _tried(model, num_classes, image_size, torch.device("cpu"))


def _tried(model: ModelConfig, num_classes: int, image_size: int, device: torch.device) -> NetworkFacts:
    """Build the net on the device, check the shape of its logits for one image, count its operations."""
    with device:
        network = build_custom(model, num_classes=num_classes, image_size=image_size, seed=0)
        image = torch.zeros(1, IMAGE_CHANNELS, image_size, image_size)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits: object = network.eval()(image)
    except Exception as error:
        raise builder_error(
            "model",
            model.builder,
            f"the net failed on images {list(image.shape)}: {type(error).__name__}: {error}",
        ) from error
    got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != [1, num_classes]:
        raise builder_error(
            "model",
            model.builder,
            f"the net must map images {list(image.shape)} to logits [1, {num_classes}]"
            f" (one row for each image, one column for each class), got {got}",
        )
    return NetworkFacts(parameters=count_parameters(network), flops=counter.get_total_flops())
