"""Config and splits in, outcome out."""

from strive.training.checkpoint import State, previous_checkpoint, read_checkpoint, write_checkpoint, write_state
from strive.training.execution import (
    LAYOUT,
    Execution,
    choose_execution,
    device_name,
    enter_execution,
    peak_memory_bytes,
)
from strive.training.loop import EpochLine, Outcome, train_cell

__all__ = [
    "LAYOUT",
    "EpochLine",
    "Execution",
    "Outcome",
    "State",
    "choose_execution",
    "device_name",
    "enter_execution",
    "peak_memory_bytes",
    "previous_checkpoint",
    "read_checkpoint",
    "train_cell",
    "write_checkpoint",
    "write_state",
]
