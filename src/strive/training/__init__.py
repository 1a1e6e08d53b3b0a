"""Config and splits in, outcome out."""

from strive.training.arithmetic import Bf16, bf16_of
from strive.training.calibrate import cells_at_once
from strive.training.checkpoint import State, previous_checkpoint, read_checkpoint, write_checkpoint, write_state
from strive.training.execution import (
    LAYOUT,
    Execution,
    choose_execution,
    device_name,
    enter_execution,
    peak_memory_bytes,
)
from strive.training.executors import EagerExecutor, Executor, GraphExecutor, make_executor, plainly
from strive.training.loop import EpochLine, Outcome, Training, train_cell, train_epoch

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
    "plainly",
    "previous_checkpoint",
    "read_checkpoint",
    "train_cell",
    "train_epoch",
    "write_checkpoint",
    "write_state",
]
