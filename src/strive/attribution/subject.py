"""What is looked at: a trained network with its data."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from strive.config import Config
from strive.data import Splits


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A network in eval mode on its device, and the splits of its data."""

    name: str  # the cell's id, or the name of the file of weights
    folder: Path  # its figures go there
    config: Config
    network: nn.Module
    splits: Splits
    weights_sha256: str  # of the file of weights
