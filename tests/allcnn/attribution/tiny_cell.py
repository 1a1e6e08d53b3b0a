"""A cell that nobody has trained: a small net and a few real digits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from allcnn.attribution.trained_cell import TrainedCell
from allcnn.config import Config, DataConfig, Init, ModelConfig, Preprocess, PreprocessConfig, Source
from allcnn.data.splits import ResidentSplit, Splits, load_splits
from allcnn.networks.build import build_network

CPU = torch.device("cpu")


def tiny_cell(folder: Path, *, images: int = 40, seed: int = 1, **model: Any) -> TrainedCell:
    config = Config(
        model=ModelConfig(**({"width": 0.125, "init": Init.he} | model)),
        data=DataConfig(source=Source.digits, name="digits"),
        preprocess=PreprocessConfig(kind=Preprocess.standardize),
    )
    network = build_network(config.model, num_classes=10, image_size=32, seed=seed).requires_grad_(False).eval()
    return TrainedCell(
        name="a cell",
        folder=folder,
        config=config,
        network=network,
        splits=few(load_splits(config, CPU), images),
        weights_sha256="0" * 64,
        test_error=0.125,
    )


def few(splits: Splits, count: int) -> Splits:
    def first(split: Any) -> ResidentSplit:
        return ResidentSplit(split.images[:count].numpy(), split.labels[:count].numpy(), CPU)

    return replace(splits, train=first(splits.train), test=first(splits.test))
