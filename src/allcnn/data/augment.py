"""Augmentation, drawn anew for each training image in each step, a batch at a time, on the images' device.

Every draw is a function of (seed, purpose, step, place in the batch) and each purpose has its own
stream, so that switching one off changes no other.

Shapes: b images, h height, w width; images are channels_last in and out.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from allcnn.config import Augment, AugmentConfig
from allcnn.data.own_augmentation import OwnAugmentation
from allcnn.randomness import Streams, integers, uniform


def augment(
    images: Tensor, config: AugmentConfig, *, size: int, streams: Streams, own: OwnAugmentation | None = None
) -> Tensor:
    """Return what the net trains on: [b, 3, size, size], or [b, 3, canvas_px, canvas_px] for extreme.

    images: [b, 3, h, w], preprocessed, at least size x size. Pixels outside an image are zero.
    streams: of the seed and the step, one for each of `purposes`. own: the user's, for custom.
    """
    images = _augmented(images, config, size, streams, own)
    return cut_out(images, config.cutout_px, streams) if config.cutout_px else images


def _augmented(
    images: Tensor, config: AugmentConfig, size: int, streams: Streams, own: OwnAugmentation | None
) -> Tensor:
    match config.kind:
        case Augment.none:
            return centre_window(images, size)
        case Augment.flip_shift:
            flips, down_px, right_px = _draw_flip_shift(images, config, streams)
            return flip_shift(images, flips, down_px, right_px, size=size, reach_px=config.shift_px)
        case Augment.extreme:
            return _extreme(images, config, streams)
        case Augment.custom:
            assert own is not None
            return own(centre_window(images, size), streams)


def purposes(config: AugmentConfig) -> list[str]:
    """Return what `augment` and `mixed` draw from, one stream each; what a user's own draws from only that knows."""
    cutout = ["cutout_y", "cutout_x"] if config.cutout_px else []
    return [*_purposes(config), *cutout, *(["mixup"] if config.mixup else [])]


def _purposes(config: AugmentConfig) -> list[str]:
    match config.kind:
        case Augment.none | Augment.custom:
            return []
        case Augment.flip_shift:
            return ["flip", "shift_y", "shift_x"]
        case Augment.extreme:
            colours = [f"colour_{name}" for name in "rgb"]
            return ["flip", "scale", "contrast", *colours, "rotate", "place_x", "place_y"]


def cut_out(images: Tensor, side: int, streams: Streams) -> Tensor:
    """Return the images with a square of zeros each, centred on a random pixel, cut where it leaves the image.

    DeVries & Taylor 2017, 'Improved Regularization of Convolutional Neural Networks with Cutout'.
    """
    count, (height, width) = len(images), images.shape[2:]

    def within(purpose: str, length: int) -> Tensor:
        """Return bool [b, length]: the pixels along one axis that the square covers."""
        first = integers(streams(purpose), count, length) - side // 2
        pixels = torch.arange(length, device=images.device) - first[:, None]
        return (pixels >= 0) & (pixels < side)

    square = within("cutout_y", height)[:, None, :, None] & within("cutout_x", width)[:, None, None, :]
    return torch.where(square, 0.0, images).contiguous(memory_format=torch.channels_last)


def eval_view(images: Tensor, config: AugmentConfig, size: int) -> Tensor:
    """Return what the net is scored on: `augment` with nothing drawn.

    For extreme that is the image in the middle of the canvas, upright, at the mean enlargement.
    """
    if config.kind is not Augment.extreme:
        return centre_window(images, size)
    count, device = len(images), images.device
    zeros = torch.zeros(count, device=device)
    scale = torch.full((count,), (config.scale_min + config.scale_max) / 2, device=device)
    return place(images, config.canvas_px, scale=scale, radians=zeros, right_px=zeros, down_px=zeros, flips=zeros > 0)


