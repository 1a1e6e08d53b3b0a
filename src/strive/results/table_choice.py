"""Choice of a sweep's table: the one in its sweep file, or a default for a multirun without a file."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
from yaml import YAMLError

from strive.cells.metrics import Better, main_metric
from strive.cells.predictions import DERIVED
from strive.errors import ConfigError
from strive.results.conditions import split_further
from strive.results.load import Loaded, column_value
from strive.results.record_row import metric_column
from strive.sweeps.audit import sweep_file, sweep_files
from strive.sweeps.criterion import Criterion, direction_text
from strive.sweeps.design import read_design
from strive.sweeps.labels import ARM, CONFIG, is_builder_argument
from strive.sweeps.sections import Faults
from strive.sweeps.sweep_file import NO_CELLS, Sweep, parse_sweep, read_layout
from strive.sweeps.table_spec import TEST_ERROR, TableSpec, Value, value_of
from strive.sweeps.yaml_reader import read_yaml

_MOST_DIGITS = 8


class UnclearValueError(ConfigError):
    """The records have several metrics, and nobody says which one to show."""


def declared_table(loaded: Loaded, sweeps: Path | None = None, value: Value | None = None) -> TableSpec:
    """Return the layout of a sweep's table.

    Uses the current sweep file if it still declares the plan's cells, so that a corrected table needs no
    training. Otherwise uses the file's text in the plan, since the file may have moved. A knob that only the
    command line varies becomes a row. sweeps: folder of the sweep files; None: the app's. value: the metric to show
    where no sweep file names one.

    Raises ConfigError with all faults of the file, and for a value beside that of a sweep file.
    """
    declared = _declared(loaded, sweeps or sweep_files())
    table = _in_columns(declared, loaded) if declared is not None else None
    if table is None or not set(table.keys) <= set(loaded.cells.columns):
        table = _default(loaded)
    if value is not None:
        table = _with_asked(table, value, loaded)
    told = declared is not None and (bool(declared.value.name) or declared.design is None)
    table = _with_value(replace(table, labels=loaded.labels), loaded, told=told)
    added = split_further(loaded, table)
    baseline = {key: _as_in(loaded.cells[key], rule) for key, rule in table.baseline.items()}
    # Each combination of the other factors has the whole design, so its arms stay together.
    rows = (*added, *table.rows) if table.design is not None else (*table.rows, *added)
    return replace(table, rows=rows, baseline=baseline)


def _in_columns(table: TableSpec, loaded: Loaded) -> TableSpec:
    """Return the layout with a knob named as its column is, where another column has its key."""

    def named(key: str) -> str:
        return f"{CONFIG}{key}" if f"{CONFIG}{key}" in loaded.cells else key

    return replace(
        table,
        rows=tuple(map(named, table.rows)),
        columns=tuple(map(named, table.columns)),
        pair=tuple(key for key in map(named, _pair(table, loaded)) if key in loaded.cells),
        baseline={named(key): rule for key, rule in table.baseline.items()},
        select={named(key): by for key, by in table.select.items()},
    )


def _pair(table: TableSpec, loaded: Loaded) -> tuple[str, ...]:
    """Return the knobs to pair by; where the file leaves it to the seed, the sweep's own key for that."""
    return (loaded.plan.seed,) if table.pair == ("seed",) else table.pair


def _with_asked(table: TableSpec, value: Value, loaded: Loaded) -> TableSpec:
    if table.value.name:
        raise ConfigError(
            f"--value {value.name}: the sweep file {loaded.file} says value: {table.value.name}, and its margin and"
            " looks are of that; say another one there, or leave out --value"
        )
    if loaded.metrics and value.name not in (*loaded.metrics, *loaded.numbers):
        raise ConfigError(f"--value {value.name}: no record has it; they have {_metrics(loaded)}")
    return replace(table, value=value)


def _metrics(loaded: Loaded) -> str:
    return ", ".join(dict.fromkeys((*loaded.metrics, *(name for name in DERIVED if name in loaded.cells))))


def _with_value(table: TableSpec, loaded: Loaded, *, told: bool) -> TableSpec:
    """Return the layout with its metric: the file's, or else the one that stands for a result.

    told: whether a sweep file lays the table out, so that it can say more. Raises ConfigError if it has to.
    """
    value = table.value if table.value.name else value_of(_default_metric(loaded), labels=loaded.labels)
    if not value.units:
        value = replace(value, units=loaded.labels.units.get(value.name, ""))
    if table.value.name and loaded.metrics and value.name not in (*loaded.metrics, *loaded.numbers):
        raise ConfigError(f"table: value: no record has {value.name}; they have {_metrics(loaded)}")
    if told and value.better is None:
        raise ConfigError(direction_text("table", value.name))
    margin = table.margin if value.better is not None else 0.0  # without a direction nothing is a loss
    return replace(table, value=replace(value, digits=_digits(value, loaded)), margin=margin)


def _default_metric(loaded: Loaded) -> str:
    """Return the metric to show where nobody names one. Raises ConfigError if it is not clear."""
    names = dict.fromkeys(loaded.metrics)
    if main := main_metric(names):
        return main
    if not names:
        return TEST_ERROR.name if TEST_ERROR.name in loaded.labels.measured else "objective"
    raise UnclearValueError(
        f"which metric? The records have {', '.join(names)};"
        " say --value NAME, or `table: {value: NAME}` in a sweep file"
    )


