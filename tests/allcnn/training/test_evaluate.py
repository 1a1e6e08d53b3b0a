import math

import numpy as np
import pytest
import torch
from support import MakeConfig
from torch import Tensor, nn

from allcnn.data.splits import ResidentSplit
from allcnn.training.evaluate import evaluate

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Class 1 for images above zero, with logits that can be checked by hand."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


def split(values: list[float], labels: list[int]) -> ResidentSplit:
    images = np.stack([np.full((8, 8, 3), value, dtype=np.float32) for value in values])
    return ResidentSplit(images, np.array(labels), CPU)


def test_loss_and_error_are_means_over_all_images(make_small: MakeConfig):
    scores = evaluate(Brightness(), split([1.0, -1.0, 2.0], [1, 0, 0]), make_small("precision=fp32"), CPU)
    # -ln softmax: for logits (0, 1) and (0, -1) ln(1 + 1/e), for logits (0, 2) and label 0 ln(1 + e^2).
    expected = (2 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 3
    assert scores.loss == pytest.approx(expected, rel=1e-6)
    assert scores.error == pytest.approx(1 / 3)
    assert scores.logits.dtype == torch.float32
    torch.testing.assert_close(scores.logits[:, 1], torch.tensor([1.0, -1.0, 2.0]))


def test_images_are_scored_as_large_as_the_net_learns_them(make_small: MakeConfig):
    class Sized(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[2:] == (40, 40)
            return super().forward(images)

    images = ResidentSplit(np.ones((2, 32, 32, 3), dtype=np.float32), np.array([1, 1]), CPU)
    evaluate(Sized(), images, make_small("precision=fp32", "augment=extreme", "augment.canvas_px=40"), CPU)


def test_more_images_than_fit_in_a_batch_are_all_scored_in_order(make_small: MakeConfig):
    count = 1203
    values = [1.0 if index % 3 else -1.0 for index in range(count)]
    scores = evaluate(Brightness(), split(values, [1] * count), make_small("precision=fp32"), CPU)
    assert len(scores.logits) == count
    assert scores.error == sum(value < 0 for value in values) / count
