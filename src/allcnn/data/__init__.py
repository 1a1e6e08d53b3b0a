"""Images from disk to batches on the device: read, hold out, preprocess, augment."""

from allcnn.data.augment import augment, eval_view, output_size
from allcnn.data.augment import purposes as augment_purposes
from allcnn.data.listing import NO_FILES, DataFiles
from allcnn.data.mixup import mixed
from allcnn.data.own_augmentation import check_augmentation, own_augmentation
from allcnn.data.splits import (
    DataFacts,
    ResidentSplit,
    Split,
    Splits,
    check_data,
    current_fingerprint,
    files_on_disk,
    load_splits,
)

__all__ = [
    "NO_FILES",
    "DataFacts",
    "DataFiles",
    "ResidentSplit",
    "Split",
    "Splits",
    "augment",
    "augment_purposes",
    "check_augmentation",
    "check_data",
    "current_fingerprint",
    "eval_view",
    "files_on_disk",
    "load_splits",
    "mixed",
    "output_size",
    "own_augmentation",
]
