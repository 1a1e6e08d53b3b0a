"""The same net under Lightning, written as its users write it: a LightningModule, torchvision's loader, logged metrics.

python bench/lightning_loop.py --data DIR --net all_cnn_c --steps 30 --bf16 --channels-last

Imports nothing of strive; needs `pip install -e '.[bench]'`. The net and the images are those of plain_loop.py, and the
line of JSON that it prints means the same: images per second, and the mean loss of each 50 steps.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import plain_loop
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

try:
    import lightning
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy
except ImportError:
    raise SystemExit("error: lightning is not installed: pip install -e '.[bench]'") from None


class PlainModule(lightning.LightningModule):
    """A net with its loss, optimizer and metrics."""

    def __init__(self, net: str, *, width: float, classes: int, lr: float, channels_last: bool, warmup: int) -> None:
        super().__init__()
        self.net, self.lr = plain_loop.build_net(net, width, classes), lr
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net = self.net.to(memory_format=self.layout)
        self.train_loss, self.train_accuracy = MeanMetric(), MulticlassAccuracy(classes)
        self.clock, self.losses = plain_loop.Clock(warmup), list[Tensor]()

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        """Return the loss of a batch, and log what a template logs."""
        images, labels = batch
        logits = self.net(images.contiguous(memory_format=self.layout))
        loss = F.cross_entropy(logits, labels)
        self.train_loss(loss)
        self.train_accuracy(logits, labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: list[Tensor], batch_idx: int) -> None:
        """Look at the clock, after the optimizer's step."""
        self.clock.tick(len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the paper's optimizer."""
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=0.001)


def measure(
    *, data: Path, net: str, width: float, steps: int, warmup: int, lr: float, threads: int, seed: int,
    bf16: bool, channels_last: bool, workers: int
) -> tuple[float, list[float]]:  # fmt: skip
    """Train for warmup + steps steps; return images per second and the loss of every step, warm-up included."""
    if threads:
        torch.set_num_threads(threads)
    lightning.seed_everything(seed, verbose=False)
    images = plain_loop.images(data)
    loader = DataLoader(
        images, plain_loop.BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available()
    )  # fmt: skip
    classes = len(images.classes)
    module = PlainModule(net, width=width, classes=classes, lr=lr, channels_last=channels_last, warmup=warmup)
    trainer = lightning.Trainer(
        max_steps=warmup + steps,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        benchmark=True,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, loader)
    return module.clock.images_per_second(), torch.stack(module.losses).tolist()


def main() -> None:
    """Print one line of JSON."""
    options = plain_loop.options()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    print(plain_loop.line(*measure(**vars(options))))


if __name__ == "__main__":
    main()
