"""The paper's figures 2, 3 and 4, and their controls: from a TrainedCell to a FigureContent."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from allcnn.attribution.trained_cell import TrainedCell
from allcnn.config import Family, Preprocess
from allcnn.data.splits import Split
from allcnn.networks.pooling import NormPool
from strive.errors import ConfigError
from strive.progress_bar import progress_bar

# The units to show: the first so many, or these.
UnitChoice = int | tuple[int, ...]

_POOLS = (NormPool, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


def source(cell: TrainedCell) -> str:
    """Return the sentence of a caption that names the net and its test error."""
    config, error = cell.config, cell.test_error
    width = "" if config.model.width == 1 else f" at width {config.model.width:g}"
    trained = f", test error {100 * error:.2f}%" if error is not None else f" (weights {cell.name})"
    return f"Net: {config.model.name}{width} on {config.data.name}{trained}."


def adaptation(cell: TrainedCell) -> str:
    """Return the sentence on the difference from the paper's own figures; "" for its ImageNet net."""
    if cell.config.model.family is Family.all_cnn_b_imagenet:
        return ""
    return (
        "The paper's figures show a net of 12 convolutions trained on ImageNet; here they are adapted to"
        f" {cell.config.model.name} on {cell.config.data.name}."
    )


def caption(cell: TrainedCell, sentences: Sequence[str]) -> str:
    """Return a figure's caption: the net and its data, then the figure's own sentences, "" for one that does not apply.

    What it is about comes first: a page shows as many whole sentences as two lines hold.
    """
    return " ".join(filter(None, (source(cell), *sentences, adaptation(cell))))


def map_space(cell: TrainedCell) -> str:
    """Return the sentence that explains a map's colours."""
    whitened = cell.config.preprocess.kind is Preprocess.gcn_zca
    space = "whitened images" if whitened else "standardised images"
    return f"Maps are signed and in the colours of the {space} that the net sees: mid grey is zero."


def pools(cell: TrainedCell) -> bool:
    """Return whether the net has max- or p-norm pooling, and so switches."""
    return any(isinstance(module, _POOLS) for module in cell.network.modules())


def split_of(cell: TrainedCell, name: str) -> Split:
    """Return the split of that name; raise ConfigError where nothing was held out for it."""
    split: Split | None = getattr(cell.splits, name)
    if split is None:
        raise ConfigError(f"split={name}: nothing was held out for it (data.val_images=0); take train or test")
    return split


def read(split: Split, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images [n, 3, h, w] of these rows of a split, on its device, and their labels [n]."""
    ((images, labels),) = split.batches([rows])
    return images, labels


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on stderr if that is a terminal; yield the function that sets how much is done."""
    bar = progress_bar()
    task = bar.add_task(what, total=total)
    with bar:
        yield lambda done: bar.update(task, completed=done)


def picked(units: UnitChoice | None, layer: str, count: int) -> list[int]:
    """Return the channels that are asked for of a layer with so many: the first so many, or these, or all.

    Raises ConfigError for channels that the layer does not have.
    """
    if units is None or isinstance(units, int):
        return list(range(min(count, count if units is None else units)))
    if beyond := [unit for unit in units if unit >= count]:
        raise ConfigError(
            f"units={','.join(map(str, units))}: {layer} has {count} channels, 0 to {count - 1},"
            f" so there is no {', '.join(map(str, beyond))}"
        )
    return list(units)
