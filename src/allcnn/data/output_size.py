"""The size of the images that a net sees."""

from allcnn.config import Augment, Config


def output_size(config: Config) -> int:
    """Return the height and width of what the net sees, in pixels."""
    return config.augment.canvas_px if config.augment.kind is Augment.extreme else config.data.image_size
