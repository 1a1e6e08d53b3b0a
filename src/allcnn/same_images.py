"""Comparison of a record's images with those at data.root now: a cell's id contains only the data set's name."""

from allcnn.config import Config, Source
from allcnn.data.sources import current_fingerprint, files_on_disk
from strive.cells.records import Record
from strive.errors import ConfigError

IMAGES = "images"  # name of their fingerprint in a record


def other_images(config: Config, record: Record) -> str | None:
    """Return why the images at data.root are not those that the record was trained on; "" where they are.

    None: there is nothing at data.root to compare with.

    Files with the same names, sizes and times count as the same. If these differ, as for any copy, or an old record
    has none, the fingerprint decides; for it the images are decoded if they were not yet.
    """
    data = config.data
    made, before = str(record.provenance.details.get("data_stamp", "")), record.data.get(IMAGES, "")
    if data.source is Source.digits:
        return ""  # they come with the installation
    try:
        stamp = files_on_disk(data).stamp
        if stamp == made != "":
            return ""
        if not made and data.source is Source.imagenet:
            return None  # an old record's fingerprint is of the names alone
        now = current_fingerprint(data)
    except ConfigError:
        return None
    if now == before:
        return ""
    return f"it was trained on other images, with fingerprint {before}, than data.root={data.root} holds now, {now}"
