"""A classifier around any net, optimizer and scheduler of the config."""

from collections.abc import Callable
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, classes: int, dropout: float) -> nn.Module:
    """Return a net with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


class Classifier(LightningModule):
    """Cross-entropy and accuracy of a net."""

    def __init__(self, net: nn.Module, optimizer: Callable[..., Any], scheduler: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self.make_optimizer, self.make_scheduler = net, optimizer, scheduler

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        rows, labels = batch
        scores = self.net(rows)
        loss = nn.functional.cross_entropy(scores, labels)
        values = {f"{stage}/loss": loss, f"{stage}/acc": (scores.argmax(1) == labels).float().mean()}
        self.log_dict(values, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of one batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log one batch."""
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log one batch."""
        self._step(batch, "test")

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer, whose rate falls where the validation loss does not."""
        optimizer = self.make_optimizer(params=self.parameters())
        scheduler = self.make_scheduler(optimizer=optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}
