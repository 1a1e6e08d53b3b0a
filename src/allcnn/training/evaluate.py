"""Scores of a network on a split it does not learn from."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from allcnn.config import Config
from allcnn.data.augment import eval_view
from allcnn.data.output_size import output_size
from allcnn.data.splits import Split
from allcnn.training.arithmetic import autocast

# Not a knob: the batch size may change the last bits of the logits. 500 images of 32x32 fill it.
_PIXELS_PER_BATCH = 500 * 32 * 32


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean loss, share of errors, and the logits they come from."""

    loss: float  # nats per image
    error: float  # share in [0, 1]
    logits: Tensor  # float32 [n, classes], on the CPU
    labels: Tensor  # int64 [n], on the CPU


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, config: Config, device: torch.device) -> Scores:
    """Score every image of a split once, in order, without augmentation or dropout."""
    network.eval()
    parts = []
    batch = max(1, _PIXELS_PER_BATCH // output_size(config) ** 2)
    for images, _ in split.batches(torch.arange(len(split)).split(batch)):
        with autocast(config.precision, device):
            parts.append(network(eval_view(images, config.augment, config.data.image_size)).float())
    logits = torch.cat(parts).cpu()
    losses = F.cross_entropy(logits.double(), split.labels, reduction="sum")
    wrong = int((logits.argmax(1) != split.labels).sum())
    return Scores(losses.item() / len(split), wrong / len(split), logits, split.labels)
