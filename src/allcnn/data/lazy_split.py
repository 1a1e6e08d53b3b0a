"""A split whose images are decoded when a batch wants them: ImageNet's do not fit in memory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from allcnn.data.decoding import decode_square
from allcnn.data.imagenet import FileList
from allcnn.data.listing import readable
from strive.errors import ConfigError

# Of images in [0, 1], red, green, blue; from fb.resnet.torch (Gross and Wilber, 2016), and since
# then in torchvision and nearly every ImageNet recipe.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        self.labels = torch.from_numpy(part.labels)  # [n], on the CPU
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
