"""Measurement of how many cells a device trains fastest side by side."""

from collections.abc import Sequence

import torch

from allcnn.training.cell_training import Training
from allcnn.training.executors import Executor, GraphExecutor, obstacle

# Least speed-up by one more cell: each takes memory, and less than this is noise in a few seconds.
_LEAST_GAIN = 1.03


def cells_at_once(trainings: Sequence[Training], executor: Executor) -> int:
    """Return with how many of these cells the most steps are taken in a second, measured in some seconds.

    The trainings are left as they were.
    """
    if not isinstance(executor, GraphExecutor) or any(obstacle(training.config) for training in trainings):
        return 1  # one kernel after the other: nothing overlaps
    best, most = 1, 0.0
    for count in range(1, len(trainings) + 1):
        try:
            rate = count / executor.seconds_per_step(trainings[:count])
        except torch.OutOfMemoryError:
            if count == 1:
                raise
            return best
        if rate > _LEAST_GAIN * most:
            best, most = count, rate
    return best
