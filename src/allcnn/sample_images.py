"""Sample images as PNG: the net's inputs, and its most confident mistakes.

The same cell gives the same bytes, with the same version of pillow. Every draw is a function of the
seed and the step, as in training, so that making a picture changes nothing there.

Shapes: n test images, b images of a picture, h height, w width.
"""

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from allcnn import randomness
from allcnn.config import Config
from allcnn.data.augment import augment, eval_view
from allcnn.data.own_augmentation import own_augmentation
from allcnn.data.splits import Splits

_TILE_PX = 128  # small images are enlarged by a whole factor, to about this side
_LEAST_WIDTH_PX = 480  # so that the caption over a single tile can be read
_GAP_PX = 12
_TEXT_PX = 13
_LINE_PX = 17
_SCALED = "Each image is scaled by its own minimum and maximum."

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class _Line(NamedTuple):
    """A line of text below an image."""

    name: str  # cut where it is too long for the image
    before: str = ""
    right: str = ""  # at the image's right edge


def inputs_picture(config: Config, splits: Splits, count: int) -> bytes:
    """Return the first `count` images of the first training step as they go into the net, over their classes.

    The net's own dropout comes after that. A step with fewer images is shown whole.
    """
    train = splits.train
    order = torch.randperm(len(train), generator=randomness.generator(config.seed, "order", 0))
    step = order[: config.budget.batch_size]
    # What is drawn for an image goes by its place in the batch, so the others need not be read.
    rows = step[:count]
    ((images, _),) = train.batches([rows])
    streams = randomness.streams(config.seed, 0, images.device)
    own = own_augmentation(config.augment, seed=config.seed)
    seen = augment(images, config.augment, size=config.data.image_size, streams=streams, own=own)
    names = [splits.class_names[label] for label in train.labels[rows].tolist()]
    caption = (
        f"{config.data.name}, seed {config.seed}: training images of the first step as the net sees them, after"
        f" preprocess={config.preprocess.kind.value} and augment={config.augment.kind.value}"
        f"{', before mixup' if config.augment.mixup else ''}."
        f" Shown: {len(rows):,} of {len(step):,}. {_SCALED}"
    )
    return _picture(caption, seen.cpu(), [[_Line(name)] for name in names])


def mistakes_picture(config: Config, splits: Splits, logits: Tensor, labels: Tensor, count: int) -> bytes:
    """Return the `count` test images that the net got wrong with the greatest confidence.

    As the net was scored on them. Below each: its class -> the class predicted, and the softmax of that.

    logits [n, classes], labels [n]: of the test split, on the CPU.
    """
    wrong, confidences = worst_mistakes(logits, labels)
    cell = f"{config.data.name}, seed {config.seed}"
    caption = f"{cell}: the net is wrong on {len(wrong):,} of {len(labels):,} test images."
    if not len(wrong):
        return _picture(f"{caption} There is no mistake to show.", [], [])
    rows = wrong[:count]
    ((images, _),) = splits.test.batches([rows])
    seen = eval_view(images, config.augment, config.data.image_size)
    true, predicted = labels[rows].tolist(), logits[rows].argmax(1).tolist()
    lines = [
        [_Line(splits.class_names[own]), _Line(splits.class_names[other], before="-> ", right=f"{confidence:.0%}")]
        for own, other, confidence in zip(true, predicted, confidences[:count].tolist(), strict=True)
    ]
    caption += (
        f" Shown: {len(rows):,}, the most confident first; below each its class -> the class predicted, and the"
        f" softmax of that. Preprocessed as for the net. {_SCALED}"
    )
    return _picture(caption, seen.cpu(), lines)


def worst_mistakes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of all wrong images, the most confident first, and the softmax of the classes predicted.

    Equal ones are in the order of their rows; NaN, which a diverged net gives, comes last.
    """
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    # In float32 every lead of more than 17 is a softmax of 1, and the order is lost.
    confidences = logits[wrong].double().softmax(1).amax(1)
    order = confidences.nan_to_num(-1).argsort(descending=True, stable=True)
    return wrong[order], confidences[order]


def scaled(image: Tensor) -> npt.NDArray[np.uint8]:
    """Return the image [3, h, w] as [h, w, 3]: its least number is 0, its greatest 255; a flat image is 0."""
    numbers = image.permute(1, 2, 0).double()
    low, high = numbers.min(), numbers.max()
    span = high - low if high > low else 1
    return ((numbers - low) * 255 / span).round().to(torch.uint8).numpy()


def _picture(caption: str, images: Tensor | Sequence[Tensor], lines: Sequence[Sequence[_Line]]) -> bytes:
    """Return a PNG: the caption, and the images [b, 3, h, w] in rows, each over as many lines as the others."""
    font = ImageFont.load_default(size=_TEXT_PX)
    tiles = [_tile(image, below, font) for image, below in zip(images, lines, strict=True)]
    wide, high = tiles[0].size if tiles else (0, 0)
    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    width = max(_LEAST_WIDTH_PX, columns * (wide + _GAP_PX) - _GAP_PX)
    heading = _wrapped(caption, width, font)
    top = _GAP_PX + _LINE_PX * len(heading) + _GAP_PX
    height = top + math.ceil(len(tiles) / columns) * (high + _GAP_PX)
    canvas = Image.new("RGB", (_GAP_PX + width + _GAP_PX, height), "white")
    for number, text in enumerate(heading):
        ImageDraw.Draw(canvas).text((_GAP_PX, _GAP_PX + _LINE_PX * number), text, "black", font)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        canvas.paste(tile, (_GAP_PX + column * (wide + _GAP_PX), top + row * (high + _GAP_PX)))
    content = io.BytesIO()
    canvas.save(content, format="PNG")
    return content.getvalue()


def _tile(image: Tensor, lines: Sequence[_Line], font: _Font) -> Image.Image:
    """Return the image [3, h, w], enlarged if it is small, over its lines."""
    pixels = scaled(image)
    factor = max(1, round(_TILE_PX / len(pixels)))
    enlarged = Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    wide, high = enlarged.size
    tile = Image.new("RGB", (wide, high + 2 + _LINE_PX * len(lines)), "white")
    tile.paste(enlarged)
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate(lines):
        y = high + 2 + _LINE_PX * number
        draw.text((0, y), _fitted(line, wide, font), "black", font)
        draw.text((wide, y), line.right, "dimgrey", font, anchor="ra")
    return tile


def _fitted(line: _Line, width_px: int, font: _Font) -> str:
    """Return the left part of the line, its name cut with an ellipsis until it fits."""
    # A folder may have any name, and a line break in it would be drawn as one.
    name = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line.name)
    text, room = line.before + name, width_px - font.getlength(f" {line.right}" if line.right else "")
    for length in range(len(name) - 1, -1, -1):
        if font.getlength(text) <= room:
            break
        text = f"{line.before}{name[:length].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    return text


def _wrapped(text: str, width_px: int, font: _Font) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
