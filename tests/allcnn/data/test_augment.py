import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import needs_gpu

from allcnn import randomness
from allcnn.config import Augment, AugmentConfig, Config
from allcnn.data.augment import augment, eval_view, place
from allcnn.data.output_size import output_size

COUNT = 64


def flip_shift(**knobs):
    return AugmentConfig(kind=Augment.flip_shift, **knobs)


def extreme(**knobs):
    return AugmentConfig(kind=Augment.extreme, **knobs)


@pytest.fixture
def images():
    return random_images(32)


def streams(seed, step):
    return randomness.streams(seed, step, torch.device("cpu"))


def random_images(size, count=COUNT):
    numbers = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return numbers.contiguous(memory_format=torch.channels_last)


def drawn(purpose, seed, step, shift_px):
    stream = randomness.key(seed, purpose, step)
    return (randomness.integers(stream, COUNT, 2 * shift_px + 1) - shift_px).tolist()


def drawn_flips(seed, step):
    return (randomness.uniform(randomness.key(seed, "flip", step), COUNT) < 0.5).tolist()


@pytest.mark.parametrize(("source", "size"), [(32, 32), (36, 32), (33, 32)])
@pytest.mark.parametrize("shift_px", [0, 2, 5])
def test_each_image_is_flipped_padded_and_cropped(source, size, shift_px):
    images = random_images(source)
    result = augment(images, flip_shift(shift_px=shift_px), size=size, streams=streams(3, 7))
    down, right = (drawn(purpose, 3, 7, shift_px) for purpose in ("shift_y", "shift_x"))
    for image, out, flip, dy, dx in zip(images.numpy(), result.numpy(), drawn_flips(3, 7), down, right, strict=True):
        turned = image[:, :, ::-1] if flip else image
        padded = np.pad(turned, ((0, 0), (5, 5), (5, 5)))
        top, left = 5 + (source - size) // 2 + dy, 5 + (source - size) // 2 + dx
        np.testing.assert_array_equal(out, padded[:, top : top + size, left : left + size])


def test_what_is_shifted_in_is_zero():
    result = augment(torch.ones(COUNT, 3, 32, 32), flip_shift(), size=32, streams=streams(0, 0))
    down, right = (torch.tensor(drawn(purpose, 0, 0, 5)) for purpose in ("shift_y", "shift_x"))
    assert torch.equal(result[:, 0].sum(dim=(1, 2)).long(), (32 - down.abs()) * (32 - right.abs()))
    assert set(result.unique().tolist()) == {0.0, 1.0}


