from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allcnn.config import Config, DataConfig, Source
from allcnn.data.sources import check_data, current_fingerprint, read_raw
from strive.errors import ConfigError

RANDOM = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    "train_images": RANDOM.integers(0, 256, (6, 9, 9, 3), dtype=np.uint8),
    "train_labels": np.array([0, 1, 2, 0, 1, 2]),
    "test_images": RANDOM.integers(0, 256, (3, 9, 9, 3), dtype=np.uint8),
    "test_labels": np.array([2, 1, 0], dtype=np.uint8),
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def made(**changes: Any) -> DataConfig:
        path = tmp_path / "mine.npz"
        np.savez(path, **{name: each for name, each in (ARRAYS | changes).items() if each is not None})
        return DataConfig(source=Source.arrays, name="mine", root=str(path), image_size=9)

    return made


def test_the_arrays_are_the_images(write: Any):
    data = write()
    raw = read_raw(data)
    np.testing.assert_array_equal(raw.train.images, ARRAYS["train_images"])
    assert raw.test.labels.tolist() == [2, 1, 0]
    assert raw.class_names == ("0", "1", "2")
    facts = check_data(Config(data=data))
    assert (facts.num_train, facts.num_classes) == (6, 3)
    assert facts.on_disk.stamp


def test_grey_images_get_three_channels_and_classes_their_names(write: Any):
    grey = {f"{split}_images": ARRAYS[f"{split}_images"][..., 0] for split in ("train", "test")}
    data = write(**grey, class_names=np.array(["ant", "bee", "cat", "dog"]))
    raw = read_raw(data)
    assert raw.class_names == ("ant", "bee", "cat", "dog")
    for channel in range(3):
        np.testing.assert_array_equal(raw.train.images[..., channel], grey["train_images"])
    assert check_data(Config(data=data)).num_classes == 4


def test_other_pixels_are_another_data_set(write: Any):
    before = current_fingerprint(write())
    other = ARRAYS["train_images"].copy()
    other[0, 0, 0, 0] ^= 1
    assert current_fingerprint(write(train_images=other)) != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "lacks train_labels; it has train_images, test_images, test_labels"),
        ({"train_labels": np.array([0.0] * 6)}, "train_labels must be whole numbers [n] of 0 or more, got float64 [6]"),
        ({"train_labels": np.arange(-1, 5)}, "got int64 [6] from -1 on"),
        ({"train_labels": np.arange(5)}, "train_images must be uint8 [5, 9, 9, 3]"),
        ({"train_images": ARRAYS["train_images"] / 255}, "train_images must be uint8 [6, 9, 9, 3]"),
        ({"test_images": ARRAYS["test_images"][:, :8]}, "data.image_size=9; got uint8 [3, 8, 9, 3]"),
        ({"test_labels": np.array([None, 1, 2])}, "cannot be read as a .npz file of plain arrays"),
        ({"class_names": np.array(["a"])}, "has 1 class_names, and labels up to 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(write: Any, changes: dict[str, Any], message: str):
    data = write(**changes)
    for refuses in (lambda: check_data(Config(data=data)), lambda: read_raw(data)):
        with pytest.raises(ConfigError) as caught:
            refuses()
        assert message in str(caught.value)
        assert str(caught.value).startswith(f"data.root={data.root}: ")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path):
    path = tmp_path / "mine.npz"
    data = DataConfig(source=Source.arrays, name="mine", root=str(path))
    with pytest.raises(ConfigError, match=r"No such file.*\.npz file of data=arrays"):
        read_raw(data)
    path.write_text("no archive")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_raw(data)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ConfigError, match="is a single array"):
        read_raw(data)
