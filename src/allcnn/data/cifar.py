"""CIFAR-10 and CIFAR-100 (A. Krizhevsky, 2009) from the folder that torchvision makes."""

import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from allcnn.config import DataConfig, Source
from allcnn.data.images import RawData, RawSplit
from allcnn.data.listing import NO_FILES, DataFiles, stamp_of
from strive.errors import ConfigError

# The names that pickled numpy arrays and plain values of Python 2 and 3 need; none of them runs code.
_ALLOWED_NAMES = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in ((f"{package}.multiarray", "_reconstruct"), (f"{package}.numeric", "_frombuffer"))
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


@dataclass(frozen=True)
class _Layout:
    """The files of a data set in its folder."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    names_file: str
    names: str
    num_classes: int


_LAYOUTS = {
    Source.cifar10: _Layout(
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",),
        "labels",
        "batches.meta",
        "label_names",
        10,
    ),
    Source.cifar100: _Layout("cifar-100-python", ("train",), ("test",), "fine_labels", "meta", "fine_label_names", 100),
}
_PUBLISHED_TRAIN_IMAGES = 50_000


def read_cifar(data: DataConfig) -> RawData:
    """Read both splits; images [n, 32, 32, 3].

    Raises ConfigError when a file is missing and data.download is off, or cannot be read.
    """
    layout, folder = _LAYOUTS[data.source], _folder(data)
    if _missing(data) and data.download:
        _download(data)
    _require_files(data)
    return RawData(
        train=_read_split(folder, layout.train, layout),
        test=_read_split(folder, layout.test, layout),
        class_names=_class_names(folder / layout.names_file, layout.names),
    )


def count_cifar(data: DataConfig) -> tuple[int, int]:
    """Return the numbers of training images and classes; fetches nothing.

    Raises ConfigError as `read_cifar` does.
    """
    layout, folder = _LAYOUTS[data.source], _folder(data)
    if _missing(data) and data.download:
        return _PUBLISHED_TRAIN_IMAGES, layout.num_classes
    _require_files(data)
    files = tuple(folder / name for name in layout.train)
    stamps = tuple(file.stat().st_mtime_ns for file in files)
    return _count_labels(files, stamps, layout.labels), len(_class_names(folder / layout.names_file, layout.names))


def cifar_files(data: DataConfig) -> DataFiles:
    """Return what the set's files are; a set that is yet to be fetched has no stamp.

    Raises ConfigError as `read_cifar` does.
    """
    if _missing(data) and data.download:
        return NO_FILES
    _require_files(data)
    layout = _LAYOUTS[data.source]
    status = {name: (_folder(data) / name).stat() for name in (*layout.train, *layout.test)}
    return DataFiles(
        stamp=stamp_of(repr((name, each.st_size, each.st_mtime_ns, each.st_ctime_ns)) for name, each in status.items())
    )


@lru_cache(maxsize=8)
def _count_labels(files: tuple[Path, ...], stamps: tuple[int, ...], labels: str) -> int:
    """Return the number of labels; the modification times make a changed file count anew."""
    return sum(len(_entry(load_plain_pickle(file), labels, file)) for file in files)


def _folder(data: DataConfig) -> Path:
    return Path(data.root).expanduser().absolute() / _LAYOUTS[data.source].folder


def _missing(data: DataConfig) -> list[str]:
    layout = _LAYOUTS[data.source]
    return [name for name in (*layout.train, *layout.test, layout.names_file) if not (_folder(data) / name).is_file()]


def _require_files(data: DataConfig) -> None:
    missing = _missing(data)
    if missing:
        raise ConfigError(
            f"data={data.source.value} is not there: no {missing[0]} in {_folder(data)}."
            " Fetch it with data.download=true, or read a folder of images with"
            " data=image_folder data.root=DIR data.name=NAME"
        )


def _download(data: DataConfig) -> None:
    """Let torchvision fetch and verify the files; cells that start together fetch them once."""
    # Takes a second to import, and only downloads need it.
    from torchvision import datasets  # type: ignore[import-untyped]

    root = Path(data.root).expanduser().absolute()
    reader = datasets.CIFAR10 if data.source is Source.cifar10 else datasets.CIFAR100
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{data.source.value}.lock"):
            if _missing(data):
                reader(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"data.download=true could not fetch {data.source.value} into {root}: {error}."
            " Without a network, read a folder of images: data=image_folder data.root=DIR data.name=NAME"
        ) from error


def _read_split(folder: Path, names: tuple[str, ...], layout: _Layout) -> RawSplit:
    pixels, labels = [], []
    for name in names:
        batch = load_plain_pickle(folder / name)
        pixels.append(np.asarray(_entry(batch, "data", folder / name), dtype=np.uint8).reshape(-1, 3, 32, 32))
        labels.append(np.asarray(_entry(batch, layout.labels, folder / name), dtype=np.int64))
        if len(pixels[-1]) != len(labels[-1]):
            raise ConfigError(f"{folder / name} has {len(pixels[-1])} images but {len(labels[-1])} labels")
    images = np.ascontiguousarray(np.concatenate(pixels).transpose(0, 2, 3, 1))
    return RawSplit(images, np.concatenate(labels))


def _class_names(file: Path, entry: str) -> tuple[str, ...]:
    names = _entry(load_plain_pickle(file), entry, file)
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _entry(batch: Any, name: str, file: Path) -> Any:
    # Python 2 wrote the published files, so their keys are bytes; a copy written today has text.
    for key in (name.encode(), name):
        if isinstance(batch, dict) and key in batch:
            return batch[key]
    raise ConfigError(f"{file} has no entry {name!r}; it is not a CIFAR batch in torchvision's layout")


def load_plain_pickle(file: Path) -> Any:
    """Return a pickle of plain values and numpy arrays; strings of Python 2 come as bytes.

    The files' checksums are not asked for, so that a smaller set in the same layout can be read;
    therefore a pickle that asks for anything else is refused, not run.

    Raises ConfigError when the file is damaged or asks for anything else.
    """
    try:
        with file.open("rb") as stream:
            return _PlainUnpickler(stream, encoding="bytes").load()
    except ConfigError:
        raise
    except Exception as error:
        # A damaged pickle can raise nearly anything.
        raise ConfigError(f"{file} cannot be read: {type(error).__name__}: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which plain image data never does")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
