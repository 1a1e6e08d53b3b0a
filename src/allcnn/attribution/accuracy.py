"""Predicted classes of a split, and their accuracy.

Shapes: m images of a split.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from allcnn.attribution.activations import check_input
from allcnn.data.splits import Split


@torch.inference_mode()
def predictions(
    network: nn.Module, split: Split, *, batch_size: int = 250, on_batch: Callable[[int], object] | None = None
) -> Tensor:
    """Return for each image [m] of the split the class of the largest logit, int64, on the CPU.

    network: in eval mode, where the split's images are; on_batch: called with the number of images done so far.
    """
    parts: list[Tensor] = []
    done = 0
    for images, _ in split.batches(torch.arange(len(split)).split(batch_size)):
        check_input(network, images, "")
        parts.append(network(images).argmax(1).cpu())
        done += len(images)
        if on_batch is not None:
            on_batch(done)
    return torch.cat(parts)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the share of images, in [0, 1], whose predicted class [m] is theirs, labels [m]."""
    return int((predicted == labels).sum()) / len(labels)
