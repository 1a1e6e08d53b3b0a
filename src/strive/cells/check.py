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
    if what := _why_not(place):
        key = "runs" if app.has_named_itself() else "hydra.sweeper.runs"
        raise ConfigError(f"{key}={runs}: {place} {what}; name a folder that records can be written to")


def _why_not(place: Path) -> str:
    """Return why nothing can be written below a path that is there, "" if it can."""
    if not place.is_dir():
        return "is not a folder"
    # os.access tells root that it may write there, but nobody can create a file.
    if not os.access(place, os.W_OK) or {*_NO_FILES} & {place, *place.parents}:
        return "cannot be written to"
    disk = os.statvfs(place)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return "is on a full disk" if disk.f_blocks and not free else ""


_NO_FILES = (Path("/proc"), Path("/sys"))
