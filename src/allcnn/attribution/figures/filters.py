"""Figure of single filters of the first three convolutions, without any image (paper, figure 2).

Shapes: c channels shown, s side of an image, h and w of a layer's field.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from allcnn.attribution.activations import activations
from allcnn.attribution.attribute import attribute
from allcnn.attribution.deprocess import map_picture
from allcnn.attribution.figure import FigureContent, FigureRow, Tile
from allcnn.attribution.figures import UnitChoice, caption, map_space, picked, pools
from allcnn.attribution.receptive_field import Box
from allcnn.attribution.receptive_field_probe import fields
from allcnn.attribution.rules import Pooling, Rule
from allcnn.attribution.trained_cell import TrainedCell, convolutions, unit_layer

_LAYERS = 3
_PER_ROW = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class FiltersOptions:
    """Options of the filters figure."""

    units: UnitChoice | None = None  # the first so many filters of each layer, or these; None: all


def make(cell: TrainedCell, options: FiltersOptions, say: Callable[[str], object]) -> FigureContent:
    """Return the deconvolution of single units, in blocks by layer.

    Raises ConfigError for filters that a layer does not have, AttributionError for a net that cannot be deconvolved.
    """
    rows: list[FigureRow] = []
    numbers: list[dict[str, Any]] = []
    layers = convolutions(cell.network)[:_LAYERS]
    for layer in layers:
        block, own = _block(cell, layer, options.units)
        rows += block
        numbers += own
    empty = sum(line["largest"] == 0 for line in numbers)
    return FigureContent(
        name="filters",
        title=f"What single filters answer to: {', '.join(layers)}, without any image",
        caption=_caption(cell, layers, empty),
        columns=("",) * min(_PER_ROW, max(len(row.tiles) for row in rows)),
        rows=tuple(rows),
        numbers=tuple(numbers),
        facts={"layers": layers, "filters_without_signal": empty},
    )


def deconvolved(cell: TrainedCell, layer: str, channels: Sequence[int]) -> tuple[Tensor, tuple[int, int], Box]:
    """Return the maps [c, 3, s, s] of a 1 at the middle of the layer, where that is, and what it sees.

    Deconvnet and switchless pooling: the maps are the same for every image, so none is needed.
    """
    size = cell.image_size
    blank = torch.zeros(1, 3, size, size, device=cell.device)
    with torch.no_grad():
        made = activations(cell.network, blank, layer)
    row, column = made.shape[2] // 2, made.shape[3] // 2
    maps = attribute(
        cell.network,
        blank.expand(len(channels), -1, -1, -1),
        rule=Rule.deconvnet,
        pooling=Pooling.switchless,
        layer=layer,
        channels=torch.tensor(channels),
        positions=torch.tensor([[row, column]]).expand(len(channels), -1),
    ).maps
    return maps, (row, column), fields(cell.network, layer, size).box(row, column)


def _block(cell: TrainedCell, layer: str, units: UnitChoice | None) -> tuple[list[FigureRow], list[dict[str, Any]]]:
    module, count = unit_layer(cell.network, layer), _channels(cell, layer)
    channels = picked(units, layer, count)
    maps, (row, column), box = deconvolved(cell, module, channels)
    cut = maps[:, :, box.top : box.bottom, box.left : box.right].cpu()  # [c, 3, h, w]
    numbers = [
        {
            "layer": layer,
            "channel": channel,
            "row": row,
            "column": column,
            "largest": float(each.abs().max()),  # of the map, which is drawn as 1
            **box._asdict(),
        }
        for channel, each in zip(channels, cut, strict=True)
    ]
    tiles = [Tile(map_picture(each)) for each in cut]
    shown = f"{count} filters" if len(channels) == count else f"{len(channels)} of {count} filters"
    sees = f"{box.bottom - box.top}x{box.right - box.left} pixels"
    headings = [f"{layer}: {shown}, each sees {sees}"]
    return [
        FigureRow(_span(part), tuple(tiles[start : start + _PER_ROW]), heading=headings.pop() if headings else "")
        for start, part in _parts(channels)
    ], numbers


def _channels(cell: TrainedCell, layer: str) -> int:
    return int(cell.network.get_submodule(layer).out_channels)  # type: ignore[arg-type]


def _parts(channels: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(channels), _PER_ROW):
        yield start, channels[start : start + _PER_ROW]


def _span(channels: Sequence[int]) -> str:
    """Return the numbers of a row: first and last where they follow one another."""
    if len(channels) > 1 and list(channels) == list(range(channels[0], channels[0] + len(channels))):
        return f"{channels[0]}\N{EN DASH}{channels[-1]}"
    return ", ".join(map(str, channels))


def _caption(cell: TrainedCell, layers: Sequence[str], empty: int) -> str:
    moved = [layer for layer in layers if unit_layer(cell.network, layer) != layer]
    parts = [
        "Each tile: a 1 at the middle unit of one filter's map, and zeros elsewhere, sent back to the pixels by the"
        " deconvnet rule. No image enters: the same tile comes out for every image. Cut to what the unit sees.",
        "A pooling on the way passes the signal to all of its window alike (no switches)." if pools(cell) else "",
        f"Units are taken behind the batch normalisation of {', '.join(moved)}." if moved else "",
        map_space(cell),
        "Each tile is scaled by its own largest absolute value, so tiles cannot be compared in strength.",
        f"{empty} filters send nothing back and are grey throughout." if empty else "",
        "On the left: the filters' numbers.",
    ]
    return caption(cell, parts)
