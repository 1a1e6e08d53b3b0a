"""Figure of three attribution methods side by side, with and without switches, and their controls.

Paper, figure 4. Shapes: n images, m images of a split, s side of an image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from allcnn.attribution.accuracy import accuracy, predictions
from allcnn.attribution.attribute import Attribution, attribute
from allcnn.attribution.baselines import contrast_map, layers_from_top, reset_layers
from allcnn.attribution.deprocess import how_shown, map_picture
from allcnn.attribution.figure import FigureContent, FigureRow, Tile
from allcnn.attribution.figures import caption, counting, map_space, pools
from allcnn.attribution.figures.examples import Examples, example_images, example_rows
from allcnn.attribution.pool_switches import pooled_twin
from allcnn.attribution.receptive_field import Box
from allcnn.attribution.receptive_field_probe import fields
from allcnn.attribution.relu_override import AttributionError
from allcnn.attribution.rules import Pooling, Rule
from allcnn.attribution.trained_cell import TrainedCell, convolutions
from allcnn.config import Precision
from allcnn.networks.build import GlobalMean

_RANDOM, _WRONG = "control: guided, random weights", "control: guided, wrong class"
_CONTRAST = "control: contrast, no net"
# Headings of narrow tiles.
_NAMES = {Rule.backprop: "backprop", Rule.deconvnet: "deconvnet", Rule.guided: "guided backprop"}
_COLUMNS = ("image", *_NAMES.values(), _RANDOM, _WRONG, _CONTRAST)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodsOptions:
    """Options of the methods figure."""

    images: int | tuple[int, ...] = 4  # so many test images, or these
    seed: int = 0  # of the random weights
    batch_size: int = 250


class Block(NamedTuple):
    """Rows of the figure that share a network and a pooling rule."""

    heading: str
    network: nn.Module
    pooling: Pooling
    test_accuracy: float


def make(cell: TrainedCell, options: MethodsOptions, say: Callable[[str], object]) -> FigureContent:
    """Return a row for each image in each block: with switches, and without.

    Raises ConfigError for images that the test split does not have, AttributionError for a net that cannot be
    attributed.
    """
    layer = class_layer(cell.network)
    predicted = _predicted(cell, cell.network, "test images", options.batch_size)
    blocks = _blocks(cell, predicted, options.batch_size)
    shown = example_images(cell, layer, example_rows(cell, options.images, predicted))
    rows, numbers = [], []
    for block in blocks:
        maps = _maps(cell, block, layer, shown, options.seed)
        rows += list(_tiles(block, maps, shown))
        numbers += list(_numbers(cell, block, layer, maps, shown))
    return FigureContent(
        name="methods",
        title="What in an image the net answers to: three methods and their controls",
        caption=_caption(cell, layer, blocks, options),
        columns=_COLUMNS,
        rows=tuple(rows),
        numbers=tuple(numbers),
        facts={
            "layer": layer,
            "blocks": [{"block": block.heading, "test_accuracy": block.test_accuracy} for block in blocks],
            "test_images": len(predicted),
            "seed": options.seed,
        },
    )


def class_layer(network: nn.Module) -> str:
    """Return the layer of the class scores: the last convolution if only an average follows, else "", the output."""
    modules = list(network.children()) if isinstance(network, nn.Sequential) else []
    return convolutions(network)[-1] if modules and isinstance(modules[-1], GlobalMean) else ""


def _predicted(cell: TrainedCell, network: nn.Module, what: str, batch_size: int) -> Tensor:
    """Return the predicted class of each test image [m], with a progress bar."""
    test = cell.splits.test
    with counting(what, len(test)) as on_batch:
        return predictions(network, test, batch_size=batch_size, on_batch=on_batch)


def _blocks(cell: TrainedCell, predicted: Tensor, batch_size: int) -> list[Block]:
    """Return the blocks: with switches, and without."""
    network, labels = cell.network, cell.splits.test.labels
    own = accuracy(predicted, labels)
    if pools(cell):
        return [
            Block("with pooling and its switches", network, Pooling.switches, own),
            Block("with pooling, but without switches", network, Pooling.switchless, own),
        ]
    plain = Block("without pooling: the net itself", network, Pooling.switches, own)
    try:
        twin = pooled_twin(network)
    except AttributionError:
        return [plain]
    pooled = accuracy(_predicted(cell, twin, "test images, with pooling", batch_size), labels)
    return [Block("with pooling in the strides' place, and its switches", twin, Pooling.switches, pooled), plain]


def _maps(cell: TrainedCell, block: Block, layer: str, shown: Examples, seed: int) -> dict[str, Attribution | Tensor]:
    """Return the maps of each column but the image's own."""

    def of(network: nn.Module, rule: Rule, channels: Tensor) -> Attribution:
        return attribute(
            network,
            shown.images,
            rule=rule,
            layer=layer,
            channels=channels,
            # The same position in every map: another one would change the map by itself.
            positions=shown.positions if shown.positions.shape[1] else None,
            pooling=block.pooling,
        )

    maps: dict[str, Attribution] = {rule: of(block.network, rule, shown.channels) for rule in Rule}
    layers = layers_from_top(block.network, shown.images)
    random = reset_layers(block.network, cell.config.model, layers, seed)
    return {
        **maps,
        _RANDOM: of(random, Rule.guided, shown.channels),
        _WRONG: of(block.network, Rule.guided, shown.wrong),
        _CONTRAST: contrast_map(shown.images),
    }


