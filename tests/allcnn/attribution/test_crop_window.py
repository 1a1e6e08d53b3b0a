import pytest
import torch

from allcnn.attribution.crop_window import window_of, window_side
from allcnn.attribution.receptive_field import WHOLE, ReceptiveField
from allcnn.attribution.units import Units

PIXELS = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).float()


def units(*positions):
    return Units(torch.zeros(len(positions), dtype=torch.int64), torch.tensor(positions))


@pytest.mark.parametrize(
    ("field", "side"),
    [
        (ReceptiveField(3, 1, -1), 3),
        (ReceptiveField(7, 2, -3), 8),  # wherever the field begins, a window that begins at a multiple of 2 holds it
        (ReceptiveField(11, 2, -5), 12),
        (ReceptiveField(19, 4, -9), 24),
        (ReceptiveField(27, 4, -9), None),  # 32 of 32 pixels: nothing to gain
        (WHOLE, None),
        (None, None),
    ],
)
def test_a_window_holds_the_field_wherever_it_begins(field, side):
    assert window_side(field, PIXELS) == side


def test_there_is_no_window_where_the_stride_does_not_divide_the_image():
    assert window_side(ReceptiveField(7, 2, -3), PIXELS[:, :, :31]) is None
    assert window_side(ReceptiveField(7, 2, -3), PIXELS[:, :, :, :31]) is None


def test_windows_begin_with_a_stride_and_end_at_the_border():
    field = ReceptiveField(7, 2, -3)
    window = window_of(PIXELS, units([0, 5], [15, 3]), field, 8)
    # Columns from -3 + 5 * 2 = 7 on, so from 6; the last row sees 27 to 33, and the image ends before 32.
    assert window.corners == [(0, 6), (24, 2)]
    assert window.units.positions.tolist() == [[0, 2], [3, 2]]
    assert torch.equal(window.images[0], PIXELS[0, :, 0:8, 6:14])
    assert torch.equal(window.images[1], PIXELS[1, :, 24:32, 2:10])


def test_what_comes_back_is_pasted_where_it_was_cut():
    window = window_of(PIXELS + 1, units([0, 5], [15, 3]), ReceptiveField(7, 2, -3), 8)
    maps = window.pasted(window.images)
    assert maps.shape == PIXELS.shape
    assert torch.equal(maps[0, :, 0:8, 6:14], PIXELS[0, :, 0:8, 6:14] + 1)
    assert torch.equal(maps[1, :, 24:32, 2:10], PIXELS[1, :, 24:32, 2:10] + 1)
    assert int((maps != 0).sum()) == 2 * 3 * 8 * 8
