"""Decoding of image files to pixels: the same rules for every source of image files.

- 8-bit grey, palette, RGB, CMYK and YCbCr become RGB as Pillow converts them; colour profiles are not applied.
- 16-bit grey keeps its high byte, v >> 8, as Pillow does with 16-bit colour; 12-bit TIFF keeps its eight high bits.
- Other numbers (32-bit, signed, float) and colour spaces are refused: their values of black and white are not known.
- Transparent images are laid on white.
- The EXIF orientation is applied: pixels are as a viewer shows them.
- An animation or a file of several pages counts as its first image.
"""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from strive.errors import ConfigError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_PLAIN = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_SIXTEEN = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION = 0x0112  # EXIF's tag
# How stored pixels must be moved, by the orientation's number; 1, and numbers that EXIF does not know, leave them.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC = 258, 262  # TIFF's tags


def is_image(name: str) -> bool:
    """Tell whether a file's name is an image's; names with a leading dot are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def decode_square(source: bytes | Path, size: int, name: str) -> npt.NDArray[np.uint8]:
    """Return the image as [size, size, 3]: its centre square, resized bilinearly where it must be.

    Raises ConfigError with `name` when the image cannot be read, or the meaning of its numbers is not known.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            pixels = _upright(_to_rgb(image, name), image)
    except (ConfigError, MemoryError):
        raise
    except UnidentifiedImageError:
        # Pillow's own text names its buffer in memory.
        raise ConfigError(f"{name} is not a readable image: {_first_bytes(source)}") from None
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        text = str(error) or type(error).__name__
        raise ConfigError(f"{name} is not a readable image: {text}") from error
    if pixels.size != (size, size):
        side = min(pixels.size)
        left, top = (pixels.width - side) // 2, (pixels.height - side) // 2
        square = pixels.crop((left, top, left + side, top + side))
        pixels = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(pixels)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    image.load()  # some formats store transparency after the pixels
    if (high := _high_bytes(image)) is not None:
        return high.convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode not in _PLAIN:
        raise ConfigError(
            f"{name} has pixels of mode {image.mode} ({image.format}), whose black and white are not known;"
            " save it with 8 bits a channel, or as grey of 16 bits without a sign"
        )
    return image.convert("RGB")


def _high_bytes(image: Image.Image) -> Image.Image | None:
    """Return the eight high bits of a grey image of more than eight; None where it is no such image."""
    # In mode I, 32 bits, Pillow gives 16-bit PNG (before 11.3) and PGM, scaled to 16 bits; in TIFF it is anything.
    if image.mode not in _SIXTEEN and not (image.mode == "I" and image.format in ("PNG", "PPM")):
        return None
    tags = getattr(image, "tag_v2", {})
    (bits,) = tags.get(_BITS, (16,))
    values = np.asarray(image).astype(np.int32)
    grey = values >> (bits - 8)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns only 8 bits round
        grey = 255 - grey
    if "transparency" in image.info:
        grey = np.where(values == image.info["transparency"], 255, grey)
    return Image.fromarray(grey.astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)
    alpha = values[..., 3:]
    return Image.fromarray(((values[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Apply the image's EXIF orientation; damaged EXIF counts as none."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return pixels
    return pixels if turn is None else pixels.transpose(turn)


def _first_bytes(source: bytes | Path) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(16)
    return f"it begins with {source[:16]!r}, as no image does" if source else "it is empty"
