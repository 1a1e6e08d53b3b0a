import numpy as np
from sklearn.datasets import load_digits

from allcnn.data.digits import read_digits


def test_counts_are_1397_and_400():
    raw = read_digits()
    assert raw.train.images.shape == (1397, 32, 32, 3)
    assert raw.test.images.shape == (400, 32, 32, 3)
    assert raw.train.images.dtype == np.uint8
    assert raw.class_names == tuple("0123456789")


def test_every_digit_is_in_exactly_one_split():
    raw = read_digits()
    counts = np.bincount(np.concatenate([raw.train.labels, raw.test.labels]))
    assert counts.tolist() == np.bincount(load_digits().target).tolist()
    images = np.concatenate([raw.train.images, raw.test.images]).reshape(1797, -1)
    assert len(np.unique(images, axis=0)) == len(np.unique(load_digits().data, axis=0))


def test_images_are_grey_and_keep_their_mean():
    raw = read_digits()
    images = np.concatenate([raw.train.images, raw.test.images]).astype(float)
    assert (images[..., 0] == images[..., 2]).all()
    # Bilinear enlargement by 4 repeats the edge, so the mean moves only a little: 16 is 255.
    assert abs(images.mean() - load_digits().data.mean() * 255 / 16) < 3


def test_the_split_is_always_the_same():
    np.testing.assert_array_equal(read_digits().test.images, read_digits().test.images)
    assert read_digits().test.labels[:10].tolist() == [5, 9, 9, 3, 9, 0, 2, 9, 5, 1]
