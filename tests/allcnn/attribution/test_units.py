import pytest
import torch

from allcnn.attribution import AttributionError
from allcnn.attribution.units import choose_units, first_largest

MAPS = torch.tensor(
    [
        [[[0.0, 1.0], [2.0, 3.0]], [[9.0, 4.0], [5.0, 9.0]], [[9.0, 0.0], [0.0, 0.0]]],
        [[[7.0, 1.0], [2.0, 3.0]], [[6.0, 4.0], [5.0, 6.0]], [[0.0, 0.0], [7.0, 0.0]]],
    ]
)  # [2, 3, 2, 2]


def test_by_default_it_is_the_largest_activation_and_of_equal_ones_the_lower_channel_then_row_then_column():
    units = choose_units(MAPS, None, None)
    assert units.channels.tolist() == [1, 0]
    assert units.positions.tolist() == [[0, 0], [0, 0]]


def test_a_channel_for_all_images_is_looked_for_in_each():
    units = choose_units(MAPS, 2, None)
    assert units.channels.tolist() == [2, 2]
    assert units.positions.tolist() == [[0, 0], [1, 0]]


def test_each_image_may_have_a_channel_and_a_position_of_its_own():
    units = choose_units(MAPS, [1, 2], [[1, 1], [1, 0]])
    assert units.of(MAPS).tolist() == [9, 7]
    assert choose_units(MAPS, torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 1]])).of(MAPS).tolist() == [1, 3]


def test_a_channel_may_be_left_open_at_a_given_position():
    units = choose_units(MAPS, None, [[1, 1], [0, 1]])
    assert units.channels.tolist() == [1, 0]  # of the largest activations, wherever these are
    assert units.of(MAPS).tolist() == [9, 1]


def test_a_layer_without_maps_has_units_without_positions():
    scores = torch.tensor([[1.0, 5.0, 5.0], [3.0, 2.0, 1.0]])
    units = choose_units(scores, None, None)
    assert units.channels.tolist() == [1, 0]
    assert units.positions.shape == (2, 0)
    assert units.of(scores).tolist() == [5, 3]


def test_of_equal_values_the_first_is_the_largest():
    values = torch.zeros(3, 5000)
    values[1, [17, 4000]] = 1
    values[2, -1] = 1
    assert first_largest(values).tolist() == [0, 17, 4999]


@pytest.mark.parametrize(
    ("channels", "positions", "message"),
    [
        (3, None, r"channels must be in \[0, 3\), got \[3, 3\]"),
        (-1, None, r"channels must be in \[0, 3\), got \[-1, -1\]"),
        ([1, 2, 0], None, r"channels must be of shape \[2\] for these images and this layer, got \[3\]"),
        (1.0, None, "channels must be integers, got torch.float32"),
        (True, None, "channels must be integers, got torch.bool"),
        (1, [[0, 0]], r"positions must be of shape \[2, 2\]"),
        (1, [[0, 0], [0, 2]], r"positions must be in \[0, \[2, 2\]\), got \[\[0, 0\], \[0, 2\]\]"),
    ],
)
def test_a_unit_that_the_layer_lacks_is_refused_with_what_is_legal(channels, positions, message):
    with pytest.raises(AttributionError, match=message):
        choose_units(MAPS, channels, positions)
