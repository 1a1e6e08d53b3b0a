"""p-norm pooling over 3x3 windows with stride 2 (paper, equation 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allcnn.config import PoolRounding

KERNEL, STRIDE = 3, 2

# From here on 9^(1/p), the most by which the p-norm exceeds the maximum, rounds to 1 in float32.
LARGEST_NORM = 1e9


class NormPool(nn.Module):
    """Pool maps [n, c, h, w]; sizes follow `rounding`, see `ModelConfig.pool_rounding`.

    The maps are outputs of ReLUs, so that norm=inf, which is max-pooling, is the limit of the
    other norms. A window that the border cuts has fewer terms.
    """

    def __init__(self, norm: float, rounding: PoolRounding) -> None:
        super().__init__()
        assert norm > 0
        self.norm = norm
        self.padding = 1 if rounding is PoolRounding.pad else 0
        self.ceil_mode = rounding is PoolRounding.ceil

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled maps, in the type of `maps`."""
        if self.norm > LARGEST_NORM:
            return self._maximum(maps)
        # At least float32: bf16 has 8 bits, too few for a sum of powers.
        sizes = maps.to(torch.promote_types(maps.dtype, torch.float32)).abs()
        largest = self._maximum(sizes.detach())
        return self._p_norm(sizes, largest).to(maps.dtype)

    def _maximum(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, KERNEL, STRIDE, self.padding, ceil_mode=self.ceil_mode)

    def _p_norm(self, sizes: Tensor, largest: Tensor) -> Tensor:
        """Return largest * (sum of (size / largest)^p)^(1/p).

        Without the scaling the powers would over- or underflow. `largest` cancels out, so that
        it is right to keep it out of the gradient.
        """
        alive = largest > 0
        scale = torch.where(alive, largest, 1.0)
        total = torch.zeros_like(largest)
        for terms in self._window_terms(sizes, largest.shape):
            total = total + _power(terms / scale, self.norm)
        # The root has an infinite slope at 0: a window of zeros bypasses it.
        root = torch.where(alive, total, 1.0) ** (1 / self.norm)
        return torch.where(alive, scale * root, 0.0)

    def _window_terms(self, sizes: Tensor, shape: torch.Size) -> list[Tensor]:
        """Return for each of the 9 positions in a window the values there, [n, c, h', w']."""
        high, wide = (STRIDE * (count - 1) + KERNEL for count in shape[2:])
        before = self.padding
        right = max(0, wide - before - sizes.shape[3])
        below = max(0, high - before - sizes.shape[2])
        # A zero adds nothing to a sum of powers: padding by it is the same as fewer terms.
        padded = F.pad(sizes, (before, right, before, below))
        return [
            padded[:, :, row : row + high - KERNEL + 1 : STRIDE, column : column + wide - KERNEL + 1 : STRIDE]
            for row in range(KERNEL)
            for column in range(KERNEL)
        ]


def _power(ratios: Tensor, norm: float) -> Tensor:
    """Return ratios^norm, whose gradient at 0 is finite."""
    if norm >= 1:
        return ratios**norm
    # Here the slope at 0 is infinite; a value of 0 gets a gradient of 0.
    positive = ratios >= torch.finfo(ratios.dtype).tiny
    return torch.where(positive, torch.where(positive, ratios, 1.0) ** norm, 0.0)