def _digits(value: Value, loaded: Loaded) -> int:
    """Return how many digits behind the point a value is shown with: two where it has a unit, else enough."""
    column = metric_column(value.name)
    if value.own_unit or column not in loaded.cells:
        return value.digits
    largest = loaded.cells[column].abs().max()
    if not largest > 0:
        return value.digits
    return max(0, min(_MOST_DIGITS, 3 - math.floor(math.log10(largest))))


def _as_in(column: "pd.Series[Any]", rule: Any) -> Any:
    """Return a baseline's value as the cells store it: 0 for a builder's 0.0, and a list as text."""
    if isinstance(rule, Mapping):
        return {_as_in(column, own): _as_in(column, other) for own, other in rule.items()}
    value = column_value(rule)
    same = (each for each in column if each == value and isinstance(each, bool) == isinstance(value, bool))
    return next(same, value)


def _declared(loaded: Loaded, sweeps: Path) -> TableSpec | None:
    path = sweep_file(loaded.plan, sweeps)
    now = _FileText.of(path.read_bytes(), str(path)) if loaded.file and path.exists() else None
    if not loaded.text:
        return now.table(loaded) if now else None
    planned = _FileText.of(loaded.text.encode(), f"{loaded.file}.yaml, as the plan has it")
    return (now if now is not None and now.cells == planned.cells else planned).table(loaded)


@dataclass(frozen=True, slots=True)
class _FileText:
    """A sweep file as far as its table goes. The keys of the cells are those of the plan, whatever the app has now."""

    content: Mapping[str, Any]
    place: str  # for messages

    @classmethod
    def of(cls, text: bytes, place: str) -> Self:
        """Parse a file; raise ConfigError if it is none."""
        faults = Faults()
        try:
            content = read_yaml(text.decode(), place, faults)
        except (UnicodeDecodeError, YAMLError) as error:
            raise ConfigError(f"{place}: not a YAML file ({' '.join(str(error).split())})") from None
        if not isinstance(content, Mapping):
            faults.add(f"must hold the sections of a sweep file, got {content!r}")
        if faults.lines:
            raise ConfigError("\n".join(f"{place}: {line}" for line in faults.lines))
        return cls(content, place)

    @property
    def cells(self) -> dict[str, Any]:
        """Return the sections that say which cells there are."""
        return {key: part for key, part in self.content.items() if key not in NO_CELLS}

    def table(self, loaded: Loaded) -> TableSpec | None:
        """Return the table; None if there is none. Raises ConfigError with all of its faults."""
        faults = _PlanFaults(loaded)
        table = read_layout(self.content, faults, read_design(self.content, faults))
        if faults.lines:
            raise ConfigError("\n".join(f"{self.place}: {line}" for line in faults.lines))
        return table


class _PlanFaults(Faults):
    """Faults of a table whose keys are those of a plan."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self._keys = list(dict.fromkeys((*loaded.plan.common, *loaded.plan.varying, *loaded.common)))

    def key(self, place: str, key: str) -> bool:
        """Return True: what a section of cells sets was checked when they were planned."""
        return True

    def value(self, place: str, key: str, value: Any) -> None:
        """Accept the value of a section of cells."""

    def knob(self, place: str, key: str, legal: Sequence[str] = (), kind: str = "knob") -> bool:
        """Return whether the cells of the plan have a key; add a fault if not."""
        if key in self._keys or is_builder_argument(key):
            return True
        close = difflib.get_close_matches(key, self._keys, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the cells have {', '.join(self._keys)}"
        self.add(f"{place}: there is no {kind} {key}; {hint}")
        return False

    def one_value(self, place: str, key: str, value: Any) -> Any:
        """Return the value as JSON has it; declared_table compares it with those of the cells."""
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_file(name: str, path: Path) -> Sweep:
    """Read and parse a sweep file; raise ConfigError with all its faults."""
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
    varying = [key for key in loaded.factors if loaded.decides(key) and key != loaded.plan.seed]
    select: dict[str, Criterion] = {}
    if "optimizer.lr" in varying and loaded.common.get("data.val_images", 0) > 0:
        select["optimizer.lr"] = Criterion("val_error", Better.lower)
        varying.remove("optimizer.lr")
    rows = [ARM] if loaded.cells[ARM].any() else []
    # A knob that is determined by another one needs no row of its own.
    seed = (loaded.plan.seed,) if loaded.plan.seed in loaded.cells else ()
    table = TableSpec(rows=tuple(rows), columns=(), select=select, value=Value(name=""), pair=seed)
    first = [key for joint in loaded.labels.names for key in joint.keys if key in varying]
    while added := split_further(loaded, replace(table, rows=(*table.rows, *first))):
        first += added
    variants = set(loaded.cells["model.variant"]) if "model.variant" in first else set()
    baseline = {"model.variant": "base"} if "model.variant" in first and "base" in variants else {}
    return replace(table, rows=(*table.rows, *first), baseline=baseline)
