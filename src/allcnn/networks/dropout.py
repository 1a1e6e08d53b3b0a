"""Dropout whose masks are a hash of (seed, layer, step, element): no state to save.

A cell that stops and resumes draws the same masks as one that never stopped, and on a CPU a
hash costs a quarter of torch's own dropout.
"""

import torch
from torch import Tensor, nn

from allcnn import randomness


class HashDropout(nn.Module):
    """Set a share of the values to zero and scale the others by 1 / (1 - share), in training only.

    `reseed` must set the key before each step, else every step drops the same values.
    """

    key: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        assert 0 <= share < 1
        self.share = share
        # A tensor, so that a compiled graph reads a new key without being compiled again.
        self.register_buffer("key", torch.zeros((), dtype=torch.int32), persistent=False)
        # Held here as long as the net lives: a CUDA graph reads them where they were at its capture.
        self._elements: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape, type and memory layout."""
        if not self.training or self.share == 0:
            return values
        dropped = randomness.bits(self.key, self._enumerated(values)) < randomness.threshold(self.share)
        # The fill comes last: what is dropped is 0 even where the value is not finite. In place,
        # because masked_fill would return another memory layout than it got.
        return (values * (1 / (1 - self.share))).masked_fill_(dropped, 0.0)

    def extra_repr(self) -> str:
        """Return what print(network) shows in the brackets."""
        return f"share={self.share}"

    def _enumerated(self, values: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return randomness.enumerated(tuple(values.shape), values.device)
        place = (values.shape, values.device)
        if place not in self._elements:
            self._elements[place] = randomness.enumerated(tuple(values.shape), values.device)
        return self._elements[place]


def reseed(network: nn.Module, streams: randomness.Streams) -> None:
    """Give every HashDropout of the network its masks for one step, in place."""
    for purpose, dropout in zip(purposes(network), _dropouts(network), strict=True):
        dropout.key.copy_(streams(purpose))


def purposes(network: nn.Module) -> list[str]:
    """Return what the dropouts of the network draw from, one stream each."""
    return [f"dropout{index}" for index, _ in enumerate(_dropouts(network))]


def _dropouts(network: nn.Module) -> list[HashDropout]:
    return [module for module in network.modules() if isinstance(module, HashDropout)]
