"""Figure of the patches that activate single units most, with their maps by deconvnet and guided backpropagation.

Paper, figure 3. Shapes: c channels of a layer, k patches of each, s side of an image.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from allcnn.attribution.attribute import attribute
from allcnn.attribution.deprocess import as_pixels, crop, how_shown, map_picture
from allcnn.attribution.figure import FigureContent, FigureRow, Picture, Tile
from allcnn.attribution.figures import (
    UnitChoice,
    caption,
    counting,
    map_space,
    picked,
    pools,
    read,
    split_of,
)
from allcnn.attribution.receptive_field_probe import LayerFields, fields
from allcnn.attribution.relu_override import AttributionError
from allcnn.attribution.rules import Rule
from allcnn.attribution.top_patches import TopPatches, rank, read_ranking, write_ranking
from allcnn.attribution.trained_cell import TrainedCell, convolutions, unit_layer
from allcnn.data.splits import Split
from strive.app import in_use
from strive.errors import ConfigError

_RULES = (Rule.deconvnet, Rule.guided)
_USUAL = "conv6"  # the paper shows its layers 6 and 9
_MOST_TOP = 30
_LEAST_TOP = 10  # of the saved ranking, so that the next figure can use it, too


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchesOptions:
    """Options of the patches figure."""

    layer: str = ""  # "": conv6 where there is one, else the convolution in the middle
    units: UnitChoice = 8  # so many channels, or these
    top: int = 10  # patches of each
    split: str = "test"
    batch_size: int = 250

    def __post_init__(self) -> None:
        if not 1 <= self.top <= _MOST_TOP:
            raise ConfigError(f"top must be 1 to {_MOST_TOP}, which a page has room for, got {self.top}")


class Patch(NamedTuple):
    """One patch of a unit's row."""

    numbers: dict[str, Any]
    pictures: dict[str, Picture]  # by rule, and the image's


def make(cell: TrainedCell, options: PatchesOptions, say: Callable[[str], object]) -> FigureContent:
    """Return a row for each unit: the maps by deconvnet, by guided backpropagation, and the images' own patches.

    The ranking is read from the figures' folder if it is of the same weights and data; otherwise it is made and saved.
    Raises ConfigError for a wrong choice, AttributionError for a net that cannot be attributed.
    """
    split = split_of(cell, options.split)
    layer = options.layer or _usual_layer(cell)
    module = unit_layer(cell.network, layer)
    path = ranking_path(cell, options.split)
    found = _read_ranking(cell, path, module, options)
    if found is not None:
        say(f"ranking read from {path}")
    top = (found or _ranked(cell, split, path, module, options))[module]
    if isinstance(options.units, tuple):
        channels = picked(options.units, layer, len(top.values))
    else:
        channels = _live(top)[: options.units]
    if not channels:
        raise AttributionError(f"layer={layer}: no channel answers to any image of split={options.split}; it is dead")
    seen = fields(cell.network, module, cell.image_size)
    rows, numbers = [], []
    for channel in channels:
        patches = _patches(cell, split, layer, channel, top, seen)
        tiles = [Tile(patch.pictures[kind]) for kind in (*_RULES, "image") for patch in patches]
        rows.append(FigureRow(_label(channel, patches), tuple(tiles)))
        numbers += [patch.numbers for patch in patches]
    shown = top.values.shape[1]
    headings = ("deconvnet", "guided backpropagation", f"top {shown} patches of the {options.split} images")
    return FigureContent(
        name=f"patches-{layer}-{options.split}" if options.split != "test" else f"patches-{layer}",
        title=f"What units of {layer} answer to most",
        caption=_caption(cell, options, layer, seen, len(split)),
        columns=tuple(heading for heading in headings for _ in range(shown)),
        rows=tuple(rows),
        numbers=tuple(numbers),
        facts={
            "layer": layer,
            "split": options.split,
            "images": len(split),
            "field": list(seen.size),
            "ranking": path.name,
        },
        files=() if found is not None else (path,),
    )


def ranking_path(cell: TrainedCell, split: str) -> Path:
    """Return the path of a split's ranking."""
    return cell.folder / f"ranking-{split}.csv"


