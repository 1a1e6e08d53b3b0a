"""Which cells can train side by side in one process. Imports no torch."""

import json

from allcnn.config import Augment
from strive.launch.task import Task

# What may differ from cell to cell: it changes values in a training step, not what the step computes.
_FREE = ("seed", "budget.epochs", "runs", "sweeps", "trainer.progress")
_FREE_GROUPS = ("optimizer.", "tracker.", "needs.")


def together(task: Task) -> str:
    """Return a text that is equal for cells that can share a pack.

    Equal in all but the seed, the optimizer, the number of epochs, augmentation by flips and shifts,
    and logistics outside trainer.*.
    """
    config = task.config
    free: tuple[str, ...] = _FREE_GROUPS
    # The other kind has images of another size, and draws that a step without it does not make.
    if config["augment.kind"] in (Augment.none.value, Augment.flip_shift.value):
        free += ("augment.",)
    shared = {key: value for key, value in config.items() if key not in _FREE and not key.startswith(free)}
    return json.dumps(shared, sort_keys=True, allow_nan=False)
