"""Example images of a figure: their rows in the test split, their classes, and the unit to attribute in each.

Shapes: n images, m images of the test split, s side of an image.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from allcnn.attribution.activations import activations
from allcnn.attribution.baselines import wrong_class
from allcnn.attribution.deprocess import as_pixels
from allcnn.attribution.figures import read
from allcnn.attribution.sanity_checks import without_class_relu
from allcnn.attribution.trained_cell import TrainedCell
from allcnn.attribution.units import choose_units
from strive.errors import ConfigError


class Examples(NamedTuple):
    """The images of the rows."""

    rows: Tensor  # int64 [n], of the test split
    images: Tensor  # [n, 3, s, s], as the network sees them
    pixels: Any  # [n, s, s, 3]
    names: list[str]  # their classes
    channels: Tensor  # int64 [n], of the unit to attribute: the class that the net predicts
    positions: Tensor  # int64 [n, 2], of the largest activation; [n, 0] if the layer has no map
    wrong: Tensor  # int64 [n], of a wrong class


def example_rows(cell: TrainedCell, images: int | tuple[int, ...], predicted: Tensor) -> Tensor:
    """Return the rows of the test split to show: those, or the first correct ones, each class once before again.

    predicted: the class [m] that the net gives to each test image. Raises ConfigError for images that the test split
    does not have, or more than the net is right about.
    """
    labels = cell.splits.test.labels
    if isinstance(images, tuple):
        if beyond := [row for row in images if row >= len(labels)]:
            raise ConfigError(
                f"images={','.join(map(str, images))}: the test split has {len(labels):,} images, 0 to"
                f" {len(labels) - 1}, so there is no {', '.join(map(str, beyond))}"
            )
        return torch.tensor(images)
    seen: dict[int, int] = {}
    order = []
    for row in (predicted == labels).nonzero().flatten().tolist():
        label = int(labels[row])
        seen[label] = seen.get(label, -1) + 1
        order.append((seen[label], row))
    if len(order) < images:
        raise ConfigError(
            f"images={images}: the net is right about {len(order)} test images only; take as many, or name images by"
            " their numbers, such as images=0,1"
        )
    return torch.tensor([row for _, row in sorted(order)[:images]])


def example_images(cell: TrainedCell, layer: str, rows: Tensor) -> Examples:
    """Return these rows of the test split; layer: where the net's classes are, "" for its output."""
    images, labels = read(cell.splits.test, rows)
    classes = cell.splits.class_names
    with torch.no_grad():
        channels = cell.network(images).argmax(1)
        # The least likely class is known only before the ReLU, after which several are 0.
        wrong = wrong_class(without_class_relu(cell.network)(images), channels)
        units = choose_units(activations(cell.network, images, layer), channels, None)
    names = [
        classes[label] + (f", taken for {classes[taken]}" if label != taken else "")
        for label, taken in zip(labels.tolist(), channels.tolist(), strict=True)
    ]
    pixels = as_pixels(images, cell.config, cell.splits)
    return Examples(rows, images, pixels, names, channels, units.positions, wrong)
