"""Checkpoint files: a cell's state on disk, so that it can be killed at any moment and resumed."""

import io
from pathlib import Path
from typing import Any, BinaryIO

import torch

from strive.cells import records

State = dict[str, Any]  # tensors, numbers, strings, lists and dicts of them


def write_state(path: Path, state: State, *, scratch: Path | None = None) -> None:
    """Write the state whole or not at all; scratch as for records.write_whole."""
    records.write_whole(path, lambda file: _save(state, file), scratch=scratch)


def _save(state: State, file: BinaryIO) -> None:
    checked = _ErrorKeepingFile(file)
    try:
        torch.save(state, checked)  # type: ignore[arg-type]
    except RuntimeError:
        # torch only reports how many bytes it expected; the file's own error names the full disk.
        if checked.error is not None:
            raise checked.error from None
        raise


class _ErrorKeepingFile:
    """A file that remembers why a write failed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def read_checkpoint(path: Path) -> State | None:
    """Return the state on the CPU, or None if there is none.

    Raises ValueError if the file is damaged, OSError if it cannot be read at all. Loads tensors and
    plain values only: a checkpoint never runs code.
    """
    try:
        # Read all of it first: an error of the disk does not mean that the checkpoint is damaged, and torch
        # raises an OSError for a damaged one, too.
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
