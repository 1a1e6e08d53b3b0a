import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import Golden

from strive.errors import PredictionsError
from strive.results.correct import correct

LABELS = np.array([0, 1, 2, 1])
LOGITS = np.array([[3, 1, 2], [5, 0, 0], [-9, -8, -7], [1, 2, 2]], np.float32)


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read predictions whose record speaks of whatever logits lie there."""
    try:
        with (folder / "predictions.npz").open("rb") as file, np.load(file) as arrays:
            sha256 = hashlib.sha256(np.ascontiguousarray(arrays["logits"]).tobytes()).hexdigest()
    except Exception:  # damaged on purpose
        sha256 = ""
    return correct(folder, sha256)


def write(folder: Path, **changes: Any) -> Path:
    """Four test images of three classes; a change of None leaves an array out."""
    arrays = {"labels": LABELS, "logits": LOGITS} | changes
    folder.mkdir(exist_ok=True)
    np.savez(folder / "predictions.npz", **{name: each for name, each in arrays.items() if each is not None})
    return folder


def test_the_class_is_the_largest_logit_and_of_equal_ones_the_first(tmp_path: Path) -> None:
    # The last image: classes 1 and 2 have the same logit, and its label is 1.
    labels, right = read(write(tmp_path / "cell"))
    assert labels.tolist() == [0, 1, 2, 1]
    assert right.tolist() == [True, False, True, True]
    assert right.dtype == bool


def test_of_equal_logits_the_second_is_wrong(tmp_path: Path) -> None:
    assert read(write(tmp_path / "cell", labels=np.array([0, 1, 2, 2])))[1].tolist() == [True, False, True, False]


def test_what_a_cell_leaves_behind_is_read(tmp_path: Path) -> None:
    answers = [True, False, True, True, False]
    folder = Golden(tmp_path).cell({"seed": 0}, 40.0, correct=answers)
    labels, right = read(folder)
    assert labels.tolist() == [3, 3, 4, 3, 3]
    assert right.tolist() == answers


def test_missing_predictions_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"predictions\.npz is missing: .*src/reproduce\.py gone$"):
        read(tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip file", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(PredictionsError, match=r"predictions\.npz cannot be read: "):
        read(tmp_path)


def test_an_array_in_place_of_an_archive_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "predictions.npz").open("wb") as file:
        np.save(file, LOGITS)
    with pytest.raises(PredictionsError, match="cannot be read: "):
        read(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path) / "predictions.npz"
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(PredictionsError):
            read(tmp_path)


def test_a_damaged_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path) / "predictions.npz"
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            labels, right = read(tmp_path)
        except PredictionsError:
            refused += 1
        else:
            assert (labels.tolist(), right.tolist()) == ([0, 1, 2, 1], [True, False, True, True])
    assert refused > len(LOGITS.tobytes()) + len(LABELS.tobytes())


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("unpickled",)

    folder = write(tmp_path / "cell", labels=np.array([Trap()], dtype=object))
    with pytest.raises(PredictionsError, match="cannot be read: ValueError: Object arrays cannot be loaded"):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": None}, "cannot be read: KeyError: 'logits is not a file in the archive'"),
        ({"labels": LABELS.astype(np.float32)}, r"labels must be int64 \[n\], n above 0, got float32 \[4\]"),
        ({"labels": LABELS[:, None]}, r"got int64 \[4, 1\]"),
        ({"labels": LABELS[:0], "logits": LOGITS[:0]}, r"got int64 \[0\]"),
        ({"logits": LOGITS[:3]}, r"logits must be float \[n, classes\], n = 4, got float32 \[3, 3\]"),
        ({"logits": LOGITS[:, 0]}, r"got float32 \[4\]"),
        ({"logits": LABELS[:, None]}, r"got int64 \[4, 1\]"),
        ({"labels": np.array([0, 1, 2, 3])}, "labels must be 0 to 2, one of the classes, got 0 to 3"),
        ({"labels": np.array([0, 1, 2, -1])}, "got -1 to 2"),
        ({"logits": LOGITS * math.nan}, "logits are not finite, so that no class is the largest"),
    ],
)
def test_arrays_that_are_no_predictions_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PredictionsError, match=message):
        read(write(tmp_path / "cell", **changes))


def test_predictions_of_another_cell_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="does not hold the predictions that the record beside it speaks of"):
        correct(write(tmp_path / "own"), hashlib.sha256(b"another").hexdigest())
