import numpy as np
import pytest

from allcnn.config import Preprocess, PreprocessConfig
from allcnn.data import preprocess
from allcnn.data.preprocess import fit_zca, global_contrast_normalise, preprocessed, whiten

PAPER = PreprocessConfig()


@pytest.fixture
def pixels(rng):
    """Give [n, 8, 8, 3] with neighbours that resemble each other, as in photographs."""

    def make(count):
        coarse = rng.integers(0, 256, (count, 4, 4, 3)).repeat(2, axis=1).repeat(2, axis=2)
        return np.clip(coarse + rng.integers(-30, 30, (count, 8, 8, 3)), 0, 255).astype(np.uint8)

    return make


def flat_by_hand(images):
    """All of red, then green, then blue, row by row."""
    return np.array([[image[y, x, c] for c in range(3) for y in range(8) for x in range(8)] for image in images], float)


def gcn_by_hand(flat, scale):
    return np.array([(x - x.mean()) / (np.sqrt(((x - x.mean()) ** 2).sum()) / scale) for x in flat])


def zca_by_hand(train, bias):
    mean = sum(train) / len(train)
    covariance = sum(np.outer(x - mean, x - mean) for x in train) / len(train) + bias * np.eye(len(mean))
    values, vectors = np.linalg.eigh(covariance)
    return mean, vectors @ np.diag(values**-0.5) @ vectors.T


def test_contrast_normalised_images_have_mean_zero_and_the_asked_norm(pixels):
    flat = global_contrast_normalise(flat_by_hand(pixels(20)), 55.0)
    np.testing.assert_allclose(flat.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 55.0)


def test_contrast_normalisation_follows_the_formula(pixels):
    flat = flat_by_hand(pixels(20))
    np.testing.assert_allclose(global_contrast_normalise(flat, 7.0), gcn_by_hand(flat, 7.0), rtol=1e-12)


def test_an_image_of_one_grey_becomes_zero():
    assert (global_contrast_normalise(np.full((1, 192), 37.0), 55.0) == 0).all()


@pytest.mark.parametrize(("share", "norm"), [(1.01, 55.0), (0.99, 0.99 * 55e-8)])
def test_an_image_of_less_contrast_than_pylearn2_divides_by_is_only_centred(share, norm):
    # min_divisor=1e-8 of global_contrast_normalize: a norm over scale below it counts as 1.
    deviation = share * 1e-8 * 55 / np.sqrt(192)
    flat = np.tile([deviation, -deviation], (1, 96))
    np.testing.assert_allclose(np.linalg.norm(global_contrast_normalise(flat, 55.0)), norm, rtol=1e-9)


def test_whitening_follows_the_formula(pixels):
    train, test = pixels(300), pixels(40)
    arrays = preprocessed({"train": train, "test": test}, PAPER, "x")
    normal = {name: gcn_by_hand(flat_by_hand(part), 55.0) for name, part in (("train", train), ("test", test))}
    mean, matrix = zca_by_hand(normal["train"], 0.1)
    np.testing.assert_allclose(arrays["zca_mean"], mean, atol=1e-10)
    np.testing.assert_allclose(arrays["zca_matrix"], matrix, atol=1e-9)
    for name, flat in normal.items():
        expected = ((flat - mean) @ matrix).reshape(-1, 3, 8, 8).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(arrays[name], expected, atol=1e-5)
        assert arrays[name].dtype == np.float32


def test_the_whitened_covariance_is_c_over_c_plus_bias(pixels):
    # With P = (C + bias I)^(-1/2), the covariance of XP is C (C + bias I)^(-1); without the bias it
    # would be the identity.
    train, bias = pixels(2000), 1e-3
    whitened = flat_by_hand(whiten(train, fit_zca(train, gcn_scale=55.0, bias=bias), gcn_scale=55.0))
    covariance = np.cov(gcn_by_hand(flat_by_hand(train), 55.0).T, bias=True)
    expected = covariance @ np.linalg.inv(covariance + bias * np.eye(192))
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), expected, atol=1e-4)


def test_chunks_do_not_change_the_result(pixels, monkeypatch):
    train = pixels(50)
    whole = fit_zca(train, gcn_scale=55.0, bias=0.1)
    images = whiten(train, whole, gcn_scale=55.0)
    monkeypatch.setattr(preprocess, "_CHUNK", 7)
    np.testing.assert_allclose(fit_zca(train, gcn_scale=55.0, bias=0.1).matrix, whole.matrix, atol=1e-10)
    np.testing.assert_allclose(whiten(train, whole, gcn_scale=55.0), images, atol=1e-6)


def test_the_inverse_gives_back_the_normalised_image(pixels):
    train = pixels(300)
    fitted = fit_zca(train, gcn_scale=55.0, bias=0.1)
    back = flat_by_hand(whiten(train, fitted, gcn_scale=55.0)) @ np.linalg.inv(fitted.matrix) + fitted.mean
    np.testing.assert_allclose(back, gcn_by_hand(flat_by_hand(train), 55.0), atol=1e-4)


@pytest.mark.parametrize("kind", list(Preprocess))
def test_only_train_is_fitted(pixels, kind):
    train, config = pixels(100), PreprocessConfig(kind=kind)
    one = preprocessed({"train": train, "val": pixels(10), "test": pixels(10)}, config, "one")
    other = preprocessed({"train": train, "val": pixels(30), "test": pixels(30)}, config, "other")
    np.testing.assert_array_equal(one["train"], other["train"])
    changed = preprocessed({"train": train[:99], "test": pixels(10)}, config, "changed")
    assert (changed["train"] != one["train"][:99]).any()


def test_standardised_channels_have_mean_zero_and_deviation_one(pixels):
    train, test = pixels(100), pixels(10)
    arrays = preprocessed({"train": train, "test": test}, PreprocessConfig(kind=Preprocess.standardize), "x")
    mean, std = train.mean(axis=(0, 1, 2)), train.std(axis=(0, 1, 2))
    np.testing.assert_allclose(arrays["channel_mean"], mean)
    np.testing.assert_allclose(arrays["channel_std"], std)
    np.testing.assert_allclose(arrays["test"], (test - mean) / std, atol=1e-6)


def test_a_channel_that_never_varies_is_only_centred(pixels):
    train = pixels(10)
    train[..., 1] = 9
    arrays = preprocessed({"train": train}, PreprocessConfig(kind=Preprocess.standardize), "x")
    assert (arrays["train"][..., 1] == 0).all()


@pytest.mark.parametrize(
    ("config", "identity"),
    [
        (PreprocessConfig(gcn_scale=1.0), "x"),
        (PreprocessConfig(zca_bias=1.0), "x"),
        (PreprocessConfig(kind=Preprocess.standardize), "x"),
        (PAPER, "other images"),
    ],
)
def test_settings_and_images_are_cached_apart(pixels, cache, config, identity):
    parts = {"train": pixels(20)}
    for setting, text in ((PAPER, "x"), (config, identity), (PAPER, "x")):
        preprocessed(parts, setting, text)
    assert len(list(cache.glob("*/*/train.npy"))) == 2


def test_the_second_time_comes_from_the_cache(pixels, monkeypatch):
    first = preprocessed({"train": pixels(20)}, PAPER, "x")
    monkeypatch.setattr(preprocess, "fit_zca", None)
    np.testing.assert_array_equal(preprocessed({"train": pixels(20)}, PAPER, "x")["train"], first["train"])
