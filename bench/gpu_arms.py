"""The training loops that bench/gpu_speed.py and bench/gpu_check.py compare, each run epoch by epoch."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import gpu_loop
import numpy as np
import roofline
import torch

from allcnn.config import (
    Augment,
    AugmentConfig,
    BudgetConfig,
    Config,
    DataConfig,
    Init,
    OptimizerConfig,
    Precision,
    Preprocess,
    PreprocessConfig,
    Source,
    TrainerConfig,
    checked,
)
from allcnn.data.splits import ResidentSplit, Splits, load_splits
from allcnn.training import (
    Execution,
    Executor,
    GraphExecutor,
    Training,
    choose_execution,
    enter_execution,
    make_executor,
    train_epoch,
)

# Small: the loss of random labels stays near ln 10. A net that dies multiplies zeros, which is faster.
LR = 0.001


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """The settings in which the arms of a comparison differ."""

    loop: str = "strive"  # or plain
    cells: int = 1  # side by side
    compiled: bool = True
    fast: bool = False

    def __str__(self) -> str:
        kernels = "fast" if self.fast or self.loop == "plain" else "deterministic"
        return f"{self.loop}, {kernels}, {'compiled' if self.compiled else 'not compiled'}"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The device and the images that all arms of a comparison share."""

    device: torch.device
    splits: Splits
    data: DataConfig
    width: float = 1.0  # multiplies the channels
    threads: int = 1  # of the CPU

    @property
    def steps(self) -> int:
        """In an epoch."""
        return -(-len(self.splits.train) // roofline.BATCH)

    def cell(
        self, net: str, *, seed: int = 0, lr: float = LR, augment: Augment = Augment.flip_shift,
        precision: Precision = Precision.bf16
    ) -> Config:  # fmt: skip
        """Return a cell of one of the 12 nets."""
        return checked(
            Config(
                # He's weights: with the default ones a net may begin dead on random images.
                model=replace(roofline.NETS[net], width=self.width, init=Init.he),
                data=self.data,
                preprocess=PreprocessConfig(kind=Preprocess.standardize),
                augment=AugmentConfig(kind=augment),
                optimizer=OptimizerConfig(lr=lr, drop_at=[]),
                budget=BudgetConfig(batch_size=roofline.BATCH),
                precision=precision,
                seed=seed,
            )
        )

    def execution(self, *, compiled: bool = False, fast: bool = False) -> Execution:
        """Return what the trainer's keys give on a GPU; on a CPU there is nothing to choose but compilation."""
        if self.device.type == "cuda":
            return choose_execution(TrainerConfig(compile=compiled, fast=fast, threads=self.threads))
        return Execution(self.device, self.threads, compiled)


def executor(execution: Execution) -> Executor:
    """Return what takes the steps: on a CPU the executor of CUDA graphs, without a graph."""
    return make_executor(execution) if execution.device.type == "cuda" else GraphExecutor(lambda step: step)


def random_splits(count: int, device: torch.device) -> Splits:
    """Return random images with random labels, on the device."""
    draw = np.random.default_rng(0)
    images = draw.standard_normal((count, roofline.IMAGE_SIZE, roofline.IMAGE_SIZE, 3), dtype=np.float32)
    labels = draw.integers(0, roofline.CLASSES, count)
    train = ResidentSplit(images, labels, device)
    test = ResidentSplit(images[: roofline.BATCH], labels[: roofline.BATCH], device)
    names = tuple(map(str, range(roofline.CLASSES)))
    return Splits(train, None, test, roofline.CLASSES, names, "random", None)


def real_splits(data: Path, device: torch.device) -> tuple[Splits, DataConfig]:
    """Return the images of a folder or an archive, standardised."""
    config = DataConfig(source=Source.image_folder, name="bench", root=str(data))
    standardize = PreprocessConfig(kind=Preprocess.standardize)
    return load_splits(checked(Config(data=config, preprocess=standardize)), device), config


class Arm(Protocol):
    """One way to train one net."""

    def epoch(self) -> float:
        """Train an epoch and return its seconds."""
        ...

    @property
    def fallback(self) -> str:
        """Why a faster way was not taken, "" if none."""
        ...


class StriveArm:
    """Cells of strive, side by side."""

    def __init__(self, net: str, way: ArmSettings, setup: Setup) -> None:
        self._execution = setup.execution(compiled=way.compiled, fast=way.fast)
        enter_execution(self._execution)
        # An execution of its own: cells prepare their next epoch while the GPU is busy, and another arm's epoch would
        # invalidate that.
        configs = [setup.cell(net, seed=seed) for seed in range(way.cells)]
        self._trainings = [Training(config, setup.splits, self._execution) for config in configs]
        self._executor = executor(self._execution)

    def epoch(self) -> float:
        """Train an epoch of each cell, the reading of its sums included, and return the seconds of all."""
        enter_execution(self._execution)
        started = now(self._execution.device)
        train_epoch(self._trainings, self._executor, lambda training: None)
        return now(self._execution.device) - started

    @property
    def fallback(self) -> str:
        """Why a faster way was not taken, "" if none."""
        return "; ".join(sorted({training.fallback for training in self._trainings} - {""}))


class PlainArm:
    """The plain loop of bench/gpu_loop.py."""

    fallback = ""

    def __init__(self, net: str, way: ArmSettings, setup: Setup) -> None:
        train, self._device = setup.splits.train, setup.device
        assert isinstance(train, ResidentSplit)
        gpu_loop.switches()
        self._loop = gpu_loop.Loop(
            net, train.images, train.labels.to(self._device), width=setup.width, lr=LR, compiled=way.compiled
        )

    def epoch(self) -> float:
        """Train an epoch and return its seconds."""
        gpu_loop.switches()
        started = now(self._device)
        self._loop.epoch()
        return now(self._device) - started


def now(device: torch.device) -> float:
    """Return the time at which all queued work is done, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
