"""Attribution maps: the signal of one unit, sent back to the pixels of an image under a rule.

Shapes: n images, c channels of a layer, h and w of the image, h' and w' of the layer's maps.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from allcnn.attribution.activations import activations, check_input, checked_output, layer_text, modules_of
from allcnn.attribution.crop_window import window_of, window_side
from allcnn.attribution.receptive_field import ReceptiveField, field_of
from allcnn.attribution.relu_override import AttributionError, ReluOverride
from allcnn.attribution.rules import Pooling, Rule, ruled_norm_pool, ruled_relu
from allcnn.attribution.units import Channels, Positions, Units, choose_units, given_units
from allcnn.networks.pooling import NormPool


class Attribution(NamedTuple):
    """Signed maps, and the unit that each is of."""

    maps: Tensor  # [n, 3, h, w]; zero outside of the unit's receptive field
    units: Units
    values: Tensor  # [n], the units' activations


def attribute(
    network: nn.Module,
    images: Tensor,
    *,
    rule: Rule | str,
    layer: str = "",
    channels: Channels = None,
    positions: Positions = None,
    pooling: Pooling | str = Pooling.switches,
) -> Attribution:
    """Send a 1 from one unit of each image back to the pixels (paper, section 4), and return the signed maps.

    network: in eval mode; images: [n, 3, h, w], finite, as it takes them. Neither is changed.
    layer: the name of a module (network.get_submodule) with an output [n, c, h', w'] or [n, c]; "" is the
    network itself. Take one before its ReLU, which would stop the signal of a unit below zero.
    channels: one for all images or one for each; by default that of each image's largest activation.
    positions: [n, 2], row and column; by default those of the channel's largest activation.

    Maps are signed: no ReLU follows the transpose of the first convolution.
    Raises AttributionError for an operation without a known rule: the plain gradient is never returned silently.
    """
    rule, pooling = _choice(Rule, rule), _choice(Pooling, pooling)
    check_input(network, images, layer)
    _check_finite(images)
    with torch.enable_grad():
        field = field_of(network, layer)
        side = window_side(field, images)
        if field is None or side is None:
            return _backward(
                network, images, rule, pooling, layer, field, lambda made: choose_units(made, channels, positions)
            )
        units = _units(network, images, layer, channels, positions)
        window = window_of(images, units, field, side)

        def within(made: Tensor) -> Units:
            choose_units(window.whole(made), *units)  # that the layer has them
            return window.units

        signal, _, values = _backward(network, window.images, rule, pooling, layer, field, within)
    return Attribution(window.pasted(signal), units, values)


def _check_finite(images: Tensor) -> None:
    # A sum is much cheaper than a test of each value. It may also overflow where all values are finite.
    if bool(images.sum().isfinite()):
        return
    if odd := int((~images.isfinite()).sum()):
        raise AttributionError(
            f"images must be finite: {odd:,} of {images.numel():,} values are NaN or infinite; look for the"
            " cause before the network, such as a division by a standard deviation of zero"
        )


def _backward(
    network: nn.Module,
    images: Tensor,
    rule: Rule,
    pooling: Pooling,
    layer: str,
    field: ReceptiveField | None,
    pick: Callable[[Tensor], Units],
) -> Attribution:
    leaf = images.detach().requires_grad_()
    made = None if field is None else _forward_plain_modules(network, leaf, rule, pooling, layer)
    if made is None:
        try:
            made = _forward_ruled(network, leaf, rule, pooling, layer, name_modules=False)
        except AttributionError:
            made = _forward_ruled(network, leaf, rule, pooling, layer, name_modules=True)  # once more, to say where
    units = pick(made.detach())
    values = units.of(made)
    (signal,) = torch.autograd.grad(values.sum(), leaf)
    return Attribution(signal, units, values.detach())


def _forward_plain_modules(network: nn.Module, leaf: Tensor, rule: Rule, pooling: Pooling, layer: str) -> Tensor | None:
    """Return the layer's output, whose way back obeys the rule, of a sequence of modules that `field_of` knows.

    None where one of them needs a rule of its own: then each call has to be intercepted, which takes as long as a
    narrow net's own computation.
    """
    if not all(_is_plain(module, pooling) for module in network.children()):
        return None
    made = leaf
    for _, module in modules_of(network, layer):
        if isinstance(module, nn.ReLU):
            made = ruled_relu(made, rule)
        elif isinstance(module, NormPool):
            made = ruled_norm_pool(module(made.detach()), made, module, pooling)
        else:
            made = module(made)
    return checked_output(made, layer, len(leaf))


def _is_plain(module: nn.Module, pooling: Pooling) -> bool:
    # field_of has refused modules with hooks or other changes.
    switched = isinstance(module, nn.MaxPool2d) and pooling is Pooling.switchless
    return not (switched or isinstance(module, nn.LeakyReLU))


def _forward_ruled(
    network: nn.Module, leaf: Tensor, rule: Rule, pooling: Pooling, layer: str, *, name_modules: bool
) -> Tensor:
    """Return the layer's output, whose way back obeys the rule."""
    with ReluOverride(network, rule, pooling, named=name_modules) as override:
        made = activations(network, leaf, layer)
    if made.grad_fn is None:
        raise AttributionError(f"{layer_text(layer)} does not depend on the image")
    override.check(made)
    return made


def _units(network: nn.Module, images: Tensor, layer: str, channels: Channels, positions: Positions) -> Units:
    if channels is not None and positions is not None:
        return given_units(images, channels, positions)  # nothing to look for
    with torch.no_grad():
        return choose_units(activations(network, images, layer), channels, positions)


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choice(kind: type[_Choice], value: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        legal = ", ".join(kind)
        raise AttributionError(f"{kind.__name__.lower()} must be one of {legal}, got {value!r}") from None
