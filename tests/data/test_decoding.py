import numpy as np
import pytest
from PIL import Image

from strive.config import ConfigError
from strive.data.decoding import decode_square, is_image


def test_an_image_of_the_right_size_keeps_its_pixels(rng, png):
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_square(png(pixels), 16, "x"), pixels)


def test_a_file_reads_like_its_bytes(rng, png, tmp_path):
    content = png(rng.integers(0, 256, (9, 20, 3), dtype=np.uint8))
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(decode_square(tmp_path / "a.png", 8, "x"), decode_square(content, 8, "x"))


@pytest.mark.parametrize("shape", [(16, 40, 3), (40, 16, 3)])
def test_the_centre_square_is_cut_out(rng, png, shape):
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    centre = pixels[:, 12:28] if shape[1] == 40 else pixels[12:28]
    np.testing.assert_array_equal(decode_square(png(pixels), 16, "x"), centre)


def test_another_size_is_resized_bilinearly(rng, png):
    pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode_square(png(pixels), 32, "x"), expected)


def test_a_grey_image_gets_three_equal_channels(rng, png):
    pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(decode_square(png(pixels), 8, "x"), np.stack([pixels] * 3, axis=2))


def test_an_unreadable_image_is_named(rng, png):
    whole = png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for content in (b"", b"not an image", whole[: len(whole) // 2]):
        with pytest.raises(ConfigError, match=r"train/cat/3\.png is not a readable image"):
            decode_square(content, 32, "train/cat/3.png")


def test_only_image_names_are_images():
    assert [name for name in ("a.JPEG", "b.png", "._c.png", ".DS_Store", "d.txt", "e") if is_image(name)] == [
        "a.JPEG",
        "b.png",
    ]
