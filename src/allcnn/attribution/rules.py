"""Backward rules that differ from autograd: the three ReLU rules, and pooling with and without switches.

The paper's figure 1: with f the input of a ReLU and R the signal that comes back to its output, the
signal goes on

    backprop   where f > 0
    deconvnet  where R > 0              (Zeiler and Fergus, 2014)
    guided     where f > 0 and R > 0    (the paper, section 4)

Convolutions are passed transposed under all three, and max-pooling by its switches: the places of the
windows' maxima, where overlapping windows add up. Without switches each window's signal goes to all of its
places alike, so that nothing of the image is needed.
"""

from enum import StrEnum, auto
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from allcnn.networks.pooling import KERNEL, STRIDE, NormPool


class Rule(StrEnum):
    """How the signal passes a ReLU on its way back."""

    backprop = auto()
    deconvnet = auto()
    guided = auto()


class Pooling(StrEnum):
    """Which positions a pooling passes the signal to."""

    switches = auto()  # to each window's maximum; for p-norm pooling by its gradient
    switchless = auto()  # to all places of each window alike


def ruled_relu(inputs: Tensor, rule: Rule) -> Tensor:
    """Return max(inputs, 0), with the rule for the way back."""
    if rule is Rule.backprop:
        return inputs.relu()  # autograd's own is this rule, and faster
    outputs: Tensor = _ReLU.apply(inputs, rule)
    return outputs


def switchless_pool(pooled: Tensor, inputs: Tensor, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Tensor:
    """Return `pooled` as an outcome of `inputs` whose windows pass their signal to all of their places."""
    outputs: Tensor = _Spread.apply(inputs, pooled, *map(_pair, (kernel, stride, padding, dilation)))
    return outputs


def ruled_norm_pool(pooled: Tensor, inputs: Tensor, module: NormPool, pooling: Pooling) -> Tensor:
    """Return `pooled`, which the module made of `inputs`, with the pooling's way back."""
    if pooling is Pooling.switchless:
        return switchless_pool(pooled, inputs, kernel=KERNEL, stride=STRIDE, padding=module.padding, dilation=1)
    outputs: Tensor = _Gradient.apply(inputs, pooled, module)
    return outputs


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, rule: Rule) -> Tensor:
        ctx.rule = rule
        outputs = inputs.clamp_min(0)
        if rule is not Rule.deconvnet:
            ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        if ctx.rule is Rule.deconvnet:
            return signal.clamp_min(0), None
        (outputs,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(signal, outputs, 0).clamp_min_(0), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, pooled: Tensor, *geometry: tuple[int, int]) -> Tensor:
        ctx.size, ctx.geometry = inputs.shape[-2:], geometry
        return pooled.clone()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        kernel, stride, padding, dilation = ctx.geometry
        high, wide = ctx.size
        windows = signal.flatten(0, -3).unsqueeze(1)  # each map alone: [n c, 1, h', w']
        spread = F.conv_transpose2d(windows, signal.new_ones(1, 1, *kernel), stride=stride, dilation=dilation)
        # What windows at the border see beyond it is cut off; what no window sees is zero.
        beyond = (high + padding[0] - spread.shape[2], wide + padding[1] - spread.shape[3])
        spread = F.pad(spread, (-padding[1], beyond[1], -padding[0], beyond[0]))
        return spread.reshape(*signal.shape[:-2], high, wide), *[None] * 5


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, pooled: Tensor, module: NormPool) -> Tensor:
        ctx.module = module
        ctx.save_for_backward(inputs)
        return pooled.clone()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        (inputs,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            pooled = NormPool.forward(ctx.module, leaf)
        return torch.autograd.grad(pooled, leaf, signal)[0], None, None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (tuple(value) * 2)[:2]


# What autograd knows these by.
RULED = frozenset({_ReLU, _Spread, _Gradient})
