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

from allcnn.config import Config, DataConfig, Preprocess, Source
from allcnn.data import arrays, cifar, digits, image_folder, imagenet
from allcnn.data.imagenet import FileList, LazySplit
from allcnn.data.images import RawData, fingerprint
from allcnn.data.listing import NO_FILES, DataFiles
from allcnn.data.preprocess import Whitening, preprocessed
from allcnn.randomness import generator
from strive.errors import ConfigError

# Whitening needs a matrix of (3 h w)^2 float64 and several times that while it is fitted.
_LARGEST_WHITENED_PX = 96


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


@dataclass(frozen=True)
class DataFacts:
    """The size of a data set, known before it is loaded."""

    num_train: int  # images that are trained on: those held out are not counted
    num_classes: int
    on_disk: DataFiles = NO_FILES


def load_splits(config: Config, device: torch.device) -> Splits:
    """Read, hold out, preprocess and move to the device.

    Raises ConfigError when images are missing or cannot be read, or too many are held out.
    """
    if config.data.source is Source.imagenet:
        return _load_lazy(config, device)
    _check_whitening(config)
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


def check_data(config: Config) -> DataFacts:
    """Count images without decoding any, so that a sweep can be refused before it trains.

    Raises ConfigError where `load_splits` would, except for an image that cannot be decoded.
    """
    _check_whitening(config)
    on_disk = NO_FILES
    match config.data.source:
        case Source.cifar10 | Source.cifar100:
            num_images, num_classes = cifar.count_cifar(config.data)
        case Source.digits:
            num_images, num_classes = digits.NUM_IMAGES - digits.NUM_TEST, digits.NUM_CLASSES
        case Source.image_folder:
            listing = image_folder.list_images(config.data)
            num_images, num_classes, on_disk = len(listing.files["train"]), len(listing.class_names), listing.on_disk
        case Source.arrays:
            num_images, num_classes = arrays.count_arrays(config.data)
            on_disk = arrays.arrays_file(config.data)
        case Source.imagenet:
            files = imagenet.list_imagenet(config.data)
            num_images, num_classes, on_disk = len(files.train.labels), len(files.class_names), files.on_disk
    _check_val_images(config.data, num_images)
    return DataFacts(num_images - config.data.val_images, num_classes, on_disk)


def files_on_disk(data: DataConfig) -> DataFiles:
    """Return the data set's files and those left out, without decoding any image.

    Raises ConfigError when images are missing or not complete.
    """
    match data.source:
        case Source.cifar10 | Source.cifar100:
            return cifar.cifar_files(data)
        case Source.digits:
            return NO_FILES
        case Source.image_folder:
            return image_folder.list_images(data).on_disk
        case Source.arrays:
            return arrays.arrays_file(data)
        case Source.imagenet:
            return imagenet.list_imagenet(data).on_disk


def current_fingerprint(data: DataConfig) -> str:
    """Return the fingerprint of the data set as it is on disk now.

    Raises ConfigError when an image is missing or cannot be read.
    """
    if data.source is Source.imagenet:
        return imagenet.list_imagenet(data).fingerprint
    return fingerprint(read_raw(data))


def read_raw(data: DataConfig) -> RawData:
    """Return the images as published; not for imagenet, which does not fit in memory."""
    match data.source:
        case Source.cifar10 | Source.cifar100:
            return cifar.read_cifar(data)
        case Source.digits:
            return digits.read_digits()
        case Source.image_folder:
            return image_folder.read_image_folder(data)
        case Source.arrays:
            return arrays.read_arrays(data)
        case Source.imagenet:
            raise AssertionError("imagenet is read lazily")


def held_out(data: DataConfig, num_images: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of train and of val among the published training images, both rising.

    Raises ConfigError when none would be left to train on.
    """
    _check_val_images(data, num_images)
    # The same images for every seed: cells that differ only in seed must be scored on the same
    # ones, or their spread is not seed noise. And the last ones of a shuffle, so that holding
    # out more keeps those already held out, and classes sorted on disk are mixed.
    order = torch.randperm(num_images, generator=generator("held out", data.name)).numpy()
    num_train = num_images - data.val_images
    return np.sort(order[:num_train]), np.sort(order[num_train:])


def _check_val_images(data: DataConfig, num_images: int) -> None:
    if data.val_images >= num_images:
        raise ConfigError(
            f"data.val_images={data.val_images} leaves no training images; {data.name} has {num_images},"
            f" so it must be at most {num_images - 1}"
        )


def _check_whitening(config: Config) -> None:
    size = config.data.image_size
    if config.preprocess.kind is Preprocess.gcn_zca and size > _LARGEST_WHITENED_PX:
        gigabytes = (3 * size * size) ** 2 * 8 / 1e9
        raise ConfigError(
            f"preprocess=gcn_zca at data.image_size={size} needs a matrix of {gigabytes:.0f} GB;"
            f" take preprocess=standardize, or data.image_size of at most {_LARGEST_WHITENED_PX}"
        )


def _load_lazy(config: Config, device: torch.device) -> Splits:
    files = imagenet.list_imagenet(config.data)
    train_rows, val_rows = held_out(config.data, len(files.train.labels))

    def split(part: FileList) -> LazySplit:
        return LazySplit(part, config.data.image_size, workers=config.trainer.workers, device=device)

    def rows(index: npt.NDArray[np.int64]) -> FileList:
        return FileList(files.train.files[index], files.train.labels[torch.from_numpy(index)])

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
