"""Result of a trained cell: its record's numbers, and its files of weights and predictions."""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allcnn.training import EpochLine, Outcome, write_state
from strive.cells import records
from strive.cells.history import step_line

WEIGHTS = "weights"  # name of the final weights' hash in a record


def metrics_of(outcome: Outcome) -> dict[str, float | None]:
    """Return the metrics of a trained cell; a loss that is not finite is None. docs/record.md says what each is."""
    last = outcome.history[-1]
    return {
        "epochs": len(outcome.history),
        "steps": outcome.steps,
        "parameters": outcome.num_parameters,
        "train_loss": _finite(last.train_loss),
        "train_error": last.train_error,
        "val_loss": _finite(last.val_loss),
        "val_error": last.val_error,
        "test_loss": _finite(outcome.test.loss),
        "test_error": outcome.test.error,
    }


def outputs_of(outcome: Outcome) -> dict[str, str]:
    """Return the sha256 of the test logits, float32 [n, classes], and of the final weights."""
    predictions = hashlib.sha256(outcome.test.logits.numpy().tobytes()).hexdigest()
    return {"predictions": predictions, WEIGHTS: weights_hash(outcome.weights)}


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 of a state dict on the CPU: names and bytes, in its order."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode() + tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_arrays(folder: Path, outcome: Outcome, *, scratch: Path) -> None:
    """Write predictions and weights; call it before writing the record, which implies that they are complete."""
    write_state(folder / "weights.pt", outcome.weights, scratch=scratch)
    content = io.BytesIO()
    np.savez(content, labels=outcome.test.labels.numpy(), logits=outcome.test.logits.numpy())
    records.write_whole(folder / "predictions.npz", content.getvalue(), scratch=scratch)


def history_line(line: EpochLine) -> str:
    """Return an epoch as a line of history.jsonl; its step is the epoch."""
    values = asdict(line)
    return step_line(values.pop("epoch"), values)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
