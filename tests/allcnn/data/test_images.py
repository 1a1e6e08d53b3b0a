import dataclasses

import numpy as np
import pytest

from allcnn.data.images import RawData, RawSplit, fingerprint


@pytest.fixture
def raw(rng):
    def split(count):
        return RawSplit(rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), np.arange(count) % 2)

    return RawData(split(4), split(3), ("a", "b"))


def test_a_fingerprint_is_16_hex_digits_and_the_same_for_equal_data(raw):
    copy = RawData(RawSplit(raw.train.images.copy(), raw.train.labels.copy()), raw.test, raw.class_names)
    assert fingerprint(copy) == fingerprint(raw)
    assert len(fingerprint(raw)) == 16
    int(fingerprint(raw), 16)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("part", ["images", "labels"])
def test_one_changed_value_changes_the_fingerprint(raw, split, part):
    changed = getattr(getattr(raw, split), part).copy()
    changed.flat[0] ^= 1
    other = dataclasses.replace(raw, **{split: dataclasses.replace(getattr(raw, split), **{part: changed})})
    assert fingerprint(other) != fingerprint(raw)


def test_order_counts(raw):
    turned = RawSplit(raw.train.images[::-1], raw.train.labels[::-1])
    assert fingerprint(dataclasses.replace(raw, train=turned)) != fingerprint(raw)
