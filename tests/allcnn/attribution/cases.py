"""Conformance cases: networks, images and one unit of each, and the maps that the three rules define.

What is expected comes from explicit matrices or from arithmetic, never from a library. So any library can run the
cases: give it `network()`, `images`, `layer` and the units, and compare its signed maps with `expected(rule)`.

Shapes: n images, h and w of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import dense
import numpy as np
import small_nets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allcnn.config import Base, PoolRounding, Variant


@dataclass(frozen=True)
class Case:
    """Something to attribute, and the answer."""

    name: str
    network: Callable[[], nn.Module]  # in eval mode, float64
    images: Tensor  # [n, 3, h, w]
    layer: str
    channels: tuple[int, ...]  # one for each image
    positions: tuple[tuple[int, int], ...]  # row and column in the layer's map
    expected: Callable[..., Tensor]  # of (rule) or (rule, pooling): maps [n, 3, h, w]


class Spelled(nn.Module):
    """The net of `pooled`, with its ReLUs spelled as a function."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.parts, self.relu = pooled(), relu

    def forward(self, pictures: Tensor) -> Tensor:
        for part in self.parts:
            pictures = self.relu(pictures) if isinstance(part, nn.ReLU) else part(pictures)
        return pictures


class Parallel(nn.Module):
    """Two branches whose pre-activations are both computed before a ReLU sees any; signals of 1 and 10 come back."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.one = nn.ReLU()
        self.other = self.one if shared else nn.ReLU()
        self.sum = nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        one, other = pictures[:, :1] * 1.0, pictures[:, 1:2] * 1.0
        return self.sum(self.one(one) + self.other(other) * 10.0)


def pooled(*, kernel: int = 2, inplace: bool = False, shared: bool = False) -> nn.Sequential:
    """Build conv, ReLU, max-pool 2, conv, ReLU, max-pool 2, conv."""
    relu = nn.ReLU(inplace)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            relu,
            nn.MaxPool2d(kernel, 2),
            nn.Conv2d(6, 8, 3, padding=1),
            relu if shared else nn.ReLU(inplace),
            nn.MaxPool2d(kernel, 2, padding=1),
            nn.Conv2d(8, 4, 1),
        )
    return network.double().eval()


def matrices(name: str, network: Callable[[], nn.Sequential], layer: str, *, drawn: int = 4) -> Case:
    """Return a case of a sequence of layers; images differ in unit."""
    pictures = small_nets.images(drawn)
    layers = dense.layers_of(network(), tuple(pictures.shape[1:]))
    values = [dense.forward(layers, picture.numpy()) for picture in pictures]
    place = [each.name for each in layers].index(layer)
    # The largest activation of a channel: no unit that a ReLU has stopped.
    count, _, wide = layers[place].shape
    channels = tuple(number % count for number in range(drawn))
    peaks = [
        int(seen[place + 1].reshape(count, -1)[channel].argmax())
        for seen, channel in zip(values, channels, strict=True)
    ]
    units = [(channel, *divmod(peak, wide)) for channel, peak in zip(channels, peaks, strict=True)]

    def expected(rule: str, pooling: str = "switches") -> Tensor:
        maps = [
            dense.attribution(layers, seen, layer, unit, rule, pooling)
            for seen, unit in zip(values, units, strict=True)
        ]
        return torch.from_numpy(np.stack(maps)).view(pictures.shape)

    return Case(name, network, pictures, layer, channels, tuple(unit[1:] for unit in units), expected)


def parallel(*, shared: bool) -> Case:
    """Return the two branches, by hand: all values and signals are positive, so that every rule passes them."""
    pictures = torch.ones(1, 3, 1, 1, dtype=torch.float64)

    def expected(rule: str, pooling: str = "switches") -> Tensor:
        return torch.tensor([1.0, 10.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)

    name = "one ReLU for two branches" if shared else "a ReLU for each of two branches"
    return Case(name, lambda: Parallel(shared=shared).eval(), pictures, "sum", (0,), ((0, 0),), expected)


def net(base: Base, variant: Variant, **knobs: object) -> Callable[[], nn.Sequential]:
    """Return the builder of a small net of the paper."""
    return lambda: small_nets.small_net(base, variant, **knobs)


# What every library should agree on: ReLUs as modules, max-pooling with switches.
CASES = [
    matrices("ReLU modules", net(Base.c, Variant.all_cnn), "conv7"),
    matrices("strides", net(Base.b, Variant.strided), "conv5"),
    matrices("strides, conv3", net(Base.c, Variant.all_cnn), "conv3"),
    matrices("overlapping pools", net(Base.c, Variant.base), "conv5"),
    matrices("overlapping padded pools", net(Base.b, Variant.convpool, pool_rounding=PoolRounding.pad), "conv6"),
    matrices("pools", pooled, "6"),
    matrices("overlapping pools of torch", lambda: pooled(kernel=3), "6"),
    matrices("a pool that is the layer", pooled, "5"),
    matrices("in-place ReLUs", lambda: pooled(inplace=True), "6"),
    matrices("a layer before an in-place ReLU", lambda: pooled(inplace=True), "3"),
    matrices("one ReLU in a row", lambda: pooled(shared=True), "6"),
    matrices("batch normalisation", net(Base.a, Variant.base, batch_norm=True), "norm3"),
    matrices("a ReLU that is the layer", net(Base.c, Variant.all_cnn), "relu4"),
    parallel(shared=False),
]

# The same net; what differs is how its ReLUs are spelled.
SPELLED = {
    "F.relu": F.relu,
    "F.relu in place": lambda maps: F.relu(maps, inplace=True),
    "torch.relu": torch.relu,
    "x.relu()": lambda maps: maps.relu(),
    "x.relu_()": lambda maps: maps.relu_(),
    "x.clamp(min=0)": lambda maps: maps.clamp(min=0),
    "torch.maximum": lambda maps: torch.maximum(maps, torch.zeros_like(maps)),
}
