"""A data set in one .npz file: arrays train_images, train_labels, test_images and test_labels.

Images are uint8 [n, h, w, 3], or [n, h, w] for grey ones; labels are whole numbers [n] from 0 on. class_names, if it is
there, is an array of texts.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allcnn.config import DataConfig
from allcnn.data.images import RawData, RawSplit
from allcnn.data.listing import DataFiles, stamp_of
from strive.errors import ConfigError

_NEEDED = ("train_images", "train_labels", "test_images", "test_labels")
_NAMES = "class_names"


def read_arrays(data: DataConfig) -> RawData:
    """Return the images and labels; raise ConfigError for a file that lacks some or has others."""
    with _opened(data) as arrays:
        labels, names = _labels_and_names(data, arrays)
        images = {split: _images(data, f"{split}_images", arrays[f"{split}_images"], labels) for split in labels}
    return RawData(
        train=RawSplit(images["train"], labels["train"]),
        test=RawSplit(images["test"], labels["test"]),
        class_names=names,
    )


def count_arrays(data: DataConfig) -> tuple[int, int]:
    """Return the numbers of training images and of classes, without reading the images; raises as `read_arrays`."""
    with _opened(data) as arrays:
        labels, names = _labels_and_names(data, arrays)
        for split in labels:
            name = f"{split}_images"
            _check_images(data, name, *_header(data, name), len(labels[split]))
    return len(labels["train"]), len(names)


def arrays_file(data: DataConfig) -> DataFiles:
    """Return what identifies the file as it is on disk; raise ConfigError if there is none."""
    path = _path(data)
    try:
        status = path.stat()
    except OSError as error:
        raise _error(data, f"{error.strerror}; it is the .npz file of data=arrays") from None
    stamp = stamp_of([repr((path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))])
    return DataFiles(stamp=stamp)


@contextmanager
def _opened(data: DataConfig) -> Iterator[Any]:
    arrays_file(data)
    try:
        with _path(data).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise _error(data, "is a single array; data=arrays takes a .npz file, as numpy.savez writes it")
            if missing := [name for name in _NEEDED if name not in arrays]:
                there = ", ".join(arrays.files) or "nothing"
                raise _error(data, f"lacks {', '.join(missing)}; it has {there}")
            yield arrays
    except ConfigError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _error(data, f"cannot be read as a .npz file of plain arrays ({error})") from error


def _labels_and_names(data: DataConfig, arrays: Any) -> tuple[dict[str, npt.NDArray[np.int64]], tuple[str, ...]]:
    labels = {split: _labels(data, f"{split}_labels", arrays[f"{split}_labels"]) for split in ("train", "test")}
    count = 1 + max(int(each.max()) for each in labels.values())
    names = tuple(map(str, arrays[_NAMES].tolist() if _NAMES in arrays else range(count)))
    if len(names) < count:
        raise _error(data, f"has {len(names)} {_NAMES}, and labels up to {count - 1}")
    return labels, names


def _labels(data: DataConfig, name: str, found: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if not np.issubdtype(found.dtype, np.integer) or found.ndim != 1 or not found.size or found.min() < 0:
        got = f"{found.dtype} {list(found.shape)}" + (f" from {found.min()} on" if found.size else "")
        raise _error(data, f"{name} must be whole numbers [n] of 0 or more, got {got}")
    return found.astype(np.int64)


def _images(
    data: DataConfig, name: str, found: npt.NDArray[Any], labels: dict[str, npt.NDArray[np.int64]]
) -> npt.NDArray[np.uint8]:
    _check_images(data, name, found.shape, found.dtype, len(labels[name.partition("_")[0]]))
    return np.repeat(found[..., None], 3, axis=3) if found.ndim == 3 else found


def _check_images(data: DataConfig, name: str, shape: tuple[int, ...], dtype: Any, count: int) -> None:
    size = data.image_size
    if dtype != np.uint8 or shape not in ((count, size, size, 3), (count, size, size)):
        raise _error(
            data,
            f"{name} must be uint8 [{count}, {size}, {size}, 3], or without the 3, for its {count} labels and"
            f" data.image_size={size}; got {dtype} {list(shape)}",
        )


def _header(data: DataConfig, name: str) -> tuple[tuple[int, ...], Any]:
    """Return the shape and type of an array in the file, from its first bytes."""
    with zipfile.ZipFile(_path(data)) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype


def _path(data: DataConfig) -> Path:
    return Path(data.root).expanduser().absolute()


def _error(data: DataConfig, what: str) -> ConfigError:
    return ConfigError(f"data.root={data.root}: {what}")
