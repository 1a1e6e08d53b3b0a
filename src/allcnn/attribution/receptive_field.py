"""Receptive fields in closed form: the pixels that a unit sees.

Along each axis a unit at y sees the pixels [start + y jump, start + y jump + size), as far as they lie in the
image. A layer of kernel k, stride s and padding p makes of a field: start - p jump, size + (k - 1) jump, jump s.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from allcnn.attribution.activations import modules_of
from allcnn.networks.build import GlobalMean, SampledConv
from allcnn.networks.dropout import HashDropout
from allcnn.networks.pooling import KERNEL, STRIDE, NormPool


class Box(NamedTuple):
    """A rectangle of pixels: rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What the units of a layer see, in pixels, the same along both axes."""

    size: int = 1
    jump: int = 1  # between the fields of two neighbours
    start: int = 0  # of the first unit's field; below zero where it begins in the padding

    def box(self, row: int, column: int, height: int, width: int) -> Box:
        """Return what the unit sees of an image of that size; beyond its border is nothing to see."""
        top, left = self.start + row * self.jump, self.start + column * self.jump
        return Box(max(0, top), max(0, left), min(height, top + self.size), min(width, left + self.size))

    def after(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "ReceptiveField":
        """Return the field of a layer that sees this one."""
        return ReceptiveField(
            size=self.size + (kernel - 1) * dilation * self.jump,
            jump=self.jump * stride,
            start=self.start - padding * self.jump,
        )


def _global_hooks() -> tuple[object, ...]:
    """Return torch's hooks on all modules."""
    names = (
        "_global_forward_pre_hooks",
        "_global_forward_hooks",
        "_global_backward_pre_hooks",
        "_global_backward_hooks",
    )
    return tuple(getattr(nn.modules.module, name, None) for name in names)


def _is_changed(module: nn.Module) -> bool:
    """Return whether a module may compute something else than its type says (hooks, an own forward)."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    own_statistics = isinstance(module, nn.BatchNorm2d) and module.running_mean is None
    indices = isinstance(module, nn.MaxPool2d) and module.return_indices
    return "forward" in vars(module) or any(hooks) or own_statistics or indices


_FAR = 1 << 40
WHOLE = ReceptiveField(size=2 * _FAR, jump=0, start=-_FAR)  # all of the image, whatever its size

_POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity, HashDropout)
_SLIDING = (nn.Conv2d, SampledConv, nn.MaxPool2d, nn.AvgPool2d)


def field_of(network: nn.Module, layer: str) -> ReceptiveField | None:
    """Return the field of a layer's units; None where the network is no plain sequence of layers known here.

    layer: the name of one of its modules; "" is the network's output.
    """
    # Exact types, here and below: what a subclass computes need not see the same pixels.
    if type(network) is not nn.Sequential or _is_changed(network) or any(_global_hooks()):
        return None
    if layer and layer not in network._modules:
        return None
    field = ReceptiveField()
    for _, module in modules_of(network, layer):
        after = field_after(field, module)
        if after is None:
            return None
        field = after
    return field


def field_after(field: ReceptiveField, module: nn.Module) -> ReceptiveField | None:
    """Return the field of a module that sees `field`, None if the module is not known here."""
    if _is_changed(module):
        return None
    if type(module) is GlobalMean:
        return WHOLE
    if type(module) in _POINTWISE:
        return field
    if isinstance(module, NormPool) and type(module) is NormPool:
        return field.after(KERNEL, STRIDE, module.padding)
    if type(module) not in _SLIDING or getattr(module, "padding_mode", "zeros") != "zeros":
        return None
    assert isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
    dilation = 1 if isinstance(module, nn.AvgPool2d) else module.dilation
    geometry: tuple[object, ...] = (module.kernel_size, module.stride, module.padding, dilation)
    sides = [_side(each) for each in geometry]
    return None if None in sides else field.after(*sides)  # type: ignore[arg-type]


def _side(value: object) -> int | None:
    """Return the number that a module holds for both axes, None if they differ."""
    if isinstance(value, tuple):
        value = value[0] if len(set(value)) == 1 else None
    return value if isinstance(value, int) else None
