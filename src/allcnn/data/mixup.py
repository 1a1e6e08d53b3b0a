"""Mixup (Zhang et al. 2018, 'mixup: Beyond Empirical Risk Minimization'): a batch mixed with itself in reverse order.

One share for the whole batch, as in the authors' code. Their partners are a permutation of the batch; here the last
image is the first one's, and so on, which is as random: each epoch's order is a permutation of the data set.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from allcnn.config import AugmentConfig
from allcnn.randomness import Streams, integers

_QUANTILES = 32_768  # as many as `integers` can tell apart


def mixed(images: Tensor, config: AugmentConfig, streams: Streams) -> tuple[Tensor, Tensor | None]:
    """Return share x images + (1 - share) x images in reverse order, and the share; None without mixup.

    images: [b, 3, h, w]. share: float32 scalar in [0, 1] from Beta(alpha, alpha), on the images' device.
    """
    if not config.mixup:
        return images, None
    shares = _quantiles(config.mixup, images.device)
    share = shares.index_select(0, integers(streams("mixup"), 1, _QUANTILES))[0]
    return share * images + (1 - share) * images.flip(0), share


# A table instead of a sampler: the draw is one whole number, like all others. Never forgotten: a CUDA graph reads it.
@cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """Return float32 [32,768]: values of Beta(alpha, alpha) with equal chances."""
    # Takes a while to import, and few cells mix.
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    values = betaincinv(alpha, alpha, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return torch.from_numpy(values.astype(np.float32)).to(device)
