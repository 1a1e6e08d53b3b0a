"""Receptive fields of any network, found by probing: a NaN in a pixel reaches exactly the units that see it.

Where `receptive_field.field_of` knows the layers, the same is computed without a probe.

Shapes: s side of the image, h' and w' of a layer's maps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.backends import cudnn, mkldnn, nnpack

from allcnn.attribution.activations import activations, check_input, layer_text, modules_of
from allcnn.attribution.receptive_field import Box, ReceptiveField, field_after, field_of
from allcnn.attribution.relu_override import AttributionError
from allcnn.networks.spec import IMAGE_CHANNELS

Interval = tuple[int, int]  # of pixels, [begin, end)

_PIXELS_PER_BATCH = 64 * 64 * 64  # of an image whose rows are poisoned one by one


class LayerFields(NamedTuple):
    """The pixels that each unit of a layer sees in images of one size, cut at the images' border.

    Of a layer without a map there is one interval along each axis: all that it sees.
    """

    rows: tuple[Interval, ...]  # for each row of the layer's map
    columns: tuple[Interval, ...]

    def box(self, row: int | None = None, column: int | None = None) -> Box:
        """Return what the unit there sees; without a row or column what all units along it see together."""
        (top, bottom), (left, right) = _part(self.rows, row), _part(self.columns, column)
        return Box(top, left, bottom, right)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the largest box: of any unit that the border does not cut."""
        high, wide = (max(end - begin for begin, end in axis) for axis in self)
        return high, wide


def _part(axis: Sequence[Interval], place: int | None) -> Interval:
    if place is not None:
        return axis[place]
    return min(begin for begin, _ in axis), max(end for _, end in axis)


def fields(network: nn.Module, layer: str, image_size: int) -> LayerFields:
    """Return what the layer's units see: computed where every layer is known, else probed.

    network: in eval mode, maps [n, 3, s, s] with s = image_size; layer: a module's name, "" is the output.
    Raises AttributionError where that cannot be determined.
    """
    if field_of(network, layer) is None or any(_dilated(each) for each in network.children()):
        return probed_fields(network, layer, image_size)
    axis: list[Interval] = [(pixel, pixel + 1) for pixel in range(image_size)]
    maps = _noise(network, image_size)
    check_input(network, maps, layer)
    with torch.no_grad():
        for _, module in modules_of(network, layer):
            maps = module(maps)
            own = field_after(ReceptiveField(), module)
            assert own is not None
            # Not `ReceptiveField.box`: what a pooling that rounds down leaves out, no layer after it can see.
            axis = _axis_after(axis, own, maps.shape[2] if maps.dim() == 4 else 1)
    return _complete(layer, axis, axis)


def _axis_after(axis: Sequence[Interval], own: ReceptiveField, count: int) -> list[Interval]:
    """Return what `count` units see whose own field is of units that see `axis`."""
    seen = []
    for unit in range(count):
        begin = own.start + unit * own.jump
        taps = [each for each in axis[max(0, begin) : max(0, begin + own.size)] if each[0] < each[1]]
        seen.append(_part(taps, None) if taps else (0, 0))
    return seen


def _dilated(module: nn.Module) -> bool:
    return getattr(module, "dilation", 1) not in (1, (1, 1))


def probed_fields(
    network: nn.Module, layer: str, image_size: int, *, device: torch.device | str | None = None
) -> LayerFields:
    """Return what the layer's units see, found by 2 s images of which one row or column each is NaN.

    network: in eval mode, any module that maps [n, 3, s, s] with s = image_size; device: where it is.
    A row of units has one interval: from the first to the last row of pixels that any of them sees.

    Raises AttributionError where a unit sees no pixel, or where the graph does not pass NaN on, as p-norm
    pooling does not, so that the probe would say that units see less than they do.
    """
    with torch.no_grad(), _exact_convolutions():
        probe = _noise(network, image_size, device)
        check_input(network, probe, layer)
        rows = _touched(network, layer, probe, axis=2)
        columns = _touched(network, layer, probe, axis=3)
    return _complete(layer, _intervals(rows), _intervals(columns))


def _touched(network: nn.Module, layer: str, image: Tensor, axis: int) -> Tensor:
    """Return as bool [s, units], for the rows (axis 2) or columns (3) of pixels, which units each of them enters."""
    if not bool(activations(network, torch.full_like(image, torch.nan), layer).isnan().all()):
        raise _swallowed(layer, "a unit")
    other = image.flip(2, 3)
    touched = []
    for pixels in torch.arange(image.shape[2]).split(max(1, _PIXELS_PER_BATCH // image[0, 0].numel())):
        plain = image.expand(len(pixels), -1, -1, -1)
        here = torch.zeros(len(pixels), image.shape[2], dtype=torch.bool)
        here[torch.arange(len(pixels)), pixels] = True
        here = (here[:, None, :, None] if axis == 2 else here[:, None, None, :]).to(image.device)
        poisoned = activations(network, plain.masked_fill(here, torch.nan), layer).isnan()
        # What NaN does not enter must not change either when these pixels do.
        moved = activations(network, plain.where(~here, other), layer) != activations(network, plain.clone(), layer)
        if bool((moved & ~poisoned).any()):
            raise _swallowed(layer, f"a unit that depends on pixel {int(pixels[0])} or one of the next")
        along = poisoned.any(1) if poisoned.dim() == 2 else poisoned.any(1).any(4 - axis)  # [pixels, units]
        touched.append(along.view(len(pixels), -1))
    return torch.cat(touched)


def _intervals(touched: Tensor) -> list[Interval]:
    """Return for each unit of bool [s, units] from where to where pixels enter it, (0, 0) where none does."""
    found = []
    for unit in touched.T:
        pixels = unit.nonzero().flatten().tolist()
        found.append((pixels[0], pixels[-1] + 1) if pixels else (0, 0))
    return found


def _complete(layer: str, rows: Sequence[Interval], columns: Sequence[Interval]) -> LayerFields:
    for name, axis in (("row", rows), ("column", columns)):
        blind = [place for place, (begin, end) in enumerate(axis) if begin >= end]
        if blind:
            raise AttributionError(
                f"{layer_text(layer)}: the units in {name} {blind[0]} see no pixel of the image; its padding is larger"
                " than its kernel, or the image too small: choose another layer, or larger images"
            )
    return LayerFields(tuple(rows), tuple(columns))


def _swallowed(layer: str, what: str) -> AttributionError:
    return AttributionError(
        f"{layer_text(layer)}: {what} does not become NaN where its pixels are NaN, so what it sees cannot be"
        " determined; something on the way drops NaN (torch.where, nan_to_num, p-norm pooling), or it sees no pixel at"
        " all: choose a layer before it, or build the network as an nn.Sequential of convolutions, ReLUs and poolings"
    )


def _noise(network: nn.Module, image_size: int, device: torch.device | str | None = None) -> Tensor:
    """Return one image [1, 3, s, s] of the type that the network takes, where the network is."""
    own = next((each for each in network.parameters() if each.is_floating_point()), torch.zeros(()))
    values = torch.randn(1, IMAGE_CHANNELS, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return values.to(own.device if device is None else device, own.dtype)


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Keep away from kernels that transform tiles, such as Winograd's, where NaN enters all of a tile."""
    # Not their flags(), which sets more than that, and warns.
    before = mkldnn.enabled, cudnn.enabled
    mkldnn.enabled = cudnn.enabled = False  # type: ignore[assignment]
    try:
        with nnpack.flags(enabled=False):
            yield
    finally:
        mkldnn.enabled, cudnn.enabled = before
