"""The table that a sweep file declares, or the one that a multirun without a file gets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from load import Loaded
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from places import split_further
from yaml import YAMLError

from strive import identity
from strive.config import ConfigError
from strive.sweeping.choice import Criterion
from strive.sweeping.layout import ARM, Table
from strive.sweeping.sweepfile import Sweep, read_sweep

SWEEPS = Path(__file__).resolve().parents[1] / "sweeps"


def declared_table(loaded: Loaded, sweeps: Path = SWEEPS) -> Table:
    """Return how a sweep's answer is laid out.

    Read from the file as it is now: a table that was corrected needs no cell trained again. Where the
    command line varied a knob that the file does not know, it becomes a row.

    Raises ConfigError with every fault of the file.
    """
    there = loaded.file and (sweeps / f"{loaded.file}.yaml").exists()
    table = read_file(loaded.file, sweeps).table if there else None
    if table is None or not set(table.keys) <= set(loaded.cells.columns):
        table = _default(loaded)
    added = split_further(loaded, table)
    return replace(table, rows=(*table.rows, *added))


def read_file(name: str, sweeps: Path) -> Sweep:
    """Return what a sweep's file declares; raise ConfigError with every fault of it."""
    path = sweeps / f"{name}.yaml"
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    return read_sweep(name, content)


def _default(loaded: Loaded) -> Table:
    """Return a table with a row for each value of whatever varies but the seed."""
    varying = [key for key in loaded.factors if key in identity.SCIENCE_KEYS and key != "seed"]
    select: dict[str, Criterion] = {}
    if "optimizer.lr" in varying and loaded.common.get("data.val_images", 0) > 0:
        select["optimizer.lr"] = Criterion.val_error
        varying.remove("optimizer.lr")
    rows = [ARM] if loaded.cells[ARM].any() else []
    # What moves with another knob names no place of its own.
    table = Table(rows=tuple(rows), columns=(), select=select)
    first: list[str] = [key for key in ("model.base", "model.variant") if key in varying]
    while added := split_further(loaded, replace(table, rows=(*table.rows, *first))):
        first += added
    variants = set(loaded.cells["model.variant"])
    baseline = {"model.variant": "base"} if "model.variant" in first and "base" in variants else {}
    return replace(table, rows=(*table.rows, *first), baseline=baseline)