def centre_window(images: Tensor, size: int) -> Tensor:
    """Return the middle [b, 3, size, size] of the images; they themselves where they are that size."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    if images.shape[2:] == (size, size):
        return images
    return images[:, :, top : top + size, left : left + size].contiguous(memory_format=torch.channels_last)


def flip_shift(images: Tensor, flips: Tensor, down_px: Tensor, right_px: Tensor, *, size: int, reach_px: int) -> Tensor:
    """Return [b, 3, size, size]: flipped where `flips` [b], then the window moved off the centre.

    down_px, right_px: int64 [b], how far the window moves, at most reach_px; the content moves the
    other way.
    """
    top, left = (images.shape[2] - size) // 2 + reach_px, (images.shape[3] - size) // 2 + reach_px
    pixels = images.permute(0, 2, 3, 1)
    pixels = torch.where(flips[:, None, None, None], pixels.flip(2), pixels)
    pixels = F.pad(pixels, (0, 0, reach_px, reach_px, reach_px, reach_px))
    # Every window there is, as a view; picking one per image copies whole rows of pixels, three
    # times as fast as a gather of single pixels.
    windows = pixels.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)
    each = torch.arange(len(images), device=images.device)
    return windows[each, top + down_px, left + right_px].permute(0, 3, 1, 2)


def _draw_flip_shift(images: Tensor, config: AugmentConfig, streams: Streams) -> tuple[Tensor, Tensor, Tensor]:
    """Return flips bool [b], down_px and right_px int64 [b] in -shift_px ... shift_px."""

    def shift(purpose: str) -> Tensor:
        return integers(streams(purpose), len(images), 2 * config.shift_px + 1) - config.shift_px

    return _draw_flips(images, config, streams), shift("shift_y"), shift("shift_x")


def _draw_flips(images: Tensor, config: AugmentConfig, streams: Streams) -> Tensor:
    return uniform(streams("flip"), len(images)) < config.flip_probability


def _extreme(images: Tensor, config: AugmentConfig, streams: Streams) -> Tensor:
    """Place each image on a zero canvas: enlarged, rotated, with other contrast and colour.

    Its centre is uniform over where the enlarged, unrotated square stays inside the canvas, or in
    the middle where it is larger than that; only a rotated corner, or what is larger, is cut off.
    """

    def symmetric(purpose: str) -> Tensor:
        """Draw [b] from [-1, 1)."""
        return 2 * uniform(streams(purpose), len(images)) - 1

    share = (symmetric("scale") + 1) / 2
    scale = config.scale_min + (config.scale_max - config.scale_min) * share
    room_px = ((config.canvas_px - scale * images.shape[2]) / 2).clamp(min=0)
    contrast = 1 + config.contrast * symmetric("contrast")
    colour = config.colour_shift * torch.stack([symmetric(f"colour_{name}") for name in "rgb"], dim=1)
    return place(
        images * contrast[:, None, None, None] + colour[:, :, None, None],
        config.canvas_px,
        scale=scale,
        radians=math.radians(config.rotate_degrees) * symmetric("rotate"),
        right_px=room_px * symmetric("place_x"),
        down_px=room_px * symmetric("place_y"),
        flips=_draw_flips(images, config, streams),
    )


def place(
    images: Tensor, canvas_px: int, *, scale: Tensor, radians: Tensor, right_px: Tensor, down_px: Tensor, flips: Tensor
) -> Tensor:
    """Return [b, 3, canvas_px, canvas_px], zero but for the image, interpolated bilinearly.

    All [b]. right_px, down_px: the image's centre, from the canvas's; radians: anticlockwise.
    """
    size = images.shape[2]
    cos, sin = torch.cos(radians), torch.sin(radians)
    mirror = torch.where(flips, -1.0, 1.0)
    # grid_sample asks, for each point of the canvas, for the point of the image: the inverse map,
    # with both measured from the centre in units of half a side.
    inverse = torch.stack([torch.stack([mirror * cos, mirror * -sin], 1), torch.stack([sin, cos], 1)], 1)
    inverse = inverse / (scale * size / 2)[:, None, None]  # [b, 2, 2], from canvas pixels
    centre = torch.stack([right_px, down_px], 1)[:, :, None]
    theta = torch.cat([inverse * (canvas_px / 2), -inverse @ centre], dim=2).to(images.dtype)
    grid = F.affine_grid(theta, [len(images), images.shape[1], canvas_px, canvas_px], align_corners=False)
    # "border" and a mask, not "zeros": the image's edge is not to fade into the canvas.
    placed = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    placed = placed * (grid.abs() <= 1).all(dim=3)[:, None]
    return placed.contiguous(memory_format=torch.channels_last)
