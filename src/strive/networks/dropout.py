"""Dropout whose masks are a hash of (seed, layer, step, element): no state to save.

A cell that stops and resumes draws the same masks as one that never stopped, and on a CPU a
hash costs a quarter of torch's own dropout.
"""

import torch
from torch import Tensor, nn

from strive import randomness


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

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape, type and memory layout."""
        if not self.training or self.share == 0:
            return values
        elements = _enumerated(tuple(values.shape), values.device)
        dropped = randomness.bits(self.key, elements) < randomness.threshold(self.share)
        # The fill comes last: what is dropped is 0 even where the value is not finite. In place,
        # because masked_fill would return another memory layout than it got.
        return (values * (1 / (1 - self.share))).masked_fill_(dropped, 0.0)

    def extra_repr(self) -> str:
        """Return what print(network) shows in the brackets."""
        return f"share={self.share}"


def _enumerated(shape: tuple[int, ...], device: torch.device) -> Tensor:
    # A compiled graph computes the numbers where it needs them, and warns of a cache.
    if torch.compiler.is_compiling():
        return randomness.enumerated.__wrapped__(shape, device)
    return randomness.enumerated(shape, device)


def reseed(network: nn.Module, seed: int, step: int) -> None:
    """Give every HashDropout of the network its masks for this step, in place."""
    places = (module for module in network.modules() if isinstance(module, HashDropout))
    for index, dropout in enumerate(places):
        dropout.key.copy_(randomness.key(seed, f"dropout{index}", step))
