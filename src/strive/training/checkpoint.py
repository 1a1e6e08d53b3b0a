"""A cell's state on disk, so that it can be killed at any moment and go on."""

import io
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

State = dict[str, Any]  # tensors, numbers, strings, lists and dicts of them


def write_checkpoint(path: Path, state: State) -> None:
    """Write the state whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> State | None:
    """Return the state on the CPU, or None if there is none.

    Raises ValueError if the file is damaged, OSError if it cannot be read at all. Loads tensors and
    plain values only: a checkpoint never runs code.
    """
    try:
        # All of it first: a disk that does not answer is no reason to call a good checkpoint damaged,
        # and torch raises an OSError for a damaged one too.
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no set of exceptions for a damaged file
        reason = f"{type(error).__name__} {str(error).partition(chr(10))[0]}"
        raise ValueError(f"{path} is damaged: {reason}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(state).__name__}, not a state")
    return state
