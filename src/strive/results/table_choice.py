"""Choice of a sweep's table: the one in its sweep file, or a default for a multirun without a file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from yaml import YAMLError

from strive.config import identity
from strive.errors import ConfigError
from strive.results.conditions import split_further
from strive.results.load import Loaded, column_value
from strive.sweeps.choice import Criterion
from strive.sweeps.sweep_file import Sweep, parse_sweep
from strive.sweeps.table_spec import ARM, TableSpec

SWEEPS = Path(__file__).resolve().parents[3] / "sweeps"


def declared_table(loaded: Loaded, sweeps: Path = SWEEPS) -> TableSpec:
    """Return the layout of a sweep's table.

    Uses the current sweep file if it still declares the plan's cells, so that a corrected table needs no
    training. Otherwise uses the file's text in the plan, since the file may have moved. A knob that only the
    command line varies becomes a row.

    Raises ConfigError with all faults of the file.
    """
    table = _declared(loaded, sweeps)
    if table is None or not set(table.keys) <= set(loaded.cells.columns):
        table = _default(loaded)
    added = split_further(loaded, table)
    baseline = {key: _as_in(loaded.cells[key], rule) for key, rule in table.baseline.items()}
    return replace(table, rows=(*table.rows, *added), baseline=baseline)


def _as_in(column: "pd.Series[Any]", rule: Any) -> Any:
    """Return a baseline's value as the cells store it: 0 for a builder's 0.0, and a list as text."""
    if isinstance(rule, Mapping):
        return {_as_in(column, own): _as_in(column, other) for own, other in rule.items()}
    value = column_value(rule)
    same = (each for each in column if each == value and isinstance(each, bool) == isinstance(value, bool))
    return next(same, value)


def _declared(loaded: Loaded, sweeps: Path) -> TableSpec | None:
    here = bool(loaded.file) and (sweeps / f"{loaded.file}.yaml").exists()
    if not loaded.text:
        return read_file(loaded.file, sweeps).table if here else None
    planned = parse(loaded.file, loaded.text, f"{loaded.file}.yaml, as the plan has it")
    if here and same_cells(now := read_file(loaded.file, sweeps), planned):
        return now.table
    return planned.table


def same_cells(one: Sweep, other: Sweep) -> bool:
    """Return whether two files declare the same cells, ignoring question and table."""
    first, second = (replace(each, question="", table=None, text="") for each in (one, other))
    return first == second


def read_file(name: str, sweeps: Path) -> Sweep:
    """Read and parse a sweep file; raise ConfigError with all its faults."""
    path = sweeps / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a YAML file ({error})") from None
    return parse(name, text, str(path))


def parse(name: str, text: str, place: str) -> Sweep:
    """Parse a sweep file's text; raise ConfigError with all faults, or with the position of a YAML error."""
    try:
        return parse_sweep(name, text)
    except YAMLError as error:
        raise ConfigError(f"{place}: not a YAML file ({' '.join(str(error).split())})") from None


def _default(loaded: Loaded) -> TableSpec:
    """Return a table with a row for each combination of the varying knobs except the seed."""
    varying = [key for key in loaded.factors if identity.decides(key) and key != "seed"]
    select: dict[str, Criterion] = {}
    if "optimizer.lr" in varying and loaded.common.get("data.val_images", 0) > 0:
        select["optimizer.lr"] = Criterion.val_error
        varying.remove("optimizer.lr")
    rows = [ARM] if loaded.cells[ARM].any() else []
    # A knob that is determined by another one needs no row of its own.
    table = TableSpec(rows=tuple(rows), columns=(), select=select)
    first: list[str] = [key for key in ("model.base", "model.variant") if key in varying]
    while added := split_further(loaded, replace(table, rows=(*table.rows, *first))):
        first += added
    variants = set(loaded.cells["model.variant"])
    baseline = {"model.variant": "base"} if "model.variant" in first and "base" in variants else {}
    return replace(table, rows=(*table.rows, *first), baseline=baseline)
