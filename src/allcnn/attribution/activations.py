"""Activations of a layer: any module of a network, or the network itself, that returns a map or a vector per image.

Shapes: n images, c channels of a layer, h' and w' of its maps.
"""

from collections.abc import Iterator
from typing import NoReturn

from torch import Tensor, nn

from allcnn.attribution.relu_override import AttributionError


def activations(network: nn.Module, images: Tensor, layer: str = "") -> Tensor:
    """Return the output of a layer, [n, c, h', w'] or [n, c], without computing the layers after it.

    If a module is called several times, the first call's output is returned.
    Raises AttributionError for a layer that the network does not have or never calls.
    """
    # A copy: an in-place operation on the input must not change the caller's images or autograd's leaf.
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
    return checked_output(made, layer, len(images))


def checked_output(made: object, layer: str, count: int) -> Tensor:
    """Return a layer's output for so many images; raise AttributionError if it is no tensor of units."""
    if not isinstance(made, Tensor) or made.dim() not in (2, 4) or len(made) != count:
        got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise AttributionError(
            f"{layer_text(layer)} must return [n, c, h, w] or [n, c] for n = {count} images, got {got}"
        )
    return made


def check_input(network: nn.Module, images: Tensor, layer: str) -> None:
    """Raise AttributionError for a wrong batch of images, a network in training mode, or a layer it does not have."""
    if images.dim() != 4 or not images.is_floating_point():
        raise AttributionError(f"images must be [n, channels, h, w] of floats, got {images.dtype} {list(images.shape)}")
    if not len(images):
        raise AttributionError("there are no images: got an empty batch")
    trains = next((path or "it" for path, module in network.named_modules() if module.training), None)
    if trains is not None:
        raise AttributionError(
            f"the network must be in eval mode, and {trains} is in training mode: call network.eval()"
        )
    if layer:
        _module(network, layer)


def modules_of(network: nn.Module, layer: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of a sequence in order, up to and with a layer; all of them for its output, "".

    Unlike named_children it includes modules that occur twice.
    """
    last = network._modules.get(layer)
    for name, module in network._modules.items():
        if module is not None:
            yield name, module
            if module is last:
                return


def _module(network: nn.Module, layer: str) -> nn.Module:
    try:
        return network.get_submodule(layer)
    except AttributeError:
        names = ", ".join(name for name, _ in network.named_modules() if name)
        raise AttributionError(f"layer={layer}: the network has no such module; it has {names}") from None


def layer_text(layer: str) -> str:
    """Return a layer as a user wrote it."""
    return f"layer={layer}" if layer else "the network's output"


class _Reached(Exception):
    """The layer has been computed."""

    def __init__(self, made: object) -> None:
        super().__init__()
        self.made = made
