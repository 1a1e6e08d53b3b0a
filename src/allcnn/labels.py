"""The study's own words for its keys, nets and metrics, in tables, figures and trackers. Imports no torch."""

import json
from enum import StrEnum
from functools import cache

from allcnn.config import Base, Config, Family, Schedule, Variant
from strive.config.keys import knobs
from strive.sweeps.labels import JointName, Labels

# As in the paper's Table 3.
_NETS = {
    Variant.base: "Model {}",
    Variant.strided: "Strided-CNN-{}",
    Variant.convpool: "ConvPool-CNN-{}",
    Variant.all_cnn: "ALL-CNN-{}",
}
_VALUES = {
    "model.base": {base.value: base.value.upper() for base in Base},
    "model.variant": {"base": "base", "strided": "Strided", "convpool": "ConvPool", "all_cnn": "ALL-CNN"},
    "model.family": {"large_all_cnn": "Large ALL-CNN", "all_cnn_b_imagenet": "ALL-CNN-B (ImageNet)"},
}


@cache
def labels() -> Labels:
    """Return the labels, which every plan of the study stores."""
    options = {key: value for key, meaning, value in knobs(Config()) if meaning.science and isinstance(value, StrEnum)}
    nets = {
        json.dumps([base.value, variant.value]): name.format(base.value.upper())
        for variant, name in _NETS.items()
        for base in Base
    }
    return Labels(
        titles={
            "model.base": "base",
            "model.variant": "variant",
            "model.family": "net",
            "augment.kind": "augmentation",
            "data.name": "data",
            "optimizer.lr": "lr",
            "optimizer.kind": "optimizer",
            "optimizer.schedule": "schedule",
            "augment.mixup": "mixup",
            "augment.cutout_px": "cutout px",
            "label_smoothing": "label smoothing",
            "seed": "seed",
        },
        values={
            key: {json.dumps(each.value): _VALUES.get(key, {}).get(each.value, each.value) for each in type(value)}
            for key, value in options.items()
        },
        names=[
            JointName(
                keys=["model.base", "model.variant"], title="net", texts=nets, when={"model.family": Family.paper.value}
            )
        ],
        clear=["model.family"],
        flat={
            "model.base": "base",
            "model.variant": "variant",
            "data.name": "dataset",
            "augment.kind": "augmentation",
            "optimizer.lr": "lr",
            "seed": "seed",
        },
        tags=["base", "variant", "augmentation", "dataset"],
        # As far as a sweep's question goes.
        options={
            "model": ["model.base", "model.variant"],
            "data": ["data.name"],
            "augment": ["augment.kind"],
            "preprocess": ["preprocess.kind"],
        },
        measured={
            "test_error": "test images",
            "test_loss": "test images",
            "val_error": "held-out images",
            "val_loss": "held-out images",
            "train_error": "training images, as trained",
            "train_loss": "training images, as trained",
        },
        units=dict.fromkeys(("test_loss", "val_loss", "train_loss"), "nats"),
        examples="images",
        data="data.name",
        builder="model.builder",
        drops="optimizer.drop_at",
        drops_when={"optimizer.schedule": Schedule.drops.value},
        step="epoch",
        first_word="net",
        in_first_word=["model.family", "model.base", "model.variant", "model.builder"],
        metrics=["parameters", "test_error"],
    )
