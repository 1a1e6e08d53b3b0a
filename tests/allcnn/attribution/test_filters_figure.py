"""The figure of conv1 to conv3, against the transposed convolutions written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_cell import tiny_cell
from torch import Tensor

from allcnn.attribution.figure import FigureContent, Picture
from allcnn.attribution.figures.filters import FiltersOptions, deconvolved, make
from allcnn.attribution.trained_cell import TrainedCell
from allcnn.config import Variant
from strive.errors import ConfigError


@pytest.fixture
def cell(tmp_path: Path) -> TrainedCell:
    return tiny_cell(tmp_path)


def drawn(signal: Tensor) -> Picture:
    """[3, h, w], scaled by its own largest absolute value around mid grey."""
    assert signal.norm() > 0
    picture: Picture = (0.5 + 0.5 * signal / signal.abs().max()).permute(1, 2, 0).double().numpy()
    return picture


def tiles(figure: FigureContent, block: int) -> list[Picture]:
    starts = [number for number, row in enumerate(figure.rows) if row.heading]
    rows = figure.rows[starts[block] : [*starts, len(figure.rows)][block + 1]]
    pictures = [tile.picture for row in rows for tile in row.tiles]
    assert all(picture is not None for picture in pictures)
    return pictures  # type: ignore[return-value]


def weight(cell: TrainedCell, layer: str) -> Tensor:
    tensor = cell.network.get_submodule(layer).weight
    assert isinstance(tensor, Tensor)
    return tensor


def test_what_a_filter_of_conv1_answers_to_is_the_filter(cell: TrainedCell):
    shown = tiles(make(cell, FiltersOptions(), print), 0)
    assert len(shown) == 12
    for tile, own in zip(shown, weight(cell, "conv1"), strict=True):
        np.testing.assert_allclose(tile, drawn(own), atol=1e-6)


def test_conv2_is_sent_back_through_the_rectified_filters_of_conv1(cell: TrainedCell):
    shown = tiles(make(cell, FiltersOptions(), print), 1)
    # A 1 behind conv2 leaves its filter behind conv1; deconvnet rectifies that signal, whatever the image.
    behind_conv1 = weight(cell, "conv2").clamp_min(0)
    expected = F.conv_transpose2d(behind_conv1, weight(cell, "conv1"))
    assert len(shown) == 12
    for tile, own in zip(shown, expected, strict=True):
        assert tile.shape == (5, 5, 3)
        np.testing.assert_allclose(tile, drawn(own), atol=1e-5)


def test_a_pooling_passes_the_signal_to_all_of_its_window(tmp_path: Path):
    cell = tiny_cell(tmp_path, variant=Variant.base)
    maps, _, box = deconvolved(cell, "conv3", [4])
    behind_relu2 = F.conv_transpose2d(weight(cell, "conv3")[4:5], torch.ones(12, 1, 3, 3), stride=2, groups=12)
    behind_relu1 = F.conv_transpose2d(behind_relu2.clamp_min(0), weight(cell, "conv2"))
    expected = F.conv_transpose2d(behind_relu1.clamp_min(0), weight(cell, "conv1"))[0]
    assert expected.shape == (3, 11, 11)
    assert expected.norm() > 0
    np.testing.assert_allclose(maps[0, :, box.top : box.bottom, box.left : box.right], expected, atol=1e-5)


def test_behind_a_batch_normalisation_a_negative_gain_turns_the_picture_round(tmp_path: Path):
    cell = tiny_cell(tmp_path, batch_norm=True)
    plain = tiles(make(cell, FiltersOptions(), print), 0)
    cell.network.get_submodule("norm1").weight.data[3] = -2.0  # type: ignore[union-attr, index]
    figure = make(cell, FiltersOptions(), print)
    turned = tiles(figure, 0)
    np.testing.assert_allclose(turned[3] - 0.5, 0.5 - plain[3], atol=1e-6)
    np.testing.assert_allclose(turned[2], plain[2], atol=1e-6)
    assert np.abs(plain[3] - 0.5).max() == pytest.approx(0.5)
    assert "behind the batch normalisation of conv1, conv2, conv3" in figure.caption


def test_sixteen_filters_stand_in_a_row_whose_label_is_their_numbers(tmp_path: Path):
    figure = make(tiny_cell(tmp_path, width=0.25), FiltersOptions(), print)  # 24, 24, 24 filters
    assert [row.label for row in figure.rows] == ["0–15", "16–23"] * 3  # noqa: RUF001
    assert [len(row.tiles) for row in figure.rows] == [16, 8] * 3
    assert len(figure.columns) == 16
    assert [row.heading for row in figure.rows][::2] == [
        "conv1: 24 filters, each sees 3x3 pixels",
        "conv2: 24 filters, each sees 5x5 pixels",
        "conv3: 24 filters, each sees 7x7 pixels",
    ]


def test_the_filters_that_are_asked_for_are_shown_in_that_order(cell: TrainedCell):
    figure = make(cell, FiltersOptions(units=(3, 9, 5)), print)
    assert [row.label for row in figure.rows] == ["3, 9, 5"] * 3
    assert [line["channel"] for line in figure.numbers] == [3, 9, 5] * 3
    all_of_them = tiles(make(cell, FiltersOptions(), print), 2)
    assert np.array_equal(tiles(figure, 2)[1], all_of_them[9])
    assert [len(row.tiles) for row in make(cell, FiltersOptions(units=5), print).rows] == [5] * 3


def test_the_numbers_say_where_the_unit_is_and_how_strong_its_map(cell: TrainedCell):
    figure = make(cell, FiltersOptions(units=2), print)
    line = figure.numbers[1]
    assert (line["layer"], line["channel"], line["row"], line["column"]) == ("conv1", 1, 16, 16)
    assert (line["top"], line["left"], line["bottom"], line["right"]) == (15, 15, 18, 18)
    assert line["largest"] == pytest.approx(float(weight(cell, "conv1")[1].abs().max()))


def test_a_filter_that_a_layer_does_not_have_is_an_error(cell: TrainedCell):
    with pytest.raises(ConfigError, match=r"units=3,12: conv1 has 12 channels, 0 to 11, so there is no 12"):
        make(cell, FiltersOptions(units=(3, 12)), print)


def test_a_filter_that_sends_nothing_back_is_counted_and_grey(cell: TrainedCell):
    weight(cell, "conv2")[7] = -weight(cell, "conv2")[7].abs()
    figure = make(cell, FiltersOptions(), print)
    assert (tiles(figure, 1)[7] == 0.5).all()
    assert figure.facts["filters_without_signal"] == 1
    assert "1 filters send nothing back" in figure.caption
