"""The network as a training step runs it: the same function of the same parameters, with fewer operations.

- A 1x1 convolution with stride reads one output in stride^2 of the convolution and ReLU before it, as in
  Strided-CNN-B, so that convolution takes the stride over: the same sums, 2.9 times fewer operations in
  that net. Only the order in which its gradients are summed differs.
- On a GPU in bf16, convolutions read bf16 copies of their weights, which one kernel makes after each step,
  where autocast would cast each weight and each gradient by a kernel of its own.
- On a GPU in bf16 the first convolution gets eight input channels, five of them zero: its kernels for three are slow.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allcnn.config import Config, Family
from allcnn.training.arithmetic import Bf16, bf16_of

_GPU_CHANNELS = 8  # of the first convolution; in bf16 a pixel is then 16 bytes


class WorkingConv(nn.Module):
    """The convolution `conv` with another stride, and with zeros for the channels that it lacks."""

    def __init__(self, conv: nn.Conv2d, *, stride: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        assert isinstance(conv.padding, tuple)
        self.stride, self.padding, self.channels = stride, conv.padding, channels

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved maps [n, c, h, w]."""
        weight, stride = self.weight, self.stride
        lacking = self.channels - weight.shape[1]
        if lacking > 0:
            maps, weight = (F.pad(tensor, (0, 0, 0, 0, 0, lacking)) for tensor in (maps.to(weight.dtype), weight))
        if weight.shape[2:] == (1, 1) and stride != (1, 1):
            # As SampledConv does, and for its reason.
            maps = maps[:, :, :: stride[0], :: stride[1]].contiguous(memory_format=torch.channels_last)
            stride = (1, 1)
        return F.conv2d(maps, weight, self.bias, stride, self.padding)


class WorkingNetwork:
    """The module that a step runs forward, and the tensors that it takes gradients of."""

    def __init__(self, network: nn.Module, config: Config, device: torch.device) -> None:
        """network: on the device; its parameters stay the ones that are trained."""
        self._custom = config.model.family is Family.custom
        # At fixed addresses for a CUDA graph, and laid out like the parameters, as the fused optimizer requires.
        self._gradients = list[Tensor]()
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._leaves = list(self._parameters)
        self.copies, self._copied = list[nn.Parameter](), list[nn.Parameter]()  # and the parameters that they copy
        self.module = network
        if self._custom:
            return
        with_copies = device.type == "cuda" and bf16_of(config.precision, device) is Bf16.native
        self.module = with_moved_strides(network, channels=_GPU_CHANNELS if with_copies else 0)
        if with_copies:
            self.use_bf16_copies()
        elif device.type == "cuda":
            self.allocate_gradients()

    def use_bf16_copies(self) -> None:
        """Let the convolutions read bf16 copies of their parameters from now on."""
        copies = {}
        for conv in self.module.modules():
            for name in ("weight", "bias") if isinstance(conv, WorkingConv) else ():
                parameter = getattr(conv, name)
                copies[id(parameter)] = nn.Parameter(parameter.detach().to(torch.bfloat16))
                setattr(conv, name, copies[id(parameter)])
        self._leaves = [copies.get(id(parameter), parameter) for parameter in self._parameters]
        self._copied = [parameter for parameter in self._parameters if id(parameter) in copies]
        self.copies = [copies[id(parameter)] for parameter in self._copied]
        self.allocate_gradients()

    def allocate_gradients(self) -> None:
        """Let the gradients stay in one place from now on, each laid out and of the type as its parameter is."""
        self._gradients = [torch.empty_like(parameter) for parameter in self._parameters]
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def backward(self, loss: Tensor) -> None:
        """Set the gradients of the parameters that are trained."""
        if self._custom:
            # A user's net may checkpoint its activations, which autograd.grad does not support.
            for parameter in self._parameters:
                parameter.grad = None
            loss.backward()
            return
        gradients = torch.autograd.grad(loss, self._leaves)
        if self._gradients:
            torch._foreach_copy_(self._gradients, gradients)
            return
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def refresh(self) -> None:
        """Update the copies from the parameters."""
        if self.copies:
            copies, parameters = ([tensor.detach() for tensor in each] for each in (self.copies, self._copied))
            torch._foreach_copy_(copies, parameters)  # one kernel


def with_moved_strides(network: nn.Module, *, channels: int = 0) -> nn.Sequential:
    """Return a net that computes what `network`, one of ours, computes, from its modules and parameters.

    channels: at least so many go into the first convolution.
    """
    parts = list(network.named_children())
    strides = _strides([part for _, part in parts])
    working, first = nn.Sequential(), min(strides)
    for place, (name, part) in enumerate(parts):
        if isinstance(part, nn.Conv2d):
            part = WorkingConv(part, stride=strides[place], channels=channels if place == first else 0)
        working.add_module(name, part)
    return working


def _strides(parts: Sequence[nn.Module]) -> dict[int, tuple[int, ...]]:
    """Return {place: stride} of the convolutions, with each stride taken where it saves most."""
    strides = {place: part.stride for place, part in enumerate(parts) if isinstance(part, nn.Conv2d)}
    for place, (down, right) in list(strides.items()):
        # Nothing but a ReLU in between: batch normalisation has statistics of all pixels, dropout draws for all.
        pointwise = getattr(parts[place], "kernel_size", ()) == (1, 1)
        if pointwise and place - 2 in strides and isinstance(parts[place - 1], nn.ReLU | nn.LeakyReLU):
            before = strides[place - 2]
            strides[place - 2], strides[place] = (before[0] * down, before[1] * right), (1, 1)
    return strides
