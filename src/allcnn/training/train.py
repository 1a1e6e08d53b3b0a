"""The training loop: an epoch of one cell, or of several side by side. Knows no files, Hydra, W&B or clusters."""

import time
from collections.abc import Callable, Sequence

import torch

from allcnn.training.cell_training import Training
from allcnn.training.executors import Executor


def train_epoch(trainings: Sequence[Training], executor: Executor, on_step: Callable[[Training], None]) -> None:
    """Train cells that share a device to the end of their current epoch, side by side.

    One that was stopped in the middle of its epoch finishes that epoch alone, before the others begin.
    on_step: called for each of them after each step. An exception of its ends the epoch for all.
    """
    late = [training for training in trainings if training.place]
    for group in (*([training] for training in late), [each for each in trainings if each not in late]):
        if group:
            _train_together(group, executor, on_step)


def _train_together(group: Sequence[Training], executor: Executor, on_step: Callable[[Training], None]) -> None:
    for training in group:
        training.network.train()
    started = time.perf_counter()

    def passed() -> None:
        # The device's time, shared by the cells: the seconds of all cells add up to its own.
        share = (time.perf_counter() - started) / len(group)
        for training in group:
            training.seconds += share

    for _ in executor.steps(group):
        passed()
        for training in group:
            on_step(training)
        started = time.perf_counter()
    if group[0].device.type == "cuda":
        # Queued work belongs to the steps that queued it.
        torch.cuda.synchronize(group[0].device)
    passed()
    for training in group:
        training.close_epoch()
