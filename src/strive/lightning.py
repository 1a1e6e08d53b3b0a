"""Lightning in a cell: a callback that logs each epoch, writes checkpoints, and stops when a stop is requested.

    trainer = Trainer(callbacks=[StriveCallback()])
    trainer.fit(module, data, ckpt_path=strive.load())

Imports torch and Lightning, so nothing else of strive imports this.
"""

import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import strive
from strive import signals
from strive.errors import ContractError, Stopped

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint
except ImportError:
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.callbacks import Checkpoint


class StriveCallback(Checkpoint):
    """Logs a cell's metrics after each epoch, and writes Lightning's own checkpoint then when one is due.

    For one `fit` in a cell, which is given ckpt_path=strive.load(). Outside of a cell it does nothing. The steps of
    the history are epochs, from 1; its numbers are those of `self.log` in training and validation, as means of the
    epoch. With the checkpoint goes the state of the random generators, so that the next epoch has the same order.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Be the last callback, so that what the others keep is in the checkpoint."""
        trainer.callbacks = [*(each for each in trainer.callbacks if each is not self), self]
        self._alone = trainer.world_size == 1
        self._before: dict[str, Any] = {}
        self._ended: dict[str, Any] | None = None  # the state of the loops at the end of the last epoch
        self._is_writing = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ContractError if there is a checkpoint that the fit does not go on from."""
        path = strive.load()
        if path is not None and str(trainer.ckpt_path) != str(path):
            raise ContractError(
                f"this cell has a checkpoint to go on from, but fit was called with ckpt_path={trainer.ckpt_path};"
                " call trainer.fit(..., ckpt_path=strive.load()), or, where the app takes it from its config, add"
                " \"hydra.launcher.resume_overrides=['ckpt_path={checkpoint}']\""
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a signal wait for the end of the epoch: Lightning's own handler ends the process in its middle."""
        if strive.current() is None:
            return
        if threading.current_thread() is threading.main_thread():
            signals.listen()
        if strive.stop_requested():
            raise Stopped

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a checkpoint of the epoch before, if one is due."""
        if self._ended is not None:
            # Lightning writes on rank 0 alone, but in a function in which all ranks meet.
            strive.save(lambda path: self._write(trainer, path), all_ranks=True)
        self._before = dict(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch."""
        found = trainer.callback_metrics
        # Those of an earlier validation are still there.
        news = {name: value for name, value in found.items() if self._before.get(name) is not value}
        strive.log(trainer.current_epoch + 1, **_of_the_epoch(news))
        self._ended = trainer.fit_loop.state_dict()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let the loops be at the end of the epoch, from where alone Lightning goes on with the next one.

        All else is of a moment later: a scheduler that watches a metric steps in between.
        """
        if self._is_writing:
            checkpoint["loops"]["fit_loop"] = self._ended

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Raise Stopped where Lightning leaves by itself after a signal."""
        # Not strive.stop_requested(), which all ranks must call equally often.
        if isinstance(exception, SystemExit) and signals.requested():
            raise Stopped

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the random generators."""
        numpy_state: Any = np.random.get_state()
        name, keys, *rest = numpy_state
        found: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": (name, keys.tolist(), *rest),
            "torch": torch.get_rng_state(),
        }
        return found | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_initialized() else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the random generators; not for several processes, of which the checkpoint has the first one's."""
        if not self._alone or not state_dict:
            return
        version, internal, gauss = state_dict["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, *rest = state_dict["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        torch.set_rng_state(state_dict["torch"].cpu())
        if "cuda" in state_dict and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([each.cpu() for each in state_dict["cuda"]])

    def _write(self, trainer: Trainer, path: Path) -> None:
        self._is_writing = True
        try:
            trainer.save_checkpoint(path)
        finally:
            self._is_writing = False


def _of_the_epoch(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics without the parts _step and _epoch of those that Lightning has under both."""
    parts = {f"{name}_{part}" for name in metrics for part in ("step", "epoch")}
    return {name: value for name, value in metrics.items() if name not in parts}
