"""A cell's history, epochs.jsonl: one line for each epoch. Imports no torch."""

from pathlib import Path
from typing import Annotated

import msgspec

EPOCHS = "epochs.jsonl"


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one epoch. Losses are nats per image, errors shares in [0, 1].

    None if nothing was held out, or if the number was not finite.
    """

    epoch: Annotated[int, msgspec.Meta(ge=1)]
    lr: float | None
    train_loss: float | None
    train_error: float | None
    val_loss: float | None
    val_error: float | None


_decoder = msgspec.json.Decoder(Epoch)


def read_history(folder: Path) -> list[Epoch | None]:
    """Return an entry for each line in a cell's history, None for a damaged one; [] if there is no file."""
    return [epoch_in(line) for line in read_lines(folder)]


def read_lines(folder: Path) -> list[bytes]:
    """Return the unparsed lines of epochs.jsonl; [] if there is no file."""
    try:
        return (folder / EPOCHS).read_bytes().splitlines()
    except OSError:
        return []


def epoch_in(line: bytes) -> Epoch | None:
    """Parse a line; return None if it is damaged, for example a truncated last line."""
    try:
        return _decoder.decode(line)
    except (ValueError, RecursionError):
        return None
