"""Predicted classes of images, and the share that is right."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from allcnn.attribution import AttributionError
from allcnn.attribution.accuracy import accuracy, predictions


class Labelled:
    """A split of images whose mean over each channel is the logit of a class."""

    def __init__(self, logits: Sequence[Sequence[float]], labels: Sequence[int]) -> None:
        self.images = torch.tensor(logits, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 2, 2)
        self.labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in index_batches:
            yield self.images[rows], self.labels[rows]


def test_accuracy_is_the_share_of_images_that_are_right() -> None:
    split = Labelled([[1, 0, 0], [0, 1, 0], [0, 3, 2], [0, 0, 1], [5, 4, 3]], [0, 1, 2, 2, 1])
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    told: list[int] = []
    assert accuracy(predictions(net, split, batch_size=2, on_batch=told.append), split.labels) == 3 / 5
    assert told == [2, 4, 5]


def test_predictions_need_eval_mode() -> None:
    with pytest.raises(AttributionError, match="must be in eval mode"):
        predictions(nn.Sequential(nn.Flatten()), Labelled([[1, 0, 0]], [0]))
