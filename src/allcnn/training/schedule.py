"""Learning rate schedules: each a pure function of the step."""

import math
from bisect import bisect_right
from fractions import Fraction
from functools import lru_cache

from allcnn.config import OptimizerConfig, Schedule


def learning_rate(step: int, num_steps: int, optimizer: OptimizerConfig, steps_per_epoch: int) -> float:
    """Return the learning rate of step 0 <= step < num_steps."""
    match optimizer.schedule:
        case Schedule.drops:
            drops = bisect_right(_drop_steps(tuple(optimizer.drop_at), num_steps), step)
            return float(optimizer.lr * optimizer.drop_factor**drops)
        case Schedule.step:
            drops = step // (steps_per_epoch * optimizer.step_epochs)
            return float(optimizer.lr * optimizer.drop_factor**drops)
        case Schedule.cosine:
            return _wave(optimizer.lr, optimizer.lr * optimizer.end_factor, step / num_steps)
        case Schedule.one_cycle:
            return _one_cycle(step, num_steps, optimizer)


@lru_cache(maxsize=16)
def _drop_steps(shares: tuple[str, ...], num_steps: int) -> list[int]:
    """Return the first step of each drop: 200, 250 and 300 of 350 epochs in the paper (section 3)."""
    # Fractions, because 4/7 of 136,850 steps must be exactly 78,200.
    return [math.ceil(Fraction(share) * num_steps) for share in shares]


def _one_cycle(step: int, num_steps: int, optimizer: OptimizerConfig) -> float:
    """Return the rate of torch's OneCycleLR, which ends at the last step; training too short to rise begins at lr."""
    peak = optimizer.rise * num_steps - 1
    if step < peak:
        return _wave(optimizer.lr * optimizer.start_factor, optimizer.lr, step / peak)
    peak = max(peak, 0)
    fallen = (step - peak) / (num_steps - 1 - peak) if num_steps > 1 else 0
    return _wave(optimizer.lr, optimizer.lr * optimizer.end_factor, fallen)


def _wave(start: float, end: float, share: float) -> float:
    """Return the value after a share of half a cosine wave from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
