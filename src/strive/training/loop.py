"""The training loop: config and splits in, outcome out. Knows no files, Hydra, W&B or clusters.

Shapes: n images of a batch, c channels, h x w pixels.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strive import randomness
from strive.config import Config, Family
from strive.data import Splits, augment, output_size
from strive.networks import build_network, count_parameters, reseed
from strive.training.checkpoint import State
from strive.training.evaluation import Scores, autocast, evaluate
from strive.training.execution import Execution
from strive.training.schedule import learning_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochLine:
    """One epoch's numbers. Losses in nats per image, errors are shares in [0, 1].

    Train numbers are means over the epoch's steps, with dropout and augmentation on. Val numbers
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
    """What a finished cell has to say; the last step's weights, not the best epoch's.

    The best epoch by validation error would help the noisier arm of a comparison more.
    """

    diverged: str  # why; "" if the cell trained to its end
    history: list[EpochLine]
    test: Scores
    steps: int
    num_parameters: int
    weights: dict[str, Tensor]
    train_seconds: float  # the training steps alone: no loading, no evaluation


StepHook = Callable[[int, Callable[[], State]], None]  # gets the steps done and a way to take a snapshot
EpochHook = Callable[[EpochLine], None]


def train_cell(
    config: Config,
    splits: Splits,
    execution: Execution,
    *,
    state: State | None = None,
    on_step: StepHook = lambda step, snapshot: None,
    on_epoch: EpochHook = lambda line: None,
) -> Outcome:
    """Train from scratch, or go on from a snapshot, and score the test split once."""
    training = Training(config, splits, execution)
    if state is not None:
        training.restore(state)
    while len(training.history) < config.budget.epochs and not training.diverged:
        training.run_epoch(on_step)
        on_epoch(training.history[-1])
    return Outcome(
        diverged=training.diverged,
        history=training.history,
        test=evaluate(training.network, splits.test, config, execution.device),
        steps=training.step,
        num_parameters=count_parameters(training.network),
        weights={name: tensor.detach().cpu() for name, tensor in training.network.state_dict().items()},
        train_seconds=training.seconds,
    )


class Training:
    """A network, its optimizer, and how far they have come."""

    def __init__(self, config: Config, splits: Splits, execution: Execution) -> None:
        self.config, self.splits, self.device = config, splits, execution.device
        network = build_network(
            config.model, num_classes=splits.num_classes, image_size=output_size(config), seed=config.seed
        )
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = _compiled(self.network) if execution.compiled else self.network
        self.optimizer = torch.optim.SGD(_parameter_groups(self.network, config), lr=config.optimizer.lr)
        self.steps_per_epoch = math.ceil(len(splits.train) / config.budget.batch_size)
        self.num_steps = self.steps_per_epoch * config.budget.epochs
        self.step = 0
        self.history: list[EpochLine] = []
        self.seconds = 0.0
        self.diverged = ""
        self.sums = self._zero_sums()

    def snapshot(self) -> State:
        """Return everything that decides what comes next. There is no random state to keep."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums,
            "history": [asdict(line) for line in self.history],
            "seconds": self.seconds,
        }

    def restore(self, state: State) -> None:
        """Go on from a snapshot."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sums = {name: tensor.to(self.device) for name, tensor in state["sums"].items()}
        self.history = [EpochLine(**line) for line in state["history"]]
        self.seconds = state["seconds"]

    def run_epoch(self, on_step: StepHook) -> None:
        """Train to the end of the current epoch, from wherever in it the last snapshot was."""
        epoch = len(self.history)
        order = torch.randperm(len(self.splits.train), generator=randomness.generator(self.config.seed, "order", epoch))
        batches = order.split(self.config.budget.batch_size)
        first = self.step - epoch * self.steps_per_epoch
        assert 0 <= first <= self.steps_per_epoch
        self.network.train()
        started = time.perf_counter()
        for images, labels in self.splits.train.batches(batches[first:]):
            self._train_step(images, labels)
            now = time.perf_counter()
            self.seconds += now - started
            on_step(self.step, self.snapshot)
            started = time.perf_counter()
        if self.device.type == "cuda":
            # Queued work belongs to the steps that queued it.
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - started
        self._close_epoch(epoch)

    def _train_step(self, images: Tensor, labels: Tensor) -> None:
        config, step = self.config, self.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.num_steps, config.optimizer)
        reseed(self.network, config.seed, step)
        if config.model.family is Family.custom:
            # Whatever a user's net draws from torch's own generator is then stateless too.
            torch.manual_seed(randomness.number(config.seed, "custom", step))
        images = augment(images, config.augment, size=config.data.image_size, seed=config.seed, step=step)
        with autocast(config, self.device):
            logits = self.forward(images)
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self._add(logits.detach(), loss.detach(), labels)
        self.step += 1

    def _add(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        # Tensors on the device, read once per epoch: .item() at every step would stall a GPU.
        self.sums["loss"] += loss.double() * len(labels)
        self.sums["wrong"] += (logits.argmax(1) != labels).sum()
        torch.maximum(self.sums["peak"], logits.abs().max(), out=self.sums["peak"])

    def _close_epoch(self, epoch: int) -> None:
        count = len(self.splits.train)
        loss, wrong, peak = (self.sums[name].item() for name in ("loss", "wrong", "peak"))
        if not math.isfinite(loss):
            self.diverged = f"the training loss became {loss} in epoch {epoch + 1}"
        elif peak == 0:
            # Dead behind the class convolution's ReLU: no gradient can ever return. A loss of
            # ln(classes) alone is not this: such a cell can still recover (docs/open_choices.md).
            self.diverged = f"all class outputs were zero on every training image of epoch {epoch + 1}"
        held_out = self.splits.val
        val = evaluate(self.network, held_out, self.config, self.device) if held_out else None
        self.history.append(
            EpochLine(
                epoch=epoch + 1,
                lr=self.optimizer.param_groups[0]["lr"],
                train_loss=loss / count,
                train_error=wrong / count,
                val_loss=val.loss if val else None,
                val_error=val.error if val else None,
            )
        )
        self.sums = self._zero_sums()

    def _zero_sums(self) -> dict[str, Tensor]:
        return {
            "loss": torch.zeros((), dtype=torch.float64, device=self.device),
            "wrong": torch.zeros((), dtype=torch.int64, device=self.device),
            "peak": torch.zeros((), dtype=torch.float32, device=self.device),
        }


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    # Forget the nets compiled before: torch counts them together, and beyond eight graphs it would
    # go on without compiling, in silence.
    torch.compiler.reset()
    # dynamic=False: one graph for the batch size and one for the tail, both of exact shapes.
    return torch.compile(network, dynamic=False)


def _parameter_groups(network: nn.Module, config: Config) -> list[dict[str, object]]:
    optimizer = config.optimizer
    decay = {True: optimizer.weight_decay, False: optimizer.weight_decay if optimizer.decay_biases else 0.0}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in network.parameters():
        groups[parameter.dim() > 1].append(parameter)
    return [
        {"params": parameters, "momentum": optimizer.momentum, "weight_decay": decay[is_weight]}
        for is_weight, parameters in groups.items()
        if parameters
    ]
