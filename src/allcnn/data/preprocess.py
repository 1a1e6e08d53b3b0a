"""Preprocessing of images, once before training, fitted on the training images alone.

Shapes: n images, h height, w width, d = 3 h w. A flat image has all of red, then green, then blue,
as in pylearn2, whose formulas these are (make_cifar10_gcn_whitened.py, global_contrast_normalize
and ZCA; I. Goodfellow et al., 2013). pylearn2 warns that whitening depends on the platform's last
bits, so it is computed in float64, once, and every cell on a machine reads the same file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from allcnn.config import Preprocess, PreprocessConfig
from allcnn.data.cache import Arrays, cached_arrays

Pixels = npt.NDArray[np.uint8]  # [n, h, w, 3]
Float64s = npt.NDArray[np.float64]

_FORMAT = 1  # raise it when a change here changes numbers
_CHUNK = 5_000  # images in float64 at one time: 123 MB of CIFAR


@dataclass(frozen=True)
class Whitening:
    """The map of a flat, contrast-normalised image x [d] to (x - mean) @ matrix."""

    mean: Float64s  # [d]
    matrix: Float64s  # [d, d], symmetric


def preprocessed(parts: Mapping[str, Pixels], config: PreprocessConfig, identity: str) -> Arrays:
    """Return each part as float32 [n, h, w, 3], fitted on parts["train"], and what was fitted.

    identity: text that identifies the images; a part of the cache's key. For gcn_zca the
    further entries are zca_mean [d] and zca_matrix [d, d]; for standardize channel_mean [3] and
    channel_std [3], in grey levels. All are float64.
    """
    match config.kind:
        case Preprocess.gcn_zca:
            settings = {"gcn_scale": config.gcn_scale, "zca_bias": config.zca_bias}
            make = _gcn_zca
        case Preprocess.standardize:
            settings = {}
            make = _standardize
    text = json.dumps([_FORMAT, identity, config.kind.value, settings], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return cached_arrays(config.kind.value, key, lambda: make(parts, config))


def global_contrast_normalise(images: Float64s, scale: float) -> Float64s:
    """Return the flat images [n, d], each with mean 0 and L2 norm `scale`; a flat grey one is zero."""
    centred: Float64s = images - images.mean(axis=1, keepdims=True)
    divisor = np.sqrt(np.square(centred).sum(axis=1, keepdims=True)) / scale
    divisor[divisor < 1e-8] = 1
    centred /= divisor
    return centred


def fit_zca(images: Pixels, *, gcn_scale: float, bias: float) -> Whitening:
    """Fit to contrast-normalised images: matrix = (X'X / n + bias I)^(-1/2), with X centred."""
    n, d = len(images), images[0].size
    total = np.zeros(d)
    for _, flat in _normalised_chunks(images, gcn_scale):
        total += flat.sum(axis=0)
    mean = total / n
    covariance = np.zeros((d, d))
    for _, flat in _normalised_chunks(images, gcn_scale):
        flat -= mean
        covariance += flat.T @ flat
    covariance /= n
    covariance[np.diag_indices(d)] += bias
    # One thread: two that share their cores with other cells wait for each other at every step,
    # which was five times slower.
    with threadpool_limits(limits=1):
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    return Whitening(mean, (eigenvectors / np.sqrt(eigenvalues)) @ eigenvectors.T)


def whiten(images: Pixels, whitening: Whitening, *, gcn_scale: float) -> npt.NDArray[np.float32]:
    """Return the images [n, h, w, 3], contrast-normalised and whitened."""
    n, h, w, c = images.shape
    result = np.empty((n, h, w, c), dtype=np.float32)
    for rows, flat in _normalised_chunks(images, gcn_scale):
        flat -= whitening.mean
        result[rows] = (flat @ whitening.matrix).reshape(-1, c, h, w).transpose(0, 2, 3, 1)
    return result


def _normalised_chunks(images: Pixels, gcn_scale: float) -> Iterator[tuple[slice, Float64s]]:
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = images[rows].transpose(0, 3, 1, 2)
        yield rows, global_contrast_normalise(chunk.reshape(len(chunk), -1).astype(np.float64), gcn_scale)


def _gcn_zca(parts: Mapping[str, Pixels], config: PreprocessConfig) -> Arrays:
    fitted = fit_zca(parts["train"], gcn_scale=config.gcn_scale, bias=config.zca_bias)
    arrays: Arrays = {name: whiten(part, fitted, gcn_scale=config.gcn_scale) for name, part in parts.items()}
    return arrays | {"zca_mean": fitted.mean, "zca_matrix": fitted.matrix}


def _standardize(parts: Mapping[str, Pixels], config: PreprocessConfig) -> Arrays:
    mean, std = _channel_statistics(parts["train"])
    arrays: Arrays = {name: _standardized(part, mean, std) for name, part in parts.items()}
    return arrays | {"channel_mean": mean, "channel_std": std}


def _channel_statistics(images: Pixels) -> tuple[Float64s, Float64s]:
    """Return mean [3] and standard deviation [3] of each channel over all pixels, in grey levels."""
    # From counts of the 256 values: exact, and no float copy of the images.
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    values = np.arange(256.0)
    mean = counts @ values / counts.sum(axis=1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1)
    # A channel that never varies is only centred.
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


def _standardized(images: Pixels, mean: Float64s, std: Float64s) -> npt.NDArray[np.float32]:
    result = np.empty(images.shape, dtype=np.float32)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        result[rows] = (images[rows] - mean) / std
    return result