def _tiles(block: Block, maps: dict[str, Attribution | Tensor], shown: Examples) -> Iterator[FigureRow]:
    headings = [f"{block.heading} (test accuracy {100 * block.test_accuracy:.2f}%)"]
    for place, (row, name) in enumerate(zip(shown.rows.tolist(), shown.names, strict=True)):
        tiles = [Tile(shown.pixels[place])]
        tiles += [_tile(_map(made)[place]) for made in maps.values()]
        yield FigureRow(f"{name}\ntest image {row}", tuple(tiles), heading=headings.pop() if headings else "")


def _tile(signal: Tensor) -> Tile:
    return Tile(map_picture(signal), "" if bool(signal.any()) else "nothing comes back")


def _map(made: Attribution | Tensor) -> Tensor:
    return made.maps if isinstance(made, Attribution) else made


def _numbers(
    cell: TrainedCell, block: Block, layer: str, maps: dict[str, Attribution | Tensor], shown: Examples
) -> Iterator[dict[str, Any]]:
    seen, names = fields(block.network, layer, cell.image_size), cell.splits.class_names
    for column, made in maps.items():
        for place, image in enumerate(shown.rows.tolist()):
            line: dict[str, Any] = {
                "block": block.heading,
                "map": str(column),
                "image": image,
                "class": shown.names[place],
                **dict.fromkeys(["layer", "channel", "channel_class", "row", "column", "value", *Box._fields]),
            }
            if isinstance(made, Attribution):
                channel = int(made.units.channels[place])
                row, col = made.units.positions[place].tolist() or (None, None)
                line |= {"layer": layer, "channel": channel, "channel_class": names[channel]}
                line |= {"row": row, "column": col, "value": float(made.values[place])}
                line |= seen.box(row, col)._asdict()
            yield line | {"largest": float(_map(made)[place].abs().max())}


def _caption(cell: TrainedCell, layer: str, blocks: Sequence[Block], options: MethodsOptions) -> str:
    where = f"of {layer}, the class convolution, before any ReLU" if layer else "of the net's output"
    if isinstance(options.images, tuple):
        images = "The images were named by hand."
    else:
        images = "Images: the first test images of different classes that the net is right about."
    surgery = (
        "Switches need pooling, which this net does not have: as in the paper, after training, 2x2 max-pooling"
        " was put in the place of each stride, and that changes the net: see the accuracies."
        if blocks[0].network is not cell.network
        else ""
    )
    bf16 = cell.test_error is not None and cell.config.precision is Precision.bf16
    parts = [
        f"Each map: a 1 at one unit {where}, sent back to the image by the three rules. The unit is that of the class"
        " which the net predicts, at the place where it is most active for it; the same in every map of an image.",
        images,
        surgery,
        "Accuracies are in float32, the record's test error in bf16." if bf16 else "",
        "Controls: guided backpropagation in the same net with fresh random weights in all layers; for the class that"
        " the net finds least likely; and each pixel minus the image's median,"
        " without any net. Where a map looks like its controls, it shows the image, not what the net has learned.",
        map_space(cell) + " Each is scaled by its own largest absolute value.",
        how_shown(cell.config),
    ]
    return caption(cell, parts)
