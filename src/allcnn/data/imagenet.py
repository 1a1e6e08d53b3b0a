"""ImageNet (O. Russakovsky et al., 2015) from train/WNID/FILE and val/WNID/FILE, decoded when needed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from allcnn.config import DataConfig
from allcnn.data.decoding import decode_square
from allcnn.data.listing import DataFiles, left_out_text, list_folder, readable, stamp_of
from strive.errors import ConfigError

# Of images in [0, 1], red, green, blue; from fb.resnet.torch (Gross and Wilber, 2016), and since
# then in torchvision and nearly every ImageNet recipe.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SPLITS = ("train", "val")


@dataclass(frozen=True)
class FileList:
    """One split's files and labels [n]."""

    files: np.ndarray[tuple[int], np.dtype[np.bytes_]]  # bytes, not str: a quarter of the memory
    labels: Tensor


@dataclass(frozen=True)
class ImageNetFiles:
    """The published splits. What is published as val is this project's test."""

    train: FileList
    test: FileList
    class_names: tuple[str, ...]  # WordNet ids
    fingerprint: str  # of the files' names and sizes; their pixels are too many to hash
    on_disk: DataFiles


def list_imagenet(data: DataConfig) -> ImageNetFiles:
    """Find the files without decoding any.

    Raises ConfigError when a folder is missing or empty, or the splits' classes differ.
    """
    return _list_root(Path(data.root).expanduser().absolute())


@lru_cache(maxsize=2)
def _list_root(root: Path) -> ImageNetFiles:
    found, left_out = list_folder(root, _SPLITS)
    for split in _SPLITS:
        if not found[split]:
            raise ConfigError(_missing(root / split, left_out.lines()))
    classes = {split: [folder.label for folder in found[split]] for split in _SPLITS}
    if classes["train"] != classes["val"]:
        odd = sorted(set(classes["train"]) ^ set(classes["val"]))
        raise ConfigError(
            f"{root}: train/ and val/ must have the same classes; only one of them has {', '.join(odd[:10])}"
            f"{left_out_text(left_out.lines())}"
        )
    lists = {
        split: FileList(
            files=np.array([os.fsencode(root / name) for folder in found[split] for name in folder.names]),
            labels=torch.tensor([number for number, folder in enumerate(found[split]) for _ in folder.names]),
        )
        for split in _SPLITS
    }
    folders = [folder for split in _SPLITS for folder in found[split]]
    train, val = lists["train"], lists["val"]
    count = f"{len(train.labels)} train and {len(val.labels)} val images of {len(classes['train'])} classes"
    return ImageNetFiles(
        train,
        val,
        tuple(classes["train"]),
        fingerprint=stamp_of(folder.sizes for folder in folders),
        on_disk=DataFiles(count, left_out.lines(), stamp_of(folder.stamp for folder in folders)),
    )


def _missing(folder: Path, left_out: tuple[str, ...]) -> str:
    return (
        f"data=imagenet is not there: no images in {folder}; it must hold {folder.name}/WNID/FILE.JPEG."
        " ImageNet cannot be fetched with data.download=true: its licence wants an account at"
        f" image-net.org. Any other folder of images: data=image_folder data.root=DIR data.name=NAME"
        f"{left_out_text(left_out)}"
    )


def decoded_size(image_size: int) -> int:
    """Return the side of what is decoded, in pixels: 256 for 224, so that shifts find real pixels."""
    return round(image_size * 256 / 224)


class _ImageFiles(Dataset[Tensor]):
    """Decoded images, uint8 [size, size, 3], by their number."""

    def __init__(self, files: np.ndarray[tuple[int], np.dtype[np.bytes_]], size: int) -> None:
        self.files = files
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        file = Path(os.fsdecode(self.files[index]))
        return torch.from_numpy(decode_square(file, self.size, readable(str(file))).copy())


class LazySplit:
    """A split whose images are decoded when a batch wants them, by worker processes."""

    def __init__(self, part: FileList, image_size: int, *, workers: int, device: torch.device) -> None:
        self.labels = part.labels  # [n], on the CPU
        self.device = device
        self._files = _ImageFiles(part.files, decoded_size(image_size))
        self._workers = workers

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [b, 3, h, w], float32 and standardised, and labels [b], on the device.

        h = w = decoded_size(image_size), larger than what a net sees.

        Raises ConfigError when an image cannot be read.
        """
        loader = DataLoader(
            self._files,
            batch_sampler=[index.tolist() for index in index_batches],
            num_workers=self._workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # without one it would draw from torch's global state
        )
        mean, std = (torch.tensor(values, device=self.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
        for index, pixels in zip(index_batches, _without_worker_trace(loader), strict=True):
            images = pixels.to(self.device, non_blocking=True).to(torch.float32).div_(255)
            images = images.sub_(mean).div_(std).permute(0, 3, 1, 2)
            yield images, self.labels[index].to(self.device)


def _without_worker_trace(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    """Yield the loader's batches; a worker's ConfigError comes without the worker's stack trace."""
    try:
        yield from loader
    except ConfigError as error:
        # torch puts the whole stack trace into the message; ours is one line, the last.
        raise ConfigError(str(error).strip().splitlines()[-1].removeprefix("allcnn.config.ConfigError: ")) from error
