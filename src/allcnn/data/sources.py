"""The data sets by their source: what is on disk, counted without decoding an image, and the images as published.

A sweep is planned by this without torch, which takes seconds to import.
"""

from dataclasses import dataclass

from allcnn.config import Config, DataConfig, Preprocess, Source
from allcnn.data import arrays, cifar, digits, image_folder, imagenet
from allcnn.data.images import RawData, fingerprint
from allcnn.data.listing import NO_FILES, DataFiles
from strive.errors import ConfigError

# Whitening needs a matrix of (3 h w)^2 float64 and several times that while it is fitted.
_LARGEST_WHITENED_PX = 96


@dataclass(frozen=True)
class DataFacts:
    """The size of a data set, known before it is loaded."""

    num_train: int  # images that are trained on: those held out are not counted
    num_classes: int
    on_disk: DataFiles = NO_FILES


def check_data(config: Config) -> DataFacts:
    """Count images without decoding any, so that a sweep can be refused before it trains.

    Raises ConfigError where `load_splits` would, except for an image that cannot be decoded.
    """
    check_whitening(config)
    on_disk = NO_FILES
    match config.data.source:
        case Source.cifar10 | Source.cifar100:
            num_images, num_classes = cifar.count_cifar(config.data)
        case Source.digits:
            num_images, num_classes = digits.NUM_IMAGES - digits.NUM_TEST, digits.NUM_CLASSES
        case Source.image_folder:
            listing = image_folder.list_images(config.data)
            num_images, num_classes, on_disk = len(listing.files["train"]), len(listing.class_names), listing.on_disk
        case Source.arrays:
            num_images, num_classes = arrays.count_arrays(config.data)
            on_disk = arrays.arrays_file(config.data)
        case Source.imagenet:
            files = imagenet.list_imagenet(config.data)
            num_images, num_classes, on_disk = len(files.train.labels), len(files.class_names), files.on_disk
    check_val_images(config.data, num_images)
    return DataFacts(num_images - config.data.val_images, num_classes, on_disk)


def files_on_disk(data: DataConfig) -> DataFiles:
    """Return the data set's files and those left out, without decoding any image.

    Raises ConfigError when images are missing or not complete.
    """
    match data.source:
        case Source.cifar10 | Source.cifar100:
            return cifar.cifar_files(data)
        case Source.digits:
            return NO_FILES
        case Source.image_folder:
            return image_folder.list_images(data).on_disk
        case Source.arrays:
            return arrays.arrays_file(data)
        case Source.imagenet:
            return imagenet.list_imagenet(data).on_disk


def current_fingerprint(data: DataConfig) -> str:
    """Return the fingerprint of the data set as it is on disk now.

    Raises ConfigError when an image is missing or cannot be read.
    """
    if data.source is Source.imagenet:
        return imagenet.list_imagenet(data).fingerprint
    return fingerprint(read_raw(data))


def read_raw(data: DataConfig) -> RawData:
    """Return the images as published; not for imagenet, which does not fit in memory."""
    match data.source:
        case Source.cifar10 | Source.cifar100:
            return cifar.read_cifar(data)
        case Source.digits:
            return digits.read_digits()
        case Source.image_folder:
            return image_folder.read_image_folder(data)
        case Source.arrays:
            return arrays.read_arrays(data)
        case Source.imagenet:
            raise AssertionError("imagenet is read lazily")


def check_val_images(data: DataConfig, num_images: int) -> None:
    """Raise ConfigError where no images are left to train on."""
    if data.val_images >= num_images:
        raise ConfigError(
            f"data.val_images={data.val_images} leaves no training images; {data.name} has {num_images},"
            f" so it must be at most {num_images - 1}"
        )


def check_whitening(config: Config) -> None:
    """Raise ConfigError where whitening needs more memory than there is."""
    size = config.data.image_size
    if config.preprocess.kind is Preprocess.gcn_zca and size > _LARGEST_WHITENED_PX:
        gigabytes = (3 * size * size) ** 2 * 8 / 1e9
        raise ConfigError(
            f"preprocess=gcn_zca at data.image_size={size} needs a matrix of {gigabytes:.0f} GB;"
            f" take preprocess=standardize, or data.image_size of at most {_LARGEST_WHITENED_PX}"
        )
