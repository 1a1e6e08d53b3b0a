"""A cell in training: its network and optimizer, a training step, an epoch's numbers, and the state to go on from.

Shapes: n images of a batch, c channels, h x w pixels.
"""

import math
from dataclasses import asdict, dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from allcnn import randomness
from allcnn.config import Config, Family
from allcnn.data.augment import augment
from allcnn.data.mixup import mixed
from allcnn.data.output_size import output_size
from allcnn.data.own_augmentation import own_augmentation
from allcnn.data.splits import Splits
from allcnn.networks.build import build_network, count_parameters
from allcnn.networks.dropout import reseed
from allcnn.networks.spec import IMAGE_CHANNELS
from allcnn.training.arithmetic import Bf16, autocast, bf16_of
from allcnn.training.checkpoint import State
from allcnn.training.compile import Forward, compiled
from allcnn.training.device import Execution
from allcnn.training.evaluate import Scores, evaluate
from allcnn.training.fast_network import WorkingNetwork
from allcnn.training.optimizer import make_optimizer, state_tensors
from allcnn.training.schedule import learning_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochLine:
    """One epoch's numbers. Losses in nats per image, errors are shares in [0, 1].

    Train numbers are means over the epoch's steps, with dropout, augmentation and label smoothing on. Val numbers
    are those of the weights after the epoch; None where nothing is held out.
    """

    epoch: int  # 1 is the first
    lr: float  # of the epoch's last step
    train_loss: float
    train_error: float
    val_loss: float | None
    val_error: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of a finished cell, of the last step's weights, not the best epoch's.

    The best epoch by validation error would help the noisier arm of a comparison more.
    """

    diverged: str  # why; "" if the cell trained to its end
    history: list[EpochLine]
    test: Scores
    steps: int
    num_parameters: int
    weights: dict[str, Tensor]
    train_seconds: float  # the training steps alone: no loading, no evaluation


class Training:
    """A network, its optimizer, and how far they have come."""

    def __init__(self, config: Config, splits: Splits, execution: Execution) -> None:
        self.config, self.splits, self.device = config, splits, execution.device
        network = build_network(
            config.model, num_classes=splits.num_classes, image_size=output_size(config), seed=config.seed
        )
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.working = WorkingNetwork(self.network, config, self.device)
        self.steps_per_epoch = math.ceil(len(splits.train) / config.budget.batch_size)
        self.num_steps = self.steps_per_epoch * config.budget.epochs
        self.forward, self.not_compiled = self._forward(execution)
        self.not_graph = ""  # why its steps are not a CUDA graph although they were to be one
        on_gpu = self.device.type == "cuda"
        # A tensor, for a CUDA graph to read; float32 because the fused kernel takes nothing else.
        self.lr = torch.tensor(config.optimizer.lr, dtype=torch.float32 if on_gpu else torch.float64).to(self.device)
        self.optimizer = make_optimizer(self.network, config.optimizer, self.lr)
        self.own_augmentation = own_augmentation(config.augment, seed=config.seed)
        self.step = 0
        self.history: list[EpochLine] = []
        self.seconds = 0.0
        self.diverged = ""
        self.sums = {
            "loss": torch.zeros((), dtype=torch.float64, device=self.device),
            "wrong": torch.zeros((), dtype=torch.int64, device=self.device),
            "peak": torch.zeros((), dtype=torch.float32, device=self.device),
        }

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self.diverged) or len(self.history) == self.config.budget.epochs

    @property
    def place(self) -> int:
        """The number of steps of the current epoch that are done."""
        return self.step - len(self.history) * self.steps_per_epoch

    @property
    def fallback(self) -> str:
        """Why a faster way was not taken, "" if none was given up."""
        return "; ".join(filter(None, (self.not_compiled, self.not_graph)))

    @property
    def compiled(self) -> bool:
        """Whether torch.compile runs."""
        return self.forward is not self.working.module

    def order(self, epoch: int) -> Tensor:
        """Return the training images in the order of an epoch, the first of which is 0; int64 [n] on the CPU."""
        generator = randomness.generator(self.config.seed, "order", epoch)
        return torch.randperm(len(self.splits.train), generator=generator)

    def batch_sizes(self) -> list[int]:
        """Return the number of images of each step that is left in the current epoch."""
        count, size = len(self.splits.train), self.config.budget.batch_size
        return [min(size, count - start) for start in range(self.place * size, count, size)]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, the first of which is 0."""
        return learning_rate(step, self.num_steps, self.config.optimizer, self.steps_per_epoch)

    def learn(self, images: Tensor, labels: Tensor, streams: randomness.Streams) -> None:
        """Take a step on a batch, with the learning rate `self.lr`.

        Reads nothing back from the device and allocates the same every time, so that a CUDA graph can hold it.
        """
        config = self.config
        reseed(self.network, streams)
        size = config.data.image_size
        images = augment(images, config.augment, size=size, streams=streams, own=self.own_augmentation)
        images, share = mixed(images, config.augment, streams)
        with autocast(config.precision, self.device):
            logits = self.forward(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        if share is not None:
            others = labels.flip(0)
            of_others = F.cross_entropy(logits, others, label_smoothing=config.label_smoothing)
            loss = share * loss + (1 - share) * of_others
            labels = torch.where(share < 0.5, others, labels)  # for the error: the one that weighs more
        self.working.backward(loss)
        self.optimizer.step()
        self.working.refresh()
        self._add(logits.detach(), loss.detach(), labels)

    def tensors(self) -> list[Tensor]:
        """Return all tensors that `learn` changes in place."""
        kept = state_tensors(self.optimizer)
        parts = (self.network.parameters(), self.network.buffers(), self.working.copies, kept)
        return [tensor.detach() for tensor in chain(*parts, self.sums.values(), [self.lr])]

    def snapshot(self) -> State:
        """Return everything that decides what comes next. There is no random state to keep."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": state_tensors(self.optimizer),
            "sums": self.sums,
            "history": [asdict(line) for line in self.history],
            "seconds": self.seconds,
        }

    def restore(self, state: State) -> None:
        """Go on from a snapshot."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.working.refresh()
        for mine, kept in zip(state_tensors(self.optimizer), state["optimizer"], strict=True):
            mine.copy_(kept)
        for name, tensor in self.sums.items():
            tensor.copy_(state["sums"][name])
        self.history = [EpochLine(**line) for line in state["history"]]
        self.seconds = state["seconds"]

    def outcome(self) -> Outcome:
        """Score the test split and return the outcome."""
        return Outcome(
            diverged=self.diverged,
            history=self.history,
            test=evaluate(self.network, self.splits.test, self.config, self.device),
            steps=self.step,
            num_parameters=count_parameters(self.network),
            weights={name: tensor.detach().cpu() for name, tensor in self.network.state_dict().items()},
            train_seconds=self.seconds,
        )

    def close_epoch(self) -> None:
        """Read the epoch's sums, the only thing that the host asks the device for, and score the val split."""
        count, epoch = len(self.splits.train), len(self.history)
        loss, wrong, peak = torch.stack([tensor.double() for tensor in self.sums.values()]).tolist()
        if not math.isfinite(loss):
            self.diverged = f"the training loss became {loss} in epoch {epoch + 1}"
        elif peak == 0:
            # Dead after the class convolution's ReLU: no gradient can ever pass it. A loss of
            # ln(classes) alone is not this: such a cell can still recover (docs/open_choices.md).
            self.diverged = f"all class outputs were zero on every training image of epoch {epoch + 1}"
        held_out = self.splits.val
        val = evaluate(self.network, held_out, self.config, self.device) if held_out else None
        self.history.append(
            EpochLine(
                epoch=epoch + 1,
                lr=self.learning_rate(self.step - 1),
                train_loss=loss / count,
                train_error=wrong / count,
                val_loss=val.loss if val else None,
                val_error=val.error if val else None,
            )
        )
        for tensor in self.sums.values():
            tensor.zero_()

    def _forward(self, execution: Execution) -> tuple[Forward, str]:
        """Return what maps images to logits in a step, and why it is not what was asked for, "" if it is."""
        custom = self.config.model.family is Family.custom
        if not execution.compiled or (custom and self.config.trainer.compile is None):
            # What a user's net does when it is compiled is for the user to ask for.
            return self.working.module, ""
        if bf16_of(self.config.precision, self.device) is Bf16.rounded:
            return self.working.module, "torch.compile: it would leave out the roundings to bf16 of this device"
        size, side = self.config.budget.batch_size, output_size(self.config)
        count = len(self.splits.train)
        sizes = {min(size, count), count % size or size}
        return compiled(
            self.working.module,
            [(each, IMAGE_CHANNELS, side, side) for each in sorted(sizes, reverse=True)],
            autocast(self.config.precision, self.device),
            compare=not custom,
        )

    def _add(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        # Tensors on the device, read once per epoch: .item() at every step would stall a GPU.
        self.sums["loss"] += loss.double() * len(labels)
        self.sums["wrong"] += (logits.argmax(1) != labels).sum()
        torch.maximum(self.sums["peak"], logits.abs().max(), out=self.sums["peak"])
