"""A crop of an image that contains all that one unit sees, on which the network computes the same as on the image.

A unit's map then costs as much as its receptive field is large, which is very little in the lower layers.

Shapes: n images, h and w of the image, s side of a window.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from allcnn.attribution.receptive_field import ReceptiveField
from allcnn.attribution.units import Units


class Window(NamedTuple):
    """A square of each image, and where it begins."""

    images: Tensor  # [n, 3, s, s]
    units: Units  # their positions within the window's map
    corners: list[tuple[int, int]]  # top and left, in pixels
    size: tuple[int, int]  # of the whole image
    jump: int  # of the layer, in pixels

    def whole(self, made: Tensor) -> Tensor:
        """Return a tensor of the layer's shape for whole images, without its values; made: for these windows."""
        more = [(length - self.images.shape[2]) // self.jump for length in self.size]
        sizes = [size + beyond for size, beyond in zip(made.shape[2:], more, strict=True)]
        return made.new_empty(1).expand(*made.shape[:2], *sizes)

    def pasted(self, signal: Tensor) -> Tensor:
        """Return [n, 3, h, w]: the signal [n, 3, s, s] in its place, and zeros."""
        side = signal.shape[2]
        maps = signal.new_zeros(*signal.shape[:2], *self.size)
        for own, part, (top, left) in zip(maps, signal, self.corners, strict=True):
            own[:, top : top + side, left : left + side] = part
        return maps


def window_side(field: ReceptiveField | None, images: Tensor) -> int | None:
    """Return s for units of that field, None where cropping gains nothing, or is not exact."""
    if field is None or field.jump == 0:
        return None
    # A window begins at a multiple of the stride, so that the network samples the same pixels.
    side = -(-(field.size + field.jump - 1) // field.jump) * field.jump
    high, wide = images.shape[2:]
    fits = side <= 0.75 * min(high, wide) and high % field.jump == 0 and wide % field.jump == 0
    return side if fits else None


def window_of(images: Tensor, units: Units, field: ReceptiveField, side: int) -> Window:
    """Cut from each image [n, 3, h, w] a window that holds all that its unit sees."""
    jump, limits = field.jump, torch.tensor([length - side for length in images.shape[2:]])
    begins = (field.start + units.positions.cpu() * jump).clamp_min(0) // jump * jump
    begins = begins.minimum(limits)
    corners = [(top, left) for top, left in begins.tolist()]
    cut = [image[:, top : top + side, left : left + side] for image, (top, left) in zip(images, corners, strict=True)]
    within = units.positions - begins.to(units.positions.device) // jump
    return Window(torch.stack(cut), Units(units.channels, within), corners, (images.shape[2], images.shape[3]), jump)
