import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from allcnn.data.decoding import decode_square, is_image
from strive.errors import ConfigError


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


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)


def grey(values):
    return np.stack([values.astype(np.uint8)] * 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_16_bit_grey_the_high_byte_counts(kind):
    np.testing.assert_array_equal(decode_square(encoded(Image.fromarray(RAMP), kind), 8, "x"), grey(RAMP >> 8))


def test_of_16_bit_grey_in_the_other_byte_order_the_high_byte_counts():
    content = encoded(Image.fromarray(RAMP.astype(">u2")), "TIFF")
    np.testing.assert_array_equal(decode_square(content, 8, "x"), grey(RAMP >> 8))


def test_12_bit_grey_fills_the_range():
    values = np.arange(64) * 65  # 0 to 4095
    content = b"P5 8 8 4095\n" + values.astype(">u2").tobytes()
    expected = (values * 65535 + 2047) // 4095 >> 8
    np.testing.assert_array_equal(decode_square(content, 8, "x"), grey(expected.reshape(8, 8)))


def test_16_bit_colour_agrees_with_16_bit_grey():
    colour = np.repeat(RAMP.astype(">u2").reshape(8, 8, 1), 3, axis=2)
    raw = b"".join(b"\0" + row.tobytes() for row in colour)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_square(content, 8, "x"), grey(RAMP >> 8))


def test_a_tiff_whose_white_is_zero_is_turned_round():
    content = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(decode_square(content, 8, "x"), grey(255 - (RAMP >> 8)))


@pytest.mark.parametrize(("mode", "kind"), [("F", "TIFF"), ("F", "PPM"), ("I", "TIFF"), ("LAB", "TIFF")])
def test_numbers_without_a_known_black_and_white_are_refused_with_file_and_mode(mode, kind):
    content = encoded(Image.new(mode, (8, 8)), kind)
    with pytest.raises(ConfigError, match=rf"train/cat/3\.tif has pixels of mode {mode} "):
        decode_square(content, 8, "train/cat/3.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode, rng):
    values = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    values[0, :, 3], values[1, :, 3] = 0, 255
    image = Image.fromarray(values).convert(mode)
    rgba = np.asarray(image.convert("RGBA")).astype(int)
    share = rgba[..., 3:] / 255
    expected = np.rint(rgba[..., :3] * share + 255 * (1 - share))
    np.testing.assert_array_equal(decode_square(encoded(image), 8, "x"), expected)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "bytes", "RGB", "L", "I;16"])
def test_a_transparent_colour_lies_on_white(kind):
    index = np.arange(64, dtype=np.uint8).reshape(8, 8)
    if kind in ("RGB", "L"):
        image = Image.fromarray(index).convert(kind)
        options = {"transparency": (7, 7, 7) if kind == "RGB" else 7}
    elif kind == "I;16":
        image, options = Image.fromarray(index.astype(np.uint16) << 8), {"transparency": 7 << 8}
    else:
        image = Image.fromarray(index).copy()
        image.putpalette([value for number in range(256) for value in (number, number, number)])
        options = {"transparency": bytes(0 if number == 7 else 255 for number in range(256)) if kind == "bytes" else 7}
    expected = grey(np.where(index == 7, 255, index))
    content = encoded(image, "GIF" if kind == "GIF" else "PNG", **options)
    np.testing.assert_array_equal(decode_square(content, 8, "x"), expected)


def test_pixels_without_transparency_keep_their_values_beside_an_alpha_channel(rng):
    values = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    values[..., 3] = 255
    np.testing.assert_array_equal(decode_square(encoded(Image.fromarray(values)), 8, "x"), values[..., :3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_exif_orientation_is_applied_once(orientation, kind, rng):
    image = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = np.asarray(image)
    # As the EXIF specification has it: where row 0 and column 0 of what is stored belong.
    if orientation in (5, 6, 7, 8):
        upright = upright.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    square = upright[:, 2:10] if upright.shape[1] == 12 else upright[2:10]
    np.testing.assert_array_equal(decode_square(content, 8, "x"), square)


def test_damaged_exif_says_nothing_of_the_orientation(rng):
    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    content = encoded(image, "PNG", exif=b"MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode_square(content, 8, "x"), np.asarray(image))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF"])
def test_of_several_frames_the_first_counts(kind):
    first, second = (Image.new("L", (8, 8), value) for value in (10, 200))
    content = encoded(first, kind, save_all=True, append_images=[second])
    assert (decode_square(content, 8, "x") == 10).all()


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "it is empty"), (b"<html>", "it begins with b'<html>', as no image does")]
)
def test_a_file_that_is_no_image_is_named_with_what_it_begins_with(content, said):
    with pytest.raises(ConfigError, match=f"a.png is not a readable image: {said}"):
        decode_square(content, 8, "a.png")


def test_a_tiff_of_12_bits_keeps_the_eight_high_ones():
    values = np.arange(64) * 65  # 0 to 4095, two of them in three bytes
    packed = int("".join(f"{value:012b}" for value in values), 2).to_bytes(96, "big")
    # Width, height, bits, no compression, black is zero, place, samples, rows in a strip, bytes, unsigned.
    tags = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 96), (339, 1)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content = b"II*\0" + struct.pack("<I", 8 + 96) + packed + struct.pack("<H", len(tags)) + directory + bytes(4)
    np.testing.assert_array_equal(decode_square(content, 8, "x"), grey(values.reshape(8, 8) >> 4))
