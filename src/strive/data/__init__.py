"""Images from disk to batches on the device: read, hold out, preprocess, augment."""

from strive.data.augment import augment, eval_view, output_size
from strive.data.augment import purposes as augment_purposes
from strive.data.splits import DataFacts, ResidentSplit, Split, Splits, check_data, load_splits

__all__ = [
    "DataFacts",
    "ResidentSplit",
    "Split",
    "Splits",
    "augment",
    "augment_purposes",
    "check_data",
    "eval_view",
    "load_splits",
    "output_size",
]
