"""Learning rate schedule: a pure function of the step."""

import math
from bisect import bisect_right
from fractions import Fraction
from functools import lru_cache

from allcnn.config import OptimizerConfig


def learning_rate(step: int, num_steps: int, optimizer: OptimizerConfig) -> float:
    """Return the learning rate of step 0 <= step < num_steps.

    Multiplied by drop_factor at each share of the budget in drop_at: 200, 250 and 300 of 350
    epochs in the paper (section 3).
    """
    drops = bisect_right(_drop_steps(tuple(optimizer.drop_at), num_steps), step)
    return float(optimizer.lr * optimizer.drop_factor**drops)


@lru_cache(maxsize=16)
def _drop_steps(shares: tuple[str, ...], num_steps: int) -> list[int]:
    """Return the first step of each drop."""
    # Fractions, because 4/7 of 136,850 steps must be exactly 78,200.
    return [math.ceil(Fraction(share) * num_steps) for share in shares]
