"""The splits of a cell: train, val and test, ready for the training loop.

Shapes: n images of a split, b of a batch, h height, w width, c channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from allcnn.config import Config, DataConfig, Source
from allcnn.data import imagenet
from allcnn.data.imagenet import FileList
from allcnn.data.images import fingerprint
from allcnn.data.lazy_split import LazySplit
from allcnn.data.listing import NO_FILES, DataFiles
from allcnn.data.preprocess import Whitening, preprocessed
from allcnn.data.sources import check_val_images, check_whitening, files_on_disk, read_raw
from allcnn.randomness import generator


class Split(Protocol):
    """The interface of a split to the training loop."""

    labels: Tensor  # int64 [n], on the CPU

    def __len__(self) -> int: ...

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [b, 3, h, w], float32 in channels_last, and labels [b], on the device."""
        ...


class ResidentSplit:
    """A split with all its images on the device."""

    def __init__(self, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device) -> None:
        self.labels = torch.from_numpy(labels.copy())
        # On a CPU this shares memory with the cache file, and so with every other cell.
        self.images = torch.from_numpy(images).to(device)  # [n, h, w, c]
        self._device_labels = self.labels.to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [b, 3, h, w], float32 in channels_last, and labels [b], on the device."""
        for index in index_batches:
            yield self.take(index.to(self.images.device))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images [b, 3, h, w], float32 in channels_last, and labels [b] of rows [b], all on the device."""
        return self.images.index_select(0, rows).permute(0, 3, 1, 2), self._device_labels.index_select(0, rows)


@dataclass(frozen=True)
class Splits:
    """The splits that a cell is trained and scored on; val is None if nothing is held out."""

    train: Split
    val: Split | None
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    fingerprint: str  # of the data set before preprocessing
    whitening: Whitening | None  # what preprocess=gcn_zca fitted
    on_disk: DataFiles = NO_FILES


def load_splits(config: Config, device: torch.device) -> Splits:
    """Read, hold out, preprocess and move to the device.

    Raises ConfigError when images are missing or cannot be read, or too many are held out.
    """
    if config.data.source is Source.imagenet:
        return _load_lazy(config, device)
    check_whitening(config)
    on_disk = files_on_disk(config.data)
    raw = read_raw(config.data)
    train_rows, val_rows = held_out(config.data, len(raw.train.labels))
    parts = {"train": raw.train.images, "test": raw.test.images}
    if len(val_rows):
        parts |= {"train": raw.train.images[train_rows], "val": raw.train.images[val_rows]}
    name = fingerprint(raw)
    # Which images are held out depends on the data set's name, so its whitening does too.
    identity = f"{name}/{config.data.name}/{len(val_rows)}" if len(val_rows) else name
    arrays = preprocessed(parts, config.preprocess, identity)
    labels = {"train": raw.train.labels[train_rows], "val": raw.train.labels[val_rows], "test": raw.test.labels}
    splits = {part: ResidentSplit(arrays[part], labels[part], device) for part in parts}
    return Splits(
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        num_classes=len(raw.class_names),
        class_names=raw.class_names,
        fingerprint=name,
        whitening=Whitening(arrays["zca_mean"], arrays["zca_matrix"]) if "zca_matrix" in arrays else None,
        on_disk=on_disk,
    )


def held_out(data: DataConfig, num_images: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of train and of val among the published training images, both rising.

    Raises ConfigError when none would be left to train on.
    """
    check_val_images(data, num_images)
    # The same images for every seed: cells that differ only in seed must be scored on the same
    # ones, or their spread is not seed noise. And the last ones of a shuffle, so that holding
    # out more keeps those already held out, and classes sorted on disk are mixed.
    order = torch.randperm(num_images, generator=generator("held out", data.name)).numpy()
    num_train = num_images - data.val_images
    return np.sort(order[:num_train]), np.sort(order[num_train:])


def _load_lazy(config: Config, device: torch.device) -> Splits:
    files = imagenet.list_imagenet(config.data)
    train_rows, val_rows = held_out(config.data, len(files.train.labels))

    def split(part: FileList) -> LazySplit:
        return LazySplit(part, config.data.image_size, workers=config.trainer.workers, device=device)

    def rows(index: npt.NDArray[np.int64]) -> FileList:
        return FileList(files.train.files[index], files.train.labels[index])

    return Splits(
        train=split(rows(train_rows)),
        val=split(rows(val_rows)) if len(val_rows) else None,
        test=split(files.test),
        num_classes=len(files.class_names),
        class_names=files.class_names,
        fingerprint=files.fingerprint,
        whitening=None,
        on_disk=files.on_disk,
    )
