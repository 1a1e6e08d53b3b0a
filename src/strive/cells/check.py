"""Preflight check of a cell, before any training starts. Imports no torch."""

import os
from pathlib import Path
from typing import Any

from strive import app
from strive.app import CellFacts
from strive.cells.settings import settings_of
from strive.errors import ConfigError


def check_cell(config: Any) -> CellFacts:
    """Return how much there is to train; raise ConfigError if app, data, device or runs folder prevent training."""
    _check_runs(Path(settings_of(config).runs))
    return app.in_use().facts(config)


def _check_runs(runs: Path) -> None:
    place = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        what = "cannot be written to" if place.is_dir() else "is not a folder"
        key = "runs" if app.has_named_itself() else "hydra.sweeper.runs"
        raise ConfigError(f"{key}={runs}: {place} {what}; name a folder that records can be written to")
