"""From the bytes of an image file to pixels."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from strive.config import ConfigError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def is_image(name: str) -> bool:
    """Tell whether a file's name is an image's; names with a leading dot are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def decode_square(source: bytes | Path, size: int, name: str) -> npt.NDArray[np.uint8]:
    """Return the image as [size, size, 3]: its centre square, resized bilinearly where it must be.

    Raises ConfigError with `name` when the image cannot be read.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            pixels = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{name} is not a readable image: {error}") from error
    if pixels.size != (size, size):
        side = min(pixels.size)
        left, top = (pixels.width - side) // 2, (pixels.height - side) // 2
        square = pixels.crop((left, top, left + side, top + side))
        pixels = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(pixels)
