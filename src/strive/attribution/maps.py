"""What a unit answers to in an image: a signal from that unit, sent back to the pixels under a rule.

Shapes: n images, c channels of a layer, h and w of the image, h' and w' of the layer's maps.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from strive.attribution.fields import field_of
from strive.attribution.overriding import AttributionError, Overriding
from strive.attribution.rules import Pooling, Rule
from strive.attribution.units import Channels, Positions, Units, chosen, given
from strive.attribution.window import window_of, window_side


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

    network: in eval mode; images: [n, 3, h, w], as it takes them. Neither is changed.
    layer: the name of a module (network.get_submodule) with an output [n, c, h', w'] or [n, c]; "" is the
    network itself. Take one before its ReLU, which would stop the signal of a unit below zero.
    channels: one for all images or one for each; by default that of each image's largest activation.
    positions: [n, 2], row and column; by default those of the channel's largest activation.

    Maps are signed: no ReLU follows the transpose of the first convolution.
    Raises AttributionError for what no rule is known for: nothing is silently the plain gradient.
    """
    rule, pooling = _choice(Rule, rule), _choice(Pooling, pooling)
    _check(network, images, layer)
    with torch.enable_grad():
        field = field_of(network, layer)
        side = window_side(field, images)
        if field is None or side is None:
            maps, units, values = _back(
                network, images, rule, pooling, layer, lambda made: chosen(made, channels, positions)
            )
            return Attribution(maps, units, values)
        units = _units(network, images, layer, channels, positions)
        window = window_of(images, units, field, side)

        def within(made: Tensor) -> Units:
            chosen(window.whole(made), *units)  # that the layer has them
            return window.units

        signal, _, values = _back(network, window.images, rule, pooling, layer, within)
    return Attribution(window.pasted(signal), units, values)


def activations(network: nn.Module, images: Tensor, layer: str = "") -> Tensor:
    """Return the output of a layer, [n, c, h', w'] or [n, c], without computing what comes behind it.

    Of a module that is called several times it is the first call's.
    """
    # A copy: what a network does to its input in place must meet neither the caller's images nor autograd's leaf.
    images = images.clone()
    if not layer:
        made = network(images)
    else:

        def stop(module: nn.Module, args: object, made: object) -> NoReturn:
            raise _Reached(made)

        handle = _module(network, layer).register_forward_hook(stop)
        try:
            network(images)
            raise AttributionError(f"layer={layer} is not called in the forward pass")
        except _Reached as reached:
            made = reached.made
        finally:
            handle.remove()
    if not isinstance(made, Tensor) or made.dim() not in (2, 4) or len(made) != len(images):
        got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise AttributionError(
            f"{_named(layer)} must return [n, c, h, w] or [n, c] for n = {len(images)} images, got {got}"
        )
    return made


class _Reached(Exception):
    """The layer has been computed."""

    def __init__(self, made: object) -> None:
        super().__init__()
        self.made = made


def _back(
    network: nn.Module,
    images: Tensor,
    rule: Rule,
    pooling: Pooling,
    layer: str,
    pick: Callable[[Tensor], Units],
) -> Attribution:
    leaf = images.detach().requires_grad_()
    try:
        made = _ruled(network, leaf, rule, pooling, layer, named=False)
    except AttributionError:
        made = _ruled(network, leaf, rule, pooling, layer, named=True)  # once more, to say where
    units = pick(made.detach())
    values = units.of(made)
    (signal,) = torch.autograd.grad(values.sum(), leaf)
    return Attribution(signal, units, values.detach())


def _ruled(network: nn.Module, leaf: Tensor, rule: Rule, pooling: Pooling, layer: str, *, named: bool) -> Tensor:
    """Return the layer's output, whose way back obeys the rule."""
    with Overriding(network, rule, pooling, named=named) as overriding:
        made = activations(network, leaf, layer)
    if made.grad_fn is None:
        raise AttributionError(f"{_named(layer)} does not depend on the image")
    overriding.check(made)
    return made


def _units(network: nn.Module, images: Tensor, layer: str, channels: Channels, positions: Positions) -> Units:
    if channels is not None and positions is not None:
        return given(images, channels, positions)  # nothing to look for
    with torch.no_grad():
        return chosen(activations(network, images, layer), channels, positions)


def _check(network: nn.Module, images: Tensor, layer: str) -> None:
    if images.dim() != 4 or not images.is_floating_point():
        raise AttributionError(f"images must be [n, channels, h, w] of floats, got {images.dtype} {list(images.shape)}")
    trains = next((path or "it" for path, module in network.named_modules() if module.training), None)
    if trains is not None:
        raise AttributionError(
            f"the network must be in eval mode, and {trains} is in training mode: call network.eval()"
        )
    if layer:
        _module(network, layer)


def _module(network: nn.Module, layer: str) -> nn.Module:
    try:
        return network.get_submodule(layer)
    except AttributeError:
        names = ", ".join(name for name, _ in network.named_modules() if name)
        raise AttributionError(f"layer={layer}: the network has no such module; it has {names}") from None


def _named(layer: str) -> str:
    return f"layer={layer}" if layer else "the network's output"


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choice(kind: type[_Choice], value: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        legal = ", ".join(kind)
        raise AttributionError(f"{kind.__name__.lower()} must be one of {legal}, got {value!r}") from None
