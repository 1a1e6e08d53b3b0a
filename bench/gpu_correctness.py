"""Checks of correctness on a GPU, shared by bench/gpu_check.py and tests/gpu.

Each trains one of the 12 nets for some steps in two ways that must end in the same bits, or nearly the same numbers.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from gpu_arms import Setup, executor
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from allcnn.config import Augment, Config, Precision
from allcnn.data.splits import ResidentSplit
from allcnn.networks.build import build_network
from allcnn.training import (
    EagerExecutor,
    Execution,
    Executor,
    State,
    Training,
    enter_execution,
    peak_memory_bytes,
    train_epoch,
)
from allcnn.training.fast_network import with_moved_strides

EPOCHS = 2
LR = 0.02  # at which some steps move the weights by much more than rounding does
# Shares of the largest value. float64 weights and images; only the last mean is taken in float32.
WRITTEN_TOLERANCE = 1e-5
# Of the first epoch's loss, after some steps: float32 with other sums, and bf16 with layers fused.
CPU_TOLERANCE, COMPILED_TOLERANCE = 1e-3, 1e-2


@dataclass(kw_only=True)
class Finding:
    """How a check ended."""

    passed: bool
    note: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    trace: str = ""  # of an exception


Check = Callable[[str, Setup, bool], Finding]  # of a net's name, on this setup, compiled or not


def graph_is_eager(net: str, setup: Setup, compiled: bool) -> Finding:
    """Steps as CUDA graphs, the smaller last batch too, end in the bits of steps one kernel after the other."""
    execution, config = setup.execution(compiled=compiled), setup.cell(net, lr=LR)
    (graph,) = _trained([config], setup, execution)
    (eager,) = _trained([config], setup, replace(execution, graph=False), EagerExecutor())
    return _same_bits([graph], [eager])


def rerun_is_the_same(net: str, setup: Setup, compiled: bool) -> Finding:
    """A cell that is trained again ends in the same bits."""
    execution, config = setup.execution(compiled=compiled), setup.cell(net, lr=LR)
    return _same_bits(_trained([config], setup, execution), _trained([config], setup, execution))


def packed_is_lone(net: str, setup: Setup, compiled: bool) -> Finding:
    """Cells side by side, with other rates, seeds and augmentation, end in the bits that each has alone."""
    execution, configs = setup.execution(compiled=compiled), _three(net, setup)
    packed = _trained(configs, setup, execution)
    alone = [_trained([config], setup, execution)[0] for config in configs]
    return _same_bits(packed, alone)


def resume_in_another_pack(net: str, setup: Setup, compiled: bool) -> Finding:
    """A cell stopped within an epoch and resumed with another cell ends in the bits of one that was trained alone."""
    execution = setup.execution(compiled=compiled)
    cell, before, after = _three(net, setup)
    state = _stopped([cell, before], setup, execution)
    resumed, other = (Training(config, setup.splits, execution) for config in (cell, after))
    resumed.restore(state)
    begun = resumed.place
    engine = executor(execution)
    while len(resumed.history) < EPOCHS:
        train_epoch([resumed, other], engine, lambda training: None)
    finding = _same_bits([resumed], _trained([cell], setup, execution))
    if not begun:
        return Finding(passed=False, note="the checkpoint was not in the middle of an epoch")
    return finding


def net_is_as_written(net: str, setup: Setup, compiled: bool) -> Finding:
    """What a step computes, such as Strided-CNN-B with its strides moved, is the net of the paper and its gradients."""
    config, draw = setup.cell(net), torch.Generator().manual_seed(0)
    written = build_network(config.model, num_classes=10, image_size=32, seed=0).to(setup.device).double().eval()
    images = torch.randn(16, 3, 32, 32, generator=draw, dtype=torch.float64).to(setup.device)
    labels = torch.randint(0, 10, (16,), generator=draw).to(setup.device)
    enter_execution(setup.execution())
    wanted = _logits_and_gradients(written, written, images, labels)
    # Eight input channels, as on a GPU in bf16, whatever this device takes.
    got = _logits_and_gradients(with_moved_strides(written, channels=8), written, images, labels)
    apart = max(_apart(one, other) / max(float(one.abs().max()), 1e-30) for one, other in zip(wanted, got, strict=True))
    return Finding(
        passed=apart <= WRITTEN_TOLERANCE,
        note=f"logits and gradients differ by {apart:.1e} of the largest, tolerance {WRITTEN_TOLERANCE:.0e}",
        numbers={"difference": apart},
    )


def gpu_is_cpu(net: str, setup: Setup, compiled: bool) -> Finding:
    """In float32, a GPU's first epoch has the loss of the processor's: the same images, order, shifts and masks."""
    small = replace(setup, width=min(setup.width, 0.25))
    config = small.cell(net, lr=LR, precision=Precision.fp32)
    (there,) = _trained([config], small, small.execution(), epochs=1)
    train = small.splits.train
    assert isinstance(train, ResidentSplit)
    cpu = torch.device("cpu")
    copied = ResidentSplit(train.images.cpu().numpy(), train.labels.numpy(), cpu)
    here_ground = replace(small, device=cpu, splits=replace(small.splits, train=copied, test=copied))
    (here,) = _trained([config], here_ground, here_ground.execution(), EagerExecutor(), epochs=1)
    return _same_loss(there, here, CPU_TOLERANCE)


def compiled_learns_the_same(net: str, setup: Setup, compiled: bool) -> Finding:
    """A compiled net has the loss of one that is not, and is compiled indeed."""
    torch.compiler.reset()  # and forget what was compiled before
    config, before = setup.cell(net, lr=LR), counters["stats"]["unique_graphs"]
    (plain,) = _trained([config], setup, setup.execution(), epochs=1)
    (fused,) = _trained([config], setup, setup.execution(compiled=True), epochs=1)
    if counters["stats"]["unique_graphs"] == before:
        return Finding(passed=False, note="torch.compile compiled nothing")
    return _same_loss(fused, plain, COMPILED_TOLERANCE)


def memory(net: str, setup: Setup, compiled: bool) -> Finding:
    """How much memory cells side by side take. There is no limit that they could pass."""
    execution, numbers = setup.execution(compiled=compiled), dict[str, float]()
    for count in (1, 3):
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
        enter_execution(execution)  # forgets the peak before
        _trained(_three(net, setup)[:count], setup, execution, epochs=1)
        numbers[f"peak_mb_{count}"] = peak_memory_bytes(setup.device) / 1e6
    note = f"1 cell {numbers['peak_mb_1']:,.0f} MB, 3 cells {numbers['peak_mb_3']:,.0f} MB, images included"
    return Finding(passed=True, note=note, numbers=numbers)


def _three(net: str, setup: Setup) -> list[Config]:
    return [
        setup.cell(net, seed=0, lr=LR),
        setup.cell(net, seed=1, lr=LR / 2, augment=Augment.none),
        setup.cell(net, seed=2, lr=LR / 4),
    ]


def _trained(
    configs: Sequence[Config],
    setup: Setup,
    execution: Execution,
    engine: Executor | None = None,
    epochs: int = EPOCHS,
) -> list[Training]:
    enter_execution(execution)
    trainings = [Training(config, setup.splits, execution) for config in configs]
    engine = engine or executor(execution)
    for _ in range(epochs):
        train_epoch(trainings, engine, lambda training: None)
    return trainings


class _StopError(Exception):
    """The first cell is in the middle of its last epoch."""


def _stopped(configs: Sequence[Config], setup: Setup, execution: Execution) -> State:
    """Return the checkpoint of the first cell, in the middle of the last epoch, trained with the others."""
    enter_execution(execution)
    trainings = [Training(config, setup.splits, execution) for config in configs]
    engine, first = executor(execution), trainings[0]
    last = (EPOCHS - 1) * first.steps_per_epoch + first.steps_per_epoch // 2

    def stop(training: Training) -> None:
        if training is trainings[-1] and training.step == last:
            raise _StopError

    try:
        for _ in range(EPOCHS):
            train_epoch(trainings, engine, stop)
    except _StopError:
        pass
    return copy.deepcopy(first.snapshot())


def _logits_and_gradients(net: nn.Module, owner: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Return the logits, and the gradient of each parameter of the net that owns them."""
    logits = net(images)
    return [logits.detach(), *torch.autograd.grad(F.cross_entropy(logits, labels), list(owner.parameters()))]


