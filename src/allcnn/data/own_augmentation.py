"""An augmentation of the user's own: augment=custom augment.builder=package.module:function."""

from collections.abc import Callable

import torch
from torch import Tensor

from allcnn import randomness
from allcnn.config import Augment, AugmentConfig
from allcnn.randomness import Streams, uniform
from allcnn.user_builder import builder_error, built
from strive.errors import ConfigError

Draw = Callable[[str], Tensor]
Function = Callable[[Tensor, Draw], Tensor]


class OwnAugmentation:
    """What a user's builder returned, with a check of what it makes of a batch."""

    def __init__(self, builder: str, function: Function) -> None:
        self._builder, self._function = builder, function

    def __call__(self, images: Tensor, streams: Streams) -> Tensor:
        """Map [b, 3, h, w] to another batch of that shape.

        The function also gets `draw`: draw("angle") is float32 [b], uniform over [0, 1), always the same for a seed,
        step and name. Raises ConfigError for what is no such batch.
        """

        def draw(name: str) -> Tensor:
            return uniform(streams(f"custom {name}"), len(images))

        with torch.no_grad():
            found: object = self._function(images, draw)
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (images.shape, images.dtype):
            got = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise builder_error(
                "augment",
                self._builder,
                f"its function must map images {images.dtype} {list(images.shape)} to images of that type and shape,"
                f" got {got}",
            )
        return found.contiguous(memory_format=torch.channels_last)


def own_augmentation(config: AugmentConfig, *, seed: int) -> OwnAugmentation | None:
    """Return the augmentation that the builder makes; None for an augmentation of the study.

    Raises ConfigError if the builder cannot be imported, called or used.
    """
    if config.kind is not Augment.custom:
        return None
    function = built("augment", config.builder, config.kwargs, {}, seed=seed)
    if not callable(function):
        raise builder_error(
            "augment", config.builder, f"must return a function of (images, draw), got {type(function).__name__}"
        )
    return OwnAugmentation(config.builder, function)


def check_augmentation(config: AugmentConfig, size: int) -> None:
    """Try a user's augmentation on a batch of two grey images; raise ConfigError where it fails."""
    own = own_augmentation(config, seed=0)
    if own is None:
        return
    images = torch.zeros(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    try:
        with torch.random.fork_rng(devices=[]):
            own(images, randomness.streams(0, 0, images.device))
    except ConfigError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise builder_error("augment", config.builder, f"its function(images, draw) raised {error!r}") from error
