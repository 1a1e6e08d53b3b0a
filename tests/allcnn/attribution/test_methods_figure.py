"""The figure of three methods and their controls, against the maps asked for one by one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cell import tiny_cell
from torch import Tensor, nn

from allcnn.attribution import activations, attribute
from allcnn.attribution.baselines import contrast_map, layers_from_top, reset_layers
from allcnn.attribution.deprocess import map_picture
from allcnn.attribution.figure import FigureContent
from allcnn.attribution.figures.methods import MethodsOptions, class_layer, make
from allcnn.attribution.pool_switches import pooled_twin
from allcnn.attribution.trained_cell import TrainedCell
from allcnn.config import Variant
from allcnn.networks.build import GlobalMean
from strive.errors import ConfigError

COLUMNS = (
    "image",
    "backprop",
    "deconvnet",
    "guided backprop",
    "control: guided, random weights",
    "control: guided, wrong class",
    "control: contrast, no net",
)


def images_of(cell: TrainedCell) -> Tensor:
    ((images, _),) = cell.splits.test.batches([torch.arange(len(cell.splits.test))])
    return images


def share_right(network: nn.Module, cell: TrainedCell) -> float:
    with torch.no_grad():
        return float((network(images_of(cell)).argmax(1) == cell.splits.test.labels).double().mean())


def assert_shows(figure: FigureContent, row: int, column: str, signal: Tensor) -> None:
    assert float(signal.norm()) > 0
    tile = figure.rows[row].tiles[COLUMNS.index(column)]
    assert tile.picture is not None
    np.testing.assert_allclose(tile.picture, map_picture(signal), atol=1e-5)


@pytest.mark.parametrize("variant", [Variant.strided, Variant.all_cnn])
def test_a_net_without_pooling_stands_below_its_twin_with_pooling_and_both_say_how_often_they_are_right(
    tmp_path: Path, variant: Variant
):
    cell = tiny_cell(tmp_path, variant=variant, class_relu=False)
    figure = make(cell, MethodsOptions(images=(3, 7)), print)
    own, pooled = share_right(cell.network, cell), share_right(pooled_twin(cell.network), cell)
    assert [row.heading for row in figure.rows] == [
        f"with pooling in the strides' place, and its switches (test accuracy {100 * pooled:.2f}%)",
        "",
        f"without pooling: the net itself (test accuracy {100 * own:.2f}%)",
        "",
    ]
    assert [block["test_accuracy"] for block in figure.facts["blocks"]] == [pooled, own]
    assert "that changes the net: see the accuracies" in figure.caption
    layer, image = class_layer(cell.network), images_of(cell)[7:8]
    channel = int(cell.network(image).argmax())
    twin = pooled_twin(cell.network)
    where = attribute(cell.network, image, rule="guided", layer=layer, channels=channel).units.positions
    for rule, column in zip(("backprop", "deconvnet", "guided"), COLUMNS[1:4], strict=True):
        for row, network in ((1, twin), (3, cell.network)):
            maps = attribute(network, image, rule=rule, layer=layer, channels=channel, positions=where).maps
            assert_shows(figure, row, column, maps[0])


def test_a_net_with_pooling_is_shown_with_and_without_switches(tmp_path: Path):
    cell = tiny_cell(tmp_path, variant=Variant.base)
    figure = make(cell, MethodsOptions(images=(2,)), print)
    assert [row.heading.partition(" (")[0] for row in figure.rows] == [
        "with pooling and its switches",
        "with pooling, but without switches",
    ]
    image, layer = images_of(cell)[2:3], "conv7"
    channel = int(cell.network(image).argmax())
    maps = {}
    for row, pooling in enumerate(("switches", "switchless")):
        maps[pooling] = attribute(
            cell.network, image, rule="guided", layer=layer, channels=channel, pooling=pooling
        ).maps[0]
        assert_shows(figure, row, "guided backprop", maps[pooling])
    assert float((maps["switches"] - maps["switchless"]).norm()) > 0.1 * float(maps["switches"].norm())
    assert "max-pooling was put" not in figure.caption


def test_every_row_has_its_controls(tmp_path: Path):
    cell = tiny_cell(tmp_path, width=0.25)
    figure = make(cell, MethodsOptions(images=(4, 5), seed=3), print)
    assert figure.columns == COLUMNS
    assert {len(row.tiles) for row in figure.rows} == {7}
    layer, images = "conv9", images_of(cell)[4:6]
    classes, logits = cell.network(images).argmax(1), activations(cell.network, images, layer).mean((2, 3))
    random = reset_layers(cell.network, cell.config.model, layers_from_top(cell.network, images), 3)
    where = attribute(cell.network, images, rule="guided", layer=layer, channels=classes).units.positions
    same_place = {"rule": "guided", "layer": layer, "positions": where}
    maps = attribute(random, images, channels=classes, **same_place).maps  # type: ignore[arg-type]
    wrong = attribute(cell.network, images, channels=logits.argmin(1), **same_place).maps  # type: ignore[arg-type]
    for place in range(2):
        assert_shows(figure, 2 + place, COLUMNS[4], maps[place])
        assert_shows(figure, 2 + place, COLUMNS[5], wrong[place])
        assert_shows(figure, 2 + place, COLUMNS[6], contrast_map(images)[place])


def test_another_seed_draws_other_random_weights_and_changes_nothing_else(tmp_path: Path):
    cell = tiny_cell(tmp_path)
    first, other = (make(cell, MethodsOptions(images=(4,), seed=seed), print) for seed in (0, 1))
    for number, column in enumerate(COLUMNS):
        same = [
            np.array_equal(a.tiles[number].picture, b.tiles[number].picture)  # type: ignore[arg-type]
            for a, b in zip(first.rows, other.rows, strict=True)
        ]
        assert same == [column != COLUMNS[4]] * 2


def test_the_unit_is_that_of_the_predicted_class_where_it_is_most_active(tmp_path: Path):
    cell = tiny_cell(tmp_path)
    figure = make(cell, MethodsOptions(images=(6,)), print)
    made = activations(cell.network, images_of(cell)[6:7], "conv9")[0]
    lines = [line for line in figure.numbers if line["block"].startswith("without")]
    assert [line["map"] for line in lines] == ["backprop", "deconvnet", "guided", *COLUMNS[4:]]
    for line in lines[:3]:
        assert line["channel"] == int(cell.network(images_of(cell)[6:7]).argmax())
        assert line["value"] == pytest.approx(float(made[line["channel"]].max()), rel=1e-5)
        assert float(made[line["channel"], line["row"], line["column"]]) == pytest.approx(line["value"], rel=1e-5)
        assert line["largest"] > 0
    assert lines[4]["channel"] == int(made.mean((1, 2)).argmin())
    assert (lines[5]["channel"], lines[5]["image"]) == (None, 6)


def test_by_default_the_first_correct_images_are_shown_each_class_once_before_again(tmp_path: Path):
    cell = tiny_cell(tmp_path, images=100)
    # A net that knows the classes 2 and 5, and takes everything for 2 or 5.
    labels = cell.splits.test.labels
    predicted = torch.where(labels == 5, 5, 2)
    network = KnowsBy(images_of(cell), predicted)
    known = replace(cell, network=network)
    right = (predicted == labels).nonzero().flatten().tolist()
    twos, fives = ([row for row in right if labels[row] == own] for own in (2, 5))
    assert min(len(twos), len(fives)) >= 2
    shown = [line["image"] for line in make(known, MethodsOptions(images=4), print).numbers if line["map"] == "guided"]
    assert shown == [*sorted([twos[0], fives[0]]), *sorted([twos[1], fives[1]])]
    with pytest.raises(ConfigError, match=rf"images=99: the net is right about {len(right)} test images only"):
        make(known, MethodsOptions(images=99), print)


class KnowsBy(nn.Module):
    """Says of each known image what it was told, by a way that can be attributed."""

    def __init__(self, images: Tensor, classes: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(images[0].numel(), 10)
        # Of the least norm that gives these scores.
        scores = torch.eye(10)[classes]
        solved = torch.linalg.lstsq(images.flatten(1).double(), scores.double(), driver="gelsd").solution
        self.layer.weight.data, self.layer.bias.data = solved.T.float(), torch.zeros(10)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.layer(images.flatten(1))
        return made


def test_an_image_that_the_split_does_not_have_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"images=3,40: the test split has 40 images, 0 to 39, so there is no 40"):
        make(tiny_cell(tmp_path), MethodsOptions(images=(3, 40)), print)


def test_the_class_convolution_is_the_last_one_before_an_average_and_else_it_is_the_output():
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU()]
    assert class_layer(nn.Sequential(*body, GlobalMean())) == "2"
    assert class_layer(nn.Sequential(*body, nn.Flatten(), nn.Linear(2, 2))) == ""


def test_images_are_labelled_with_their_class_and_number(tmp_path: Path):
    cell = tiny_cell(tmp_path)
    figure = make(cell, MethodsOptions(images=(6, 1)), print)
    labels, taken = cell.splits.test.labels, cell.network(images_of(cell)).argmax(1)
    assert labels[6] != taken[6]
    assert [row.label for row in figure.rows[::2]] == [f"{labels[6]}, taken for {taken[6]}\ntest image 6"] * 2
    assert figure.rows[1].label.splitlines()[-1] == "test image 1"
    assert Counter(line["image"] for line in figure.numbers) == {6: 12, 1: 12}


def test_a_map_of_zeros_is_marked(tmp_path: Path):
    cell = tiny_cell(tmp_path)
    # Nothing that enters the class convolution raises any class: the signal is rectified to nothing.
    weight = cell.network.get_submodule("conv9").weight
    assert isinstance(weight, Tensor)
    weight.copy_(-weight.abs())
    figure = make(cell, MethodsOptions(images=(4,)), print)
    captions = [tile.caption for tile in figure.rows[1].tiles]
    guided = COLUMNS.index("guided backprop")
    assert captions[guided] == "nothing comes back"
    assert captions[COLUMNS.index("image")] == captions[-1] == ""
    assert [line["largest"] for line in figure.numbers if line["map"] == "guided"] == [0, 0]