def _usual_layer(cell: TrainedCell) -> str:
    layers = convolutions(cell.network)
    if not layers:
        raise ConfigError("the net has no convolution; name one of its modules with layer=NAME")
    return _USUAL if _USUAL in layers else layers[len(layers) // 2]


def _live(top: TopPatches) -> list[int]:
    """Return the channels, in order, whose patches all have an activation above zero."""
    return [channel for channel, values in enumerate(top.values.tolist()) if min(values) > 0]


def _read_ranking(cell: TrainedCell, path: Path, module: str, options: PatchesOptions) -> dict[str, TopPatches] | None:
    found = read_ranking(path, _about(cell, options.split) | {"top": options.top})
    return found if found is not None and module in found else None


def _ranked(cell: TrainedCell, split: Split, path: Path, module: str, options: PatchesOptions) -> dict[str, TopPatches]:
    """Return the ranking of all convolutions, which costs no more than that of the last, and save it."""
    network = cell.network
    # Layers that are in the file already are kept: another figure may have been made from them.
    before = read_ranking(path, _about(cell, options.split)) or {}
    modules = list(dict.fromkeys([*(unit_layer(network, each) for each in convolutions(network)), *before, module]))
    top = max([options.top, _LEAST_TOP, *(each.values.shape[1] for each in before.values())])
    with counting(f"ranking {options.split} images", len(split)) as on_batch:
        tops = rank(network, split, modules, top=top, batch_size=options.batch_size, on_batch=on_batch)
    seen = {each: fields(network, each, cell.image_size) for each in modules}
    write_ranking(path, tops, seen, _about(cell, options.split) | {"top": top})
    return {each: TopPatches(*(part[:, : options.top] for part in of_layer)) for each, of_layer in tops.items()}


def _about(cell: TrainedCell, split: str) -> dict[str, Any]:
    """Return all that determines a ranking."""
    config = in_use().science(cell.config)
    chosen = {
        key: value for key, value in config.items() if key.startswith(("model.", "data.", "preprocess.", "augment."))
    }
    own = {"weights_sha256": cell.weights_sha256, "data_fingerprint": cell.splits.fingerprint, "split": split}
    return own | chosen


def _patches(
    cell: TrainedCell, split: Split, layer: str, channel: int, top: TopPatches, seen: LayerFields
) -> list[Patch]:
    """Return the k patches of one channel."""
    images, positions = top.images[channel], top.positions[channel]
    raw, labels = read(split, images)
    module = unit_layer(cell.network, layer)
    maps = {
        rule: attribute(cell.network, raw, rule=rule, layer=module, channels=channel, positions=positions).maps.cpu()
        for rule in _RULES
    }
    pixels = as_pixels(raw, cell.config, cell.splits)
    patches = []
    for place, (image, position, value) in enumerate(
        zip(images.tolist(), positions.tolist(), top.values[channel].tolist(), strict=True)
    ):
        row, column = position or (None, None)
        box = seen.box(row, column)
        pictures = {str(rule): crop(map_picture(maps[rule][place]), box, seen.size) for rule in _RULES}
        numbers = {
            "layer": layer,
            "channel": channel,
            "place": place,
            "image": image,
            "class": cell.splits.class_names[labels[place]],
            "row": row,
            "column": column,
            "value": value,
            **box._asdict(),
            **{f"largest_{rule}": float(maps[rule][place].abs().max()) for rule in _RULES},
        }
        patches.append(Patch(numbers, pictures | {"image": crop(pixels[place], box, seen.size)}))
    return patches


def _label(channel: int, patches: list[Patch]) -> str:
    """Return the channel, and the most frequent class of its patches."""
    (name, count), *_ = Counter(patch.numbers["class"] for patch in patches).most_common(1)
    return f"{channel} ({count} of {len(patches)}: {name})"


def _caption(cell: TrainedCell, options: PatchesOptions, layer: str, seen: LayerFields, images: int) -> str:
    high, wide = seen.size
    module, size = unit_layer(cell.network, layer), cell.image_size
    convolution = isinstance(cell.network.get_submodule(layer), nn.Conv2d)
    taken = "before any ReLU" if convolution else f"as {layer} returns it"
    if module != layer:
        taken = f"behind the batch normalisation {module}"
    switches = "Maps go back through the pooling's switches."
    unconditional = (
        "Without pooling the deconvnet's map of a unit does not depend on the image, but for what its border cuts off."
    )
    if isinstance(options.units, tuple):
        rows = "The channels were named by hand."
    else:
        rows = (
            f"Rows: the first channels whose {options.top} largest activations are all above zero, by number and not"
            " by looks."
        )
    nearly = max(high, wide) > 0.75 * size
    parts = [
        f"Each row is a channel of {layer}, its unit taken {taken}. Right: the {options.top} places where it is most"
        f" active in the {images:,} {options.split} images, one in each image, the largest first. Left and middle: a 1"
        " at that unit alone, sent back to the same pixels by the deconvnet rule and by guided backpropagation.",
        rows,
        switches if pools(cell) else unconditional,
        f"Cut to what the unit sees, {high}x{wide} pixels; what lies beyond the image's border is mid grey.",
        f"That is nearly all of the {size}x{size} image, so that a patch says little about where." if nearly else "",
        map_space(cell) + " Each map is scaled by its own largest absolute value.",
        how_shown(cell.config),
        "On the left: the channel's number, and the class that most of its patches are of.",
    ]
    return caption(cell, parts)
