import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from allcnn.attribution import AttributionError
from allcnn.attribution import deprocess as pixels_module
from allcnn.attribution.deprocess import as_pixels, crop, how_shown, map_picture
from allcnn.attribution.receptive_field import Box
from allcnn.config import Augment, AugmentConfig, Config, DataConfig, Preprocess, PreprocessConfig, Source
from allcnn.data.augment import eval_view
from allcnn.data.lazy_split import IMAGENET_MEAN, IMAGENET_STD
from allcnn.data.sources import read_raw
from allcnn.data.splits import Splits, held_out, load_splits

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold 40 coloured images of 8x8 in two classes; the first of train and of test are one grey."""
    root, rng = tmp_path_factory.mktemp("pixels") / "images", np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                values = rng.integers(0, 256, (8, 8, 3)) * np.array([1.0, 0.5, 0.2]) + np.array([0, 60, 10])
                if number == 0 and label == "cat":
                    values[:] = 77
                Image.fromarray(values.astype(np.uint8)).save(root / split / label / f"{number:02}.png")
    return root


def folder(root: Path, kind: Preprocess, val_images: int = 0, **choices: Any) -> Config:
    data = DataConfig(source=Source.image_folder, name="mine", root=str(root), image_size=8, val_images=val_images)
    return Config(data=data, preprocess=PreprocessConfig(kind=kind), **choices)


def preprocessed(splits: Splits, part: str) -> Tensor:
    split = getattr(splits, part)
    ((images, _),) = split.batches([torch.arange(len(split))])
    return images


def published(config: Config, part: str) -> np.ndarray:
    """Return the images [n, h, w, 3] from 0 to 1 as they were published."""
    raw = read_raw(config.data)
    train, val = held_out(config.data, len(raw.train.labels))
    parts = {"train": raw.train.images[train], "val": raw.train.images[val], "test": raw.test.images}
    return parts[part] / 255


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_standardised_images_come_back_as_they_were(root: Path, part: str) -> None:
    config = folder(root, Preprocess.standardize, val_images=6)
    splits = load_splits(config, CPU)
    found = as_pixels(preprocessed(splits, part), config, splits)
    assert found.dtype == np.float64
    # float32 has 24 bits: far less than half of a grey level.
    np.testing.assert_allclose(found, published(config, part), atol=1e-6)
    assert (np.round(found * 255) == np.round(published(config, part) * 255)).all()


def test_digits_come_back_as_they_were() -> None:
    config = Config(
        data=DataConfig(source=Source.digits, name="digits"), preprocess=PreprocessConfig(kind=Preprocess.standardize)
    )
    splits = load_splits(config, CPU)
    np.testing.assert_allclose(
        as_pixels(preprocessed(splits, "test"), config, splits), published(config, "test"), atol=1e-6
    )


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_whitened_images_come_back_scaled_by_their_own_minimum_and_maximum(root: Path, part: str) -> None:
    config = folder(root, Preprocess.gcn_zca, val_images=6)
    splits = load_splits(config, CPU)
    raw = published(config, part)
    low, high = raw.min(axis=(1, 2, 3), keepdims=True), raw.max(axis=(1, 2, 3), keepdims=True)
    alive = (high > low).ravel()
    found = as_pixels(preprocessed(splits, part), config, splits)
    # Contrast normalisation is a shift and a factor for each image, which its own scaling undoes.
    np.testing.assert_allclose(found[alive], ((raw - low) / np.where(high > low, high - low, 1))[alive], atol=1e-4)
    assert (found[~alive] == 0.5).all()
    assert alive.sum() >= len(raw) - 1


def test_the_grey_image_is_among_those_tested(root: Path) -> None:
    raw = published(folder(root, Preprocess.gcn_zca), "test")
    assert sum(image.min() == image.max() for image in raw) == 1


def test_imagenet_has_its_constants() -> None:
    config = Config(data=DataConfig(source=Source.imagenet, name="imagenet"))
    splits = Splits(None, None, None, 1, ("a",), "", None)  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)) / 255
    images = torch.from_numpy((pixels - IMAGENET_MEAN) / IMAGENET_STD).permute(0, 3, 1, 2).float()
    np.testing.assert_allclose(as_pixels(images, config, splits), pixels, atol=1e-6)


def test_what_lies_beyond_black_and_white_is_cut(root: Path) -> None:
    config = folder(root, Preprocess.standardize)
    splits = load_splits(config, CPU)
    found = as_pixels(torch.tensor([-100.0, 0.0, 100.0]).view(1, 3, 1, 1), config, splits)
    mean = published(config, "train").mean(axis=(0, 1, 2))[1]
    np.testing.assert_allclose(found[0, 0, 0], [0, mean, 1])


def test_the_matrix_is_factored_once_for_each_data_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder(root, Preprocess.gcn_zca)
    factored = []
    real = torch.linalg.cholesky
    monkeypatch.setattr(torch.linalg, "cholesky", lambda matrix: factored.append(1) or real(matrix))
    splits = load_splits(config, CPU)
    for _ in range(3):
        as_pixels(preprocessed(splits, "test"), config, splits)
    assert len(factored) == 1
    other = load_splits(config, CPU)
    as_pixels(preprocessed(other, "test"), config, other)
    assert len(factored) == 2
    kept = len(pixels_module._undone)
    del splits, other
    gc.collect()
    assert len(pixels_module._undone) == kept - 2


def test_whitened_images_of_another_size_are_refused(root: Path) -> None:
    config = folder(root, Preprocess.gcn_zca)
    splits = load_splits(config, CPU)
    with pytest.raises(AttributionError, match=r"\[3, 6, 8\] were not whitened as they are: .* of 192 values"):
        as_pixels(preprocessed(splits, "test")[:, :, 1:7], config, splits)


def test_whitened_images_on_a_canvas_are_shown_as_the_network_sees_them(root: Path) -> None:
    augment = AugmentConfig(kind=Augment.extreme, canvas_px=30)
    config = folder(root, Preprocess.gcn_zca, augment=augment)
    splits = load_splits(config, CPU)
    seen = eval_view(preprocessed(splits, "test"), augment, 8)
    found = as_pixels(seen, config, splits)
    assert found.shape == (8, 30, 30, 3)
    own = seen[1].permute(1, 2, 0).double().numpy()
    np.testing.assert_allclose(found[1], (own - own.min()) / (own.max() - own.min()), atol=1e-12)
    assert "as the network sees them" in how_shown(config)


def test_the_caption_says_what_was_undone(root: Path) -> None:
    assert "whitening undone" in how_shown(folder(root, Preprocess.gcn_zca))
    assert how_shown(folder(root, Preprocess.standardize)) == "Images in their own colours."
    imagenet = Config(data=DataConfig(source=Source.imagenet, name="imagenet"))
    assert how_shown(imagenet) == "Images in their own colours."


def numbered(high: int = 6, wide: int = 8) -> np.ndarray:
    """Return a picture whose every value is another one, none of them mid grey."""
    return (np.arange(high * wide * 3.0) / (high * wide * 3) * 0.4).reshape(high, wide, 3)


def test_a_crop_within_the_picture_is_that_part_of_it() -> None:
    assert (crop(numbered(), Box(1, 2, 4, 7)) == numbered()[1:4, 2:7]).all()
    assert (crop(numbered(), Box(1, 2, 4, 7), (3, 5)) == numbered()[1:4, 2:7]).all()


def test_a_crop_beyond_the_border_is_mid_grey_and_not_shifted() -> None:
    around = np.full((26, 28, 3), 0.5)
    around[10:16, 10:18] = numbered()
    for box in (Box(-3, 2, 4, 9), Box(2, -4, 9, 3), Box(-2, -2, 8, 10), Box(-5, 9, -1, 12), Box(6, 0, 9, 3)):
        assert (crop(numbered(), box) == around[box.top + 10 : box.bottom + 10, box.left + 10 : box.right + 10]).all()


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        (Box(0, 2, 2, 5), Box(-1, 2, 2, 5)),
        (Box(4, 2, 6, 5), Box(4, 2, 7, 5)),
        (Box(1, 0, 4, 1), Box(1, -2, 4, 1)),
        (Box(1, 6, 4, 8), Box(1, 6, 4, 9)),
        (Box(0, 7, 1, 8), Box(-2, 7, 1, 10)),
    ],
)
def test_a_box_that_the_border_cut_gets_its_grey_on_that_side(cut: Box, whole: Box) -> None:
    made = crop(numbered(), cut, (3, 3))
    assert made.shape == (3, 3, 3)
    assert (made == crop(numbered(), whole)).all()


def test_a_box_that_both_borders_cut_lies_in_the_middle() -> None:
    made = crop(numbered(), Box(0, 0, 6, 8), (9, 10))
    assert (made[1:7, 1:9] == numbered()).all()
    assert (made[[0, 7, 8]] == 0.5).all()
    assert (made[:, [0, 9]] == 0.5).all()


def test_a_crop_is_a_copy() -> None:
    picture = numbered()
    crop(picture, Box(0, 0, 2, 2))[:] = 1
    assert (picture == numbered()).all()


def test_a_map_has_zero_in_mid_grey_and_its_largest_number_at_the_end() -> None:
    signal = torch.tensor([[[0.0, -4.0]], [[1.0, 2.0]], [[0.0, 0.0]]])
    made = map_picture(signal)
    assert made.dtype == np.float64
    assert made.tolist() == [[[0.5, 0.625, 0.5], [0.0, 0.75, 0.5]]]


def test_a_map_is_drawn_to_the_scale_that_was_given_and_cut() -> None:
    signal = torch.tensor([[[1.0, -8.0, 3.0]]]).expand(3, 1, 3)
    assert map_picture(signal, scale=2)[0, :, 0].tolist() == [0.75, 0.0, 1.0]


def test_a_map_of_zeros_is_mid_grey() -> None:
    assert (map_picture(torch.zeros(3, 2, 2)) == 0.5).all()
    assert (map_picture(torch.zeros(3, 2, 2), scale=0) == 0.5).all()


@pytest.mark.parametrize(("value", "scale"), [(np.nan, None), (np.inf, None), (1.0, np.nan), (1.0, -1.0)])
def test_a_map_that_is_not_finite_is_refused(value: float, scale: float | None) -> None:
    with pytest.raises(AttributionError, match="must be finite"):
        map_picture(torch.full((3, 2, 2), value), scale=scale)
