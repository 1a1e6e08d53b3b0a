"""Result of a trained cell: its record's numbers, and its files of weights and predictions."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allcnn.training import EpochLine, Outcome, write_state
from strive.cells import records
from strive.cells.records import Result


def result_of(outcome: Outcome) -> Result:
    """Return what the identity decides of a trained cell."""
    last = outcome.history[-1]
    return Result(
        epochs=len(outcome.history),
        steps=outcome.steps,
        parameters=outcome.num_parameters,
        train_loss=_finite(last.train_loss),
        train_error=last.train_error,
        val_loss=_finite(last.val_loss),
        val_error=last.val_error,
        test_loss=_finite(outcome.test.loss),
        test_error=outcome.test.error,
        predictions_sha256=hashlib.sha256(outcome.test.logits.numpy().tobytes()).hexdigest(),
        weights_sha256=weights_hash(outcome.weights),
    )


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


def epoch_line(line: EpochLine) -> str:
    """Return one line of epochs.jsonl; a loss that is not finite is null."""
    numbers = {name: _finite(value) if isinstance(value, float) else value for name, value in asdict(line).items()}
    return json.dumps(numbers, allow_nan=False) + "\n"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