def test_offsets_are_uniform_over_all_eleven():
    offsets = []
    for step in range(50):
        # One bright pixel in the middle says where the image went.
        images = torch.zeros(COUNT, 3, 33, 33)
        images[:, :, 16, 16] = 1
        result = augment(images, flip_shift(), size=33, streams=streams(0, step))[:, 0].flatten(1).argmax(dim=1)
        offsets.append(torch.stack([result // 33 - 16, result % 33 - 16], dim=1))
    pairs = torch.cat(offsets)
    for axis in (0, 1):
        values, counts = pairs[:, axis].unique(return_counts=True)
        assert values.tolist() == list(range(-5, 6))
        # 3,200 draws over 11 values: chi-squared with 10 degrees of freedom, 99.9% point 29.6.
        expected = len(pairs) / 11
        assert (((counts - expected) ** 2) / expected).sum() < 29.6
    assert abs(np.corrcoef(pairs.T.numpy())[0, 1]) < 0.053  # 3 standard errors


def test_half_of_the_images_are_flipped(images):
    config = flip_shift(shift_px=0)
    flipped = [
        (augment(images, config, size=32, streams=streams(0, step)) == images.flip(3))
        .flatten(1)
        .all(dim=1)
        .sum()
        .item()
        for step in range(25)
    ]
    assert abs(sum(flipped) - 800) < 60  # 3 standard errors of 1,600 coin throws


@pytest.mark.parametrize(("probability", "flips"), [(0.0, False), (1.0, True)])
def test_the_flip_probability_can_be_none_or_all(images, probability, flips):
    result = augment(images, flip_shift(flip_probability=probability, shift_px=0), size=32, streams=streams(0, 0))
    assert torch.equal(result, images.flip(3) if flips else images)


def test_flips_do_not_change_when_shifting_is_off():
    # An image that is -1 on its left half and 1 on its right shows its flip at any shift.
    images = torch.ones(COUNT, 3, 32, 32)
    images[..., :16] = -1
    still, moved = (augment(images, flip_shift(shift_px=px), size=32, streams=streams(0, 5)) for px in (0, 5))
    assert torch.equal(still[:, 0, 16, 8] > 0, moved[:, 0, 16, 8] > 0)
    assert torch.equal(still[:, 0, 16, 8] > 0, torch.tensor(drawn_flips(0, 5)))


def test_none_returns_the_images_untouched(images):
    assert augment(images, AugmentConfig(), size=32, streams=streams(0, 0)) is images


def test_none_returns_the_centre_of_larger_images():
    images = random_images(256, count=2)
    expected = images[:, :, 16:240, 16:240]
    assert torch.equal(augment(images, AugmentConfig(), size=224, streams=streams(0, 0)), expected)
    assert torch.equal(eval_view(images, flip_shift(), 224), expected)


def test_scoring_sees_the_images_untouched(images):
    for config in (AugmentConfig(), flip_shift()):
        assert torch.equal(eval_view(images, config, 32), images)


@pytest.mark.parametrize("config", [flip_shift(), extreme()])
def test_seed_and_step_decide_what_is_drawn(images, config):
    first = augment(images, config, size=32, streams=streams(0, 0))
    assert torch.equal(augment(images, config, size=32, streams=streams(0, 0)), first)
    assert not torch.equal(augment(images, config, size=32, streams=streams(1, 0)), first)
    assert not torch.equal(augment(images, config, size=32, streams=streams(0, 1)), first)


@pytest.mark.parametrize("config", [AugmentConfig(), flip_shift(), extreme()])
@pytest.mark.parametrize("contiguous", [True, False])
def test_images_stay_channels_last_and_the_layout_changes_nothing(images, config, contiguous):
    result = augment(images, config, size=32, streams=streams(0, 0))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.dtype == torch.float32
    if contiguous:
        torch.testing.assert_close(augment(images.contiguous(), config, size=32, streams=streams(0, 0)), result)


def test_the_global_random_state_is_left_alone(images):
    before = torch.get_rng_state()
    for config in (flip_shift(), extreme()):
        augment(images, config, size=32, streams=streams(0, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_net_sees_the_canvas_only_for_extreme():
    assert output_size(Config()) == 32
    assert output_size(Config(augment=flip_shift())) == 32
    assert output_size(Config(augment=extreme())) == 126


def still(count, **changes):
    zeros = torch.zeros(count)
    return {
        "scale": torch.ones(count),
        "radians": zeros,
        "right_px": zeros,
        "down_px": zeros,
        "flips": zeros > 0,
    } | changes


def test_an_image_that_fills_the_canvas_is_enlarged_bilinearly():
    images = random_images(32, count=4)
    placed = place(images, 96, **still(4, scale=torch.full((4,), 3.0)))
    expected = F.interpolate(images, scale_factor=3, mode="bilinear", align_corners=False)
    torch.testing.assert_close(placed, expected, atol=1e-4, rtol=0)


def test_an_image_is_placed_where_it_is_asked_for():
    images = random_images(32, count=1)
    placed = place(images, 126, **still(1, right_px=torch.tensor([10.0]), down_px=torch.tensor([-20.0])))
    expected = torch.zeros(1, 3, 126, 126)
    expected[:, :, 27:59, 57:89] = images  # (126 - 32) / 2 = 47, and 10 to the right, 20 up
    torch.testing.assert_close(placed, expected, atol=1e-4, rtol=0)


def test_a_quarter_turn_is_anticlockwise():
    images = random_images(32, count=1)
    placed = place(images, 32, **still(1, radians=torch.tensor([torch.pi / 2])))
    # The outermost pixels' centres lie inside by half a pixel, so no rounding can lose them.
    torch.testing.assert_close(placed, images.rot90(1, dims=(2, 3)), atol=1e-4, rtol=0)


def test_a_flip_comes_before_the_turn():
    images = random_images(32, count=1)
    placed = place(images, 32, **still(1, radians=torch.tensor([torch.pi / 2]), flips=torch.tensor([True])))
    torch.testing.assert_close(placed, images.flip(3).rot90(1, dims=(2, 3)), atol=1e-4, rtol=0)


def test_scoring_on_the_canvas_is_centred_upright_and_zero_outside():
    images = random_images(32, count=3)
    view = eval_view(images, extreme(), 32)
    expected = torch.zeros(3, 3, 126, 126)
    expected[:, :, 15:111, 15:111] = F.interpolate(images, scale_factor=3, mode="bilinear", align_corners=False)
    torch.testing.assert_close(view, expected, atol=1e-4, rtol=0)


def test_an_extreme_image_covers_its_area_and_the_rest_is_zero():
    images = torch.ones(COUNT, 3, 32, 32)
    result = augment(images, extreme(scale_max=2.0), size=32, streams=streams(0, 0))
    assert result.shape == (COUNT, 3, 126, 126)
    covered = (result[:, 0] != 0).sum(dim=(1, 2))
    # Enlarged twice: 64 x 64 pixels, of which only rotated corners may leave the canvas.
    assert (covered > 0.93 * 64 * 64).all()
    assert (covered < 1.03 * 64 * 64).all()


def test_upright_extreme_images_stay_wholly_inside():
    images = torch.ones(COUNT, 3, 32, 32)
    config = extreme(scale_min=1.5, scale_max=3.9, rotate_degrees=0.0)
    result = augment(images, config, size=32, streams=streams(0, 0))
    boxes = [(image[0] != 0).nonzero() for image in result]
    sides = torch.tensor([(box.amax(dim=0) - box.amin(dim=0) + 1).tolist() for box in boxes])
    share = randomness.uniform(randomness.key(0, "scale", 0), COUNT)
    expected = 32 * (1.5 + 2.4 * share)
    assert ((sides - expected[:, None]).abs() <= 1).all()


def test_extreme_contrast_and_colour_stay_in_their_ranges():
    images = torch.ones(COUNT, 3, 32, 32)
    config = extreme(rotate_degrees=0.0, contrast=0.25, colour_shift=0.5)
    middle = augment(images, config, size=32, streams=streams(0, 0))[:, :, 63, 63]
    middle = middle[(middle != 0).all(dim=1)]
    assert len(middle) > COUNT / 2
    assert middle.min() > 0.25
    assert middle.max() < 1.75
    assert middle.std(dim=1).mean() > 0.1  # the channels move apart


def test_without_contrast_and_colour_values_stay():
    result = augment(
        torch.ones(COUNT, 3, 32, 32), extreme(contrast=0.0, colour_shift=0.0), size=32, streams=streams(0, 0)
    )
    torch.testing.assert_close(result, (result != 0).float())


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_draws_and_moves_the_same(images):
    for config, tolerance in ((flip_shift(), 0.0), (extreme(), 1e-3)):
        on_cpu = augment(images, config, size=32, streams=streams(1, 2))
        on_gpu = augment(images.cuda(), config, size=32, streams=randomness.streams(1, 2, torch.device("cuda"))).cpu()
        assert ((on_cpu - on_gpu).abs() > tolerance).float().mean() < 1e-3
