"""Helpers that several test files share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from study_records import study_record

from allcnn.config import Config, Precision
from allcnn.data.splits import Splits
from allcnn.training import (
    Bf16,
    EpochLine,
    Execution,
    Outcome,
    State,
    Training,
    bf16_of,
    make_executor,
    train_epoch,
)
from allcnn.training.executors import Replay
from allcnn.training_pack import run_cell
from strive import signals
from strive.cells import records
from strive.cells.records import Status
from strive.code import hash as code_hash
from strive.errors import StoppedError
from strive.sweeps.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
# CIFAR-10 as JPEG files, where a machine has it beside the checkout.
JPEG_ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"
# Small enough to train in seconds; every test of a whole cell starts from these.
SMALL = ("data=digits", "preprocess=standardize", "budget=smoke", "model.width=0.04", "trainer.threads=1")

# What may be missing on a machine that checks everything else (conftest.py).
NO_GPU, NO_BF16 = "needs a GPU", "needs native bf16"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
needs_native_bf16 = pytest.mark.skipif(bf16_of(Precision.bf16, torch.device("cpu")) is not Bf16.native, reason=NO_BF16)

MakeConfig = Callable[..., Config]
MakePlan = Callable[..., Plan]
CommandLine = Callable[..., subprocess.CompletedProcess[str]]


def train_cell(
    config: Config,
    splits: Splits,
    execution: Execution,
    *,
    state: State | None = None,
    on_step: Callable[[int, Callable[[], State]], None] = lambda step, snapshot: None,
    on_epoch: Callable[[EpochLine], None] = lambda line: None,
) -> Outcome:
    """Train from scratch, or go on from a snapshot, and score the test split once.

    on_step gets the steps done and a way to take a snapshot.
    """
    training = Training(config, splits, execution)
    if state is not None:
        training.restore(state)
    executor = make_executor(execution)
    while not training.finished:
        train_epoch([training], executor, lambda training: on_step(training.step, training.snapshot))
        on_epoch(training.history[-1])
    return training.outcome()


def forget_module(name: str) -> None:
    """Have a module imported again: another test has another file of that name, in another folder."""
    sys.modules.pop(name, None)
    code_hash._code.cache_clear()


def plainly(step: Replay) -> Replay:
    """Return the step itself: what a graph does, without a GPU."""
    return step


def write_result(runs: Path, config: Config, status: Status, test_error: float, chance_error: float | None) -> str:
    """Write the record of a result by hand, without files beside it, and return the cell."""
    epochs = config.budget.epochs
    diverged = status is Status.diverged
    record = study_record(
        config, status, outputs={"predictions": "0" * 64, "weights": f"{config.seed:064d}"}, chance=chance_error,
        cause=f"the training loss became nan in epoch {epochs} of {epochs}" if diverged else "",
        epochs=epochs, steps=epochs, parameters=1000, train_loss=None if diverged else 1.0, train_error=test_error,
        test_loss=1.0, test_error=test_error, provenance={"seconds": 60.0, "threads": 1},
    )  # fmt: skip
    records.write_record(runs, record)
    return record.cell


def stop_after_one_step(config: Config) -> None:
    """Train a cell for one step, so that it leaves a checkpoint."""
    signals.request("SIGTERM")
    try:
        with pytest.raises(StoppedError):
            run_cell(config)
    finally:
        signals.forget()
