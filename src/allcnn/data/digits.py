"""scikit-learn's handwritten digits: real images that come with the library, so no network."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from allcnn.data.images import RawData, RawSplit

NUM_IMAGES = 1797
NUM_TEST = 400
NUM_CLASSES = 10


def read_digits() -> RawData:
    """Return 1,397 train and 400 test images [n, 32, 32, 3], enlarged from 8x8."""
    # Here, because a sweep is planned without torch.
    import torch

    from allcnn.randomness import generator

    values = _read_values()
    images = np.stack([_enlarged(image) for image in values[:, :-1].reshape(-1, 8, 8)])
    labels = values[:, -1].astype(np.int64)
    # The published order is by writer; one shuffle, the same for every seed, mixes them.
    order = torch.randperm(NUM_IMAGES, generator=generator("digits split")).numpy()
    train, test = order[:-NUM_TEST], order[-NUM_TEST:]
    return RawData(
        train=RawSplit(images[train], labels[train]),
        test=RawSplit(images[test], labels[test]),
        class_names=tuple(map(str, range(NUM_CLASSES))),
    )


def _read_values() -> npt.NDArray[np.float64]:
    """Return [n, 65]: 64 grey values of 0..16 and the label."""
    found = importlib.util.find_spec("sklearn")
    for folder in (found.submodule_search_locations if found else None) or []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            # The library itself takes more than a second to import.
            with gzip.open(path, "rt") as file:
                return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _enlarged(image: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Map [8, 8] of 0..16 to [32, 32, 3] of 0..255."""
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB"))
