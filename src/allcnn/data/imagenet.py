"""The files of ImageNet (O. Russakovsky et al., 2015): train/WNID/FILE and val/WNID/FILE."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from allcnn.config import DataConfig
from allcnn.data.listing import DataFiles, left_out_text, list_folder, stamp_of
from strive.errors import ConfigError

_SPLITS = ("train", "val")


@dataclass(frozen=True)
class FileList:
    """One split's files and labels [n]."""

    files: np.ndarray[tuple[int], np.dtype[np.bytes_]]  # bytes, not str: a quarter of the memory
    labels: npt.NDArray[np.int64]


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
            labels=np.array([number for number, folder in enumerate(found[split]) for _ in folder.names], np.int64),
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