def _same_bits(some: Sequence[Training], others: Sequence[Training]) -> Finding:
    idle = _idle([*some, *others])
    apart, same, largest = 0.0, True, 0.0
    for one, other in zip(some, others, strict=True):
        same = same and one.history == other.history and one.step == other.step
        for mine, theirs in zip(one.tensors(), other.tensors(), strict=True):
            same = same and torch.equal(torch.nan_to_num(mine), torch.nan_to_num(theirs))
            apart = max(apart, _apart(mine, theirs))
            largest = max(largest, float(mine.double().abs().max()))
    losses = [training.history[0].train_loss for training in some]
    note = "the same bits" if same else f"differ by up to {apart:.1e}; the largest value is {largest:.1e}"
    return Finding(
        passed=same and not idle,
        note=f"{note}; {idle}" if idle else note,
        numbers={"difference": apart, "first_loss": losses[0]},
    )


def _same_loss(one: Training, other: Training, tolerance: float) -> Finding:
    losses, idle = [training.history[0].train_loss for training in (one, other)], _idle([one, other])
    apart = abs(losses[0] - losses[1]) / losses[1]
    note = f"losses {losses[0]:.5f} and {losses[1]:.5f}, {apart:.1e} apart, tolerance {tolerance:.0e}"
    return Finding(
        passed=apart <= tolerance and not idle,
        note=f"{note}; {idle}" if idle else note,
        numbers={"difference": apart, "first_loss": losses[0]},
    )


def _idle(trainings: Sequence[Training]) -> str:
    """Return why nothing was checked, "" if something was: a faster way not taken, or cells that were dead."""
    reasons = {f"fell back: {each.fallback}" for each in trainings if each.fallback}
    return "; ".join(sorted(reasons | {each.diverged for each in trainings if each.diverged}))


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; not a number in both is none."""
    both = torch.isnan(one.double()) & torch.isnan(other.double())
    apart = torch.where(both, 0.0, (one.double() - other.double()).abs())
    return float(apart.max()) if apart.numel() else math.nan
