"""The figure of top patches, against a search over all activations."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cell import tiny_cell
from torch import Tensor

from allcnn.attribution import activations, attribute
from allcnn.attribution.deprocess import as_pixels, map_picture
from allcnn.attribution.figures import patches
from allcnn.attribution.figures.patches import PatchesOptions, make, ranking_path
from allcnn.attribution.trained_cell import TrainedCell
from allcnn.config import Variant
from strive.errors import ConfigError


@pytest.fixture
def cell(tmp_path: Path) -> TrainedCell:
    return tiny_cell(tmp_path)


def images_of(cell: TrainedCell) -> Tensor:
    ((images, _),) = cell.splits.test.batches([torch.arange(len(cell.splits.test))])
    return images


def test_the_patches_are_those_of_the_largest_activations_one_in_each_image(cell: TrainedCell):
    figure = make(cell, PatchesOptions(units=(2, 0), top=3), print)
    made = activations(cell.network, images_of(cell), "conv6").double()
    peaks = made.amax((2, 3))
    for channel in (2, 0):
        lines = [line for line in figure.numbers if line["channel"] == channel]
        assert [line["image"] for line in lines] == peaks[:, channel].argsort(descending=True)[:3].tolist()
        for line in lines:
            assert line["value"] == pytest.approx(float(peaks[line["image"], channel]), rel=1e-5)
            own = made[line["image"], channel, line["row"], line["column"]]
            assert float(own) == pytest.approx(line["value"], rel=1e-5)
            assert line["class"] == str(int(cell.splits.test.labels[line["image"]]))
    assert [row.label.split()[0] for row in figure.rows] == ["2", "0"]


def test_a_patch_is_cut_where_its_unit_looks_and_padded_beyond_the_border(cell: TrainedCell):
    figure = make(cell, PatchesOptions(units=6, top=5), print)
    pixels = as_pixels(images_of(cell), cell.config, cell.splits)
    padded = np.pad(pixels, ((0, 0), (19, 19), (19, 19), (0, 0)), constant_values=0.5)
    beyond = 0
    for row, lines in zip(figure.rows, np.array(figure.numbers).reshape(-1, 5), strict=True):
        for tile, line in zip(row.tiles[10:], lines, strict=True):
            # All-CNN-C's conv6: 19 pixels, 4 from unit to unit, the first begins at -9.
            top, left = 19 - 9 + 4 * line["row"], 19 - 9 + 4 * line["column"]
            assert tile.picture is not None
            assert np.array_equal(tile.picture, padded[line["image"], top : top + 19, left : left + 19])
            beyond += line["bottom"] - line["top"] < 19
    assert beyond > 0


def test_the_maps_are_those_of_the_same_unit_by_both_rules(cell: TrainedCell):
    figure = make(cell, PatchesOptions(layer="conv4", units=(5,), top=2), print)
    assert figure.columns[::2] == ("deconvnet", "guided backpropagation", "top 2 patches of the test images")
    for number, rule in enumerate(("deconvnet", "guided")):
        for place in range(2):
            line, tile = figure.numbers[place], figure.rows[0].tiles[2 * number + place]
            image = images_of(cell)[line["image"]][None]
            where = [[line["row"], line["column"]]]
            whole = attribute(cell.network, image, rule=rule, layer="conv4", channels=5, positions=where).maps[0]
            box = whole[:, line["top"] : line["bottom"], line["left"] : line["right"]]
            assert float(box.abs().max()) == pytest.approx(line[f"largest_{rule}"])
            assert float(whole.norm()) > 0
            assert tile.picture is not None
            assert tile.picture.shape == (11, 11, 3)
            if box.shape[1:] == (11, 11):
                np.testing.assert_allclose(tile.picture, map_picture(box), atol=1e-6)


def test_by_default_the_first_channels_that_are_alive_are_shown(cell: TrainedCell):
    cell.network.get_submodule("conv6").bias.data[1] = -1e3  # type: ignore[union-attr, index]
    figure = make(cell, PatchesOptions(units=4), print)
    peaks = activations(cell.network, images_of(cell), "conv6").amax((2, 3))
    alive = [channel for channel in range(24) if peaks[:, channel].sort().values[-10] > 0]
    assert 1 not in alive
    assert sorted({line["channel"] for line in figure.numbers}) == alive[:4]
    assert [row.label.split()[0] for row in make(cell, PatchesOptions(units=(1,)), print).rows] == ["1"]


def test_a_saved_ranking_is_read_again_and_the_figure_is_the_same(cell: TrainedCell, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    first = make(cell, PatchesOptions(units=3, top=4), said.append)
    path = cell.folder / "ranking-test.csv"
    assert (first.files, said) == ((path,), [])
    monkeypatch.setattr(patches, "rank", None)
    again = make(cell, PatchesOptions(units=3, top=4), said.append)
    assert (again.files, said) == ((), [f"ranking read from {path}"])
    assert again.numbers == first.numbers
    for row, other in zip(first.rows, again.rows, strict=True):
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(row.tiles, other.tiles, strict=True))  # type: ignore[arg-type]
    # It holds all convolutions, and ten patches of each.
    assert len(make(cell, PatchesOptions(layer="conv2", units=(1,), top=10), said.append).numbers) == 10


@pytest.mark.parametrize("what", ["weights", "images", "net", "top"])
def test_the_ranking_of_something_else_is_not_taken(cell: TrainedCell, what: str):
    make(cell, PatchesOptions(units=(0,), top=2), print)
    options = PatchesOptions(units=(0,), top=2)
    match what:
        case "weights":
            cell = replace(cell, weights_sha256="1" * 64)
        case "images":
            cell = replace(cell, splits=replace(cell.splits, fingerprint="other"))
        case "net":
            model = replace(cell.config.model, class_relu=False)
            cell = replace(cell, config=replace(cell.config, model=model))
        case "top":
            options = replace(options, top=11)
    assert make(cell, options, print).files == (cell.folder / "ranking-test.csv",)


def test_behind_a_batch_normalisation_the_unit_is_its_output(tmp_path: Path):
    cell = tiny_cell(tmp_path, batch_norm=True)
    cell.network.get_submodule("norm6").weight.data[0] = -1.0  # type: ignore[union-attr, index]
    figure = make(cell, PatchesOptions(units=(0,), top=1), print)
    made = activations(cell.network, images_of(cell), "norm6")[:, 0]
    assert figure.numbers[0]["value"] == pytest.approx(float(made.max()), rel=1e-5)
    assert "behind the batch normalisation norm6" in figure.caption


def test_wrong_choices_are_told_with_what_is_legal(cell: TrainedCell):
    with pytest.raises(ConfigError, match=r"layer=conv66: .* is conv6 .*meant.*\n  it has conv1, conv2, .*conv9"):
        make(cell, PatchesOptions(layer="conv66"), print)
    with pytest.raises(ConfigError, match=r"units=24: conv6 has 24 channels, 0 to 23"):
        make(cell, PatchesOptions(units=(24,)), print)
    with pytest.raises(ConfigError, match=r"split=val: nothing was held out .* take train or test"):
        make(cell, PatchesOptions(split="val"), print)


def test_a_field_that_is_nearly_the_image_is_said_so(cell: TrainedCell):
    assert (
        "nearly all of the 32x32 image" in make(cell, PatchesOptions(layer="conv8", units=(0,), top=1), print).caption
    )
    assert "nearly all" not in make(cell, PatchesOptions(units=(0,), top=1), print).caption


def test_that_deconvnet_ignores_the_image_of_a_net_without_pooling_is_said(tmp_path: Path):
    told = "does not depend on the image"
    few = PatchesOptions(units=(0,), top=1)
    assert told in make(tiny_cell(tmp_path / "plain"), few, print).caption
    assert told not in make(tiny_cell(tmp_path / "pooled", variant=Variant.base), few, print).caption


def test_a_ranking_of_another_layer_leaves_those_before_in_the_file(tmp_path: Path):
    cell = tiny_cell(tmp_path)
    for layer, top in (("relu6", 12), ("dropout1", 2), ("conv1", 2)):
        make(cell, PatchesOptions(layer=layer, units=2, top=top), print)
    with ranking_path(cell, "test").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("# ")))
    places: dict[str, int] = {}
    for row in rows:
        places[row["layer"]] = max(places.get(row["layer"], 0), int(row["place"]) + 1)
    assert {"relu6", "dropout1", "conv1", "conv9"} <= set(places)
    assert set(places.values()) == {12}


def test_more_patches_than_a_page_has_room_for_are_refused():
    with pytest.raises(ConfigError, match="top must be 1 to 30, which a page has room for, got 31"):
        PatchesOptions(top=31)


@pytest.mark.parametrize(("layer", "taken"), [("conv6", "before any ReLU"), ("relu6", "as relu6 returns it")])
def test_the_caption_says_where_the_unit_is_taken(tmp_path: Path, layer: str, taken: str):
    assert f"its unit taken {taken}." in make(tiny_cell(tmp_path), PatchesOptions(layer=layer, units=1), print).caption
