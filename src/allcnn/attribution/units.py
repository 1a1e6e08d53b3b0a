"""One unit of a layer for each image: a channel and, in a layer of maps, a position.

Shapes: n images, c channels of a layer, h' and w' of its maps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from allcnn.attribution.relu_override import AttributionError

Channels = int | Sequence[int] | Tensor | None
Positions = Sequence[Sequence[int]] | Tensor | None


class Units(NamedTuple):
    """One unit for each of n images."""

    channels: Tensor  # int64 [n]
    positions: Tensor  # int64 [n, 2], row and column in the layer's map; [n, 0] where the layer has no map

    def of(self, activations: Tensor) -> Tensor:
        """Return the units' own activations [n] out of a layer's [n, c, h', w'] or [n, c]."""
        picked: Tensor = activations[torch.arange(len(activations)), self.channels, *self.positions.unbind(1)]
        return picked


def choose_units(activations: Tensor, channels: Channels, positions: Positions) -> Units:
    """Return the units that are asked for; what is left open goes to the largest activation.

    Of equal ones it is the one of the lower channel, then row, then column. Raises AttributionError for units
    that the layer does not have.
    """
    count, size = len(activations), activations.shape[2:]
    flat = activations.flatten(2) if size else activations.unsqueeze(2)  # [n, c, positions]
    if channels is None:
        largest = first_largest(flat.amax(2))
    else:
        largest = _checked(channels, "channels", (count,), (flat.shape[1],)).to(flat.device)
    if positions is not None:
        return Units(largest, _checked(positions, "positions", (count, len(size)), tuple(size)).to(flat.device))
    of_channel = flat[torch.arange(count), largest]  # [n, positions]
    place = first_largest(of_channel)
    places = [place // size[1], place % size[1]] if size else []
    return Units(largest, torch.stack(places, 1) if places else place.new_empty(count, 0))


def given_units(images: Tensor, channels: Channels, positions: Positions) -> Units:
    """Return the units that are asked for, whether the layer has them or not."""
    count, device = len(images), images.device
    return Units(
        _checked(channels, "channels", (count,)).to(device), _checked(positions, "positions", (count, 2)).to(device)
    )


def first_largest(values: Tensor) -> Tensor:
    """Return for each row of [n, m] the place of its largest value; of equal ones the first."""
    # torch.argmax documents this. A NaN counts as the largest.
    return values.argmax(1)


def _checked(value: object, name: str, shape: tuple[int, ...], limits: tuple[int, ...] = ()) -> Tensor:
    """Return the value as int64 of that shape, its last axis below the limits, where there are any."""
    numbers = torch.as_tensor(value)
    if numbers.dtype.is_floating_point or numbers.dtype is torch.bool:
        raise AttributionError(f"{name} must be integers, got {numbers.dtype}")
    if name == "channels" and numbers.dim() == 0:
        numbers = numbers.expand(shape)
    if tuple(numbers.shape) != shape:
        raise AttributionError(
            f"{name} must be of shape {list(shape)} for these images and this layer, got {list(numbers.shape)}"
        )
    numbers = numbers.long()
    beyond = numbers.cpu() >= torch.tensor(limits) if limits else numbers < 0
    if limits and bool((beyond | (numbers.cpu() < 0)).any()):
        raise AttributionError(
            f"{name} must be in [0, {limits[0] if len(limits) == 1 else list(limits)}), got {numbers.tolist()}"
        )
    return numbers
