"""Pictures for figures: preprocessed images turned back into pixels, crops, and maps in colour.

Shapes: n images, h and w of the image, d = 3 h w of the whitening.
"""

import weakref
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from allcnn.attribution.figure import Picture
from allcnn.attribution.receptive_field import Box
from allcnn.attribution.relu_override import AttributionError
from allcnn.config import Augment, Config, Preprocess, Source
from allcnn.data.lazy_split import IMAGENET_MEAN, IMAGENET_STD
from allcnn.data.preprocess import Float64s, Whitening, _channel_statistics
from allcnn.data.sources import read_raw
from allcnn.data.splits import Splits, held_out

MID_GREY = 0.5

_Undo = Callable[[Float64s], Float64s]  # [n, 3, h, w] to the same, from 0 to 1
_undone: dict[int, _Undo] = {}  # by the id of Splits, for as long as they live: whitening takes seconds to undo


def as_pixels(images: Tensor, config: Config, splits: Splits) -> npt.NDArray[np.float64]:
    """Return [n, h, w, 3] from 0 to 1: the preprocessing of the images [n, 3, h, w] undone, see `how_shown`.

    After standardize, and for imagenet, these are the images themselves. After gcn_zca they are the
    contrast-normalised images, each scaled such that its own least value is 0 and its greatest 1: brightness
    and contrast are lost in normalisation. A flat image is mid grey.

    Raises AttributionError where whitened images are not of the whitening's size.
    """
    if id(splits) not in _undone:
        _undone[id(splits)] = _undo(config, splits)
        weakref.finalize(splits, _undone.pop, id(splits), None)
    pixels = _undone[id(splits)](images.detach().double().cpu().numpy())
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def how_shown(config: Config) -> str:
    """Return for a figure's caption what `as_pixels` shows."""
    if config.data.source is Source.imagenet or config.preprocess.kind is Preprocess.standardize:
        return "Images in their own colours."
    if config.augment.kind is Augment.extreme:
        return "Images as the network sees them, whitened and enlarged, each scaled by its own minimum and maximum."
    return "Images with their whitening undone, each scaled by its own minimum and maximum."


def crop(picture: Picture, box: Box, size: tuple[int, int] | None = None) -> Picture:
    """Return the pixels in the box; those beyond the picture's border are mid grey, and nothing is shifted.

    size: height and width of what is returned, such as `LayerFields.size`, for a box that the border cuts: the grey
    goes to the side where it touches the border, and of two such sides to each its half.
    """
    high, wide = picture.shape[:2]
    top, bottom = _widened(box.top, box.bottom, high, size[0] if size else 0)
    left, right = _widened(box.left, box.right, wide, size[1] if size else 0)
    made = np.full((bottom - top, right - left, 3), MID_GREY)
    within = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    down, across = max(0, -top), max(0, -left)
    made[down : down + within.shape[0], across : across + within.shape[1]] = within
    return made


def map_picture(signal: Tensor, *, scale: float | None = None) -> Picture:
    """Return a signed map [3, h, w] as [h, w, 3]: 0.5 + 0.5 map / scale, cut at 0 and 1; zero is mid grey.

    scale: the size of a signal that is full black or white, by default the map's largest.
    Raises AttributionError for a map or a scale that is not finite.
    """
    values = signal.detach().double().cpu().numpy().transpose(1, 2, 0)
    scale = float(np.abs(values).max(initial=0.0)) if scale is None else scale
    if not np.isfinite(values).all() or not np.isfinite(scale) or scale < 0:
        raise AttributionError(f"a map to be drawn must be finite, and its scale 0 or more, got scale={scale}")
    picture: Picture = MID_GREY + 0.5 * np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
    return np.clip(picture, 0.0, 1.0)


def _widened(begin: int, end: int, length: int, wanted: int) -> tuple[int, int]:
    """Return [begin, end) made `wanted` long, beyond the borders of [0, length) that it reaches."""
    lacking = max(0, wanted - (end - begin))
    before = lacking if begin <= 0 else 0
    if end >= length:
        before //= 2
    return begin - before, end + lacking - before


def _undo(config: Config, splits: Splits) -> _Undo:
    if config.data.source is Source.imagenet:
        return _unstandardize(np.array(IMAGENET_MEAN), np.array(IMAGENET_STD))
    match config.preprocess.kind:
        case Preprocess.gcn_zca if config.augment.kind is Augment.extreme:
            # The image was whitened, then enlarged on a canvas: no matrix undoes both.
            return lambda images: _scaled(images, 0.0)
        case Preprocess.gcn_zca:
            assert splits.whitening is not None
            return _unwhiten(splits.whitening, config.preprocess.gcn_scale)
        case Preprocess.standardize:
            raw = read_raw(config.data)
            rows, _ = held_out(config.data, len(raw.train.labels))
            # Counts of 256 values: the statistics that the images were standardised with, to the bit.
            mean, std = _channel_statistics(raw.train.images[rows])
            return _unstandardize(mean / 255, std / 255)


def _unstandardize(mean: Float64s, std: Float64s) -> _Undo:
    def undo(images: Float64s) -> Float64s:
        return np.clip(images * std[:, None, None] + mean[:, None, None], 0.0, 1.0)

    return undo


def _unwhiten(whitening: Whitening, gcn_scale: float) -> _Undo:
    # The matrix is symmetric and positive definite: its factor costs a sixth of its inverse.
    factor = torch.linalg.cholesky(torch.from_numpy(np.array(whitening.matrix)))
    # A flat image is zero but for float32's last bits, which must not be blown up.
    least = 0.01 * gcn_scale / np.sqrt(len(factor))

    def undo(images: Float64s) -> Float64s:
        flat = images.reshape(len(images), -1)  # all of red, then green, then blue, as it was whitened
        if flat.shape[1] != len(factor):
            raise AttributionError(
                f"images {list(images.shape[1:])} were not whitened as they are: the whitening is of {len(factor)}"
                " values; give the split's own images, whole"
            )
        normalised = torch.cholesky_solve(torch.from_numpy(flat.T), factor).T.numpy() + whitening.mean
        return _scaled(normalised, least).reshape(images.shape)

    return undo


def _scaled(images: Float64s, least: float) -> Float64s:
    """Return each image from 0 to 1 by its own minimum and maximum; mid grey where they differ by `least` at most."""
    flat = images.reshape(len(images), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    alive = high - low > least
    scaled = np.where(alive, (flat - low) / np.where(alive, high - low, 1.0), MID_GREY)
    return scaled.reshape(images.shape)
