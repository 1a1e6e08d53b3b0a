"""Training of cells: config and splits in, outcome out."""

from allcnn.training.arithmetic import Bf16, bf16_of
from allcnn.training.cell_training import EpochLine, Outcome, Training
from allcnn.training.checkpoint import State, read_checkpoint, write_state
from allcnn.training.device import (
    LAYOUT,
    Execution,
    choose_execution,
    device_name,
    enter_execution,
    peak_memory_bytes,
)
from allcnn.training.executors import EagerExecutor, Executor, GraphExecutor, make_executor
from allcnn.training.pack_size import cells_at_once
from allcnn.training.train import train_epoch

__all__ = [
    "LAYOUT",
    "Bf16",
    "EagerExecutor",
    "EpochLine",
    "Execution",
    "Executor",
    "GraphExecutor",
    "Outcome",
    "State",
    "Training",
    "bf16_of",
    "cells_at_once",
    "choose_execution",
    "device_name",
    "enter_execution",
    "make_executor",
    "peak_memory_bytes",
    "read_checkpoint",
    "train_epoch",
    "write_state",
]
