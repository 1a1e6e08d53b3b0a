"""Images and labels as they were published, before any preprocessing.

Shapes: n images, h height, w width.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RawSplit:
    """One split's images and their classes."""

    images: npt.NDArray[np.uint8]  # [n, h, w, 3]
    labels: npt.NDArray[np.int64]  # [n]


@dataclass(frozen=True)
class RawData:
    """A data set: its two published splits; label i is class_names[i]."""

    train: RawSplit
    test: RawSplit
    class_names: tuple[str, ...]


def fingerprint(raw: RawData) -> str:
    """Return 16 hex digits that change with any pixel, label, shape or order."""
    digest = hashlib.sha256()
    for array in (raw.train.images, raw.train.labels, raw.test.images, raw.test.labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
