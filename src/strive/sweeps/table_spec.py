"""The `table` section of a sweep file: the layout of the result table and its baseline. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from strive.config import identity
from strive.sweeps.choice import Criterion
from strive.sweeps.sections import Faults, knob_list, record_values

ARM = "arm"  # may be used instead of a knob, for the name of the arm
_KEYS = ("rows", "columns", "value", "baseline", "pair", "select", "margin", "paper")


class Value(StrEnum):
    """The number of a record that a table shows; smaller is better for each of them."""

    test_error = auto()
    val_error = auto()
    train_error = auto()
    test_loss = auto()
    val_loss = auto()
    train_loss = auto()

    @property
    def is_error(self) -> bool:
        """Return whether it is a share of images, shown in percent; otherwise it is in nats per image."""
        return self.value.endswith("_error")

    @property
    def unit(self) -> str:
        """Return the unit of a difference and of the margin."""
        return "points" if self.is_error else "nats"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """Layout of the result table. Keys are knobs, or the word arm."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    value: Value = Value.test_error
    # {key of rows or columns: the baseline's value, or {own value: the baseline's value}}
    baseline: Mapping[str, Any] = field(default_factory=dict)
    pair: tuple[str, ...] = ("seed",)  # knobs that must be equal in a cell and its baseline's cell
    select: Mapping[str, Criterion] = field(default_factory=dict)  # {knob: error to select its value by}
    margin: float = 0.5  # losses up to this many percentage points of error, or nats, are negligible
    paper: str = ""  # the table of analysis/paper.yaml that it corresponds to

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that identify an entry of the table."""
        return self.rows + self.columns


def read_table(value: Any, faults: Faults, *, arms: Mapping[str, Any]) -> TableSpec | None:
    """Return the table's layout; None if the file has no table."""
    if value is None:
        return None
    entry = faults.mapping("table", value, ", ".join(_KEYS))
    faults.unknown("table: ", entry, _KEYS)
    words = (ARM,) if arms else ()
    rows, columns = (knob_list("table", name, entry, faults, words) for name in ("rows", "columns"))
    for key in rows:
        if key in columns:
            faults.add(f"table: {key} is in rows and in columns")
    select = _select(entry.get("select"), faults)
    pair = knob_list("table", "pair", {"pair": [] if "seed" in rows + columns else ["seed"]} | entry, faults)
    for name, keys in (("select", tuple(select)), ("pair", pair)):
        for key in keys:
            if key in rows + columns:
                faults.add(f"table: {name}: {key} is in rows or columns, too")
    return TableSpec(
        rows=rows,
        columns=columns,
        value=_value(entry.get("value", Value.test_error.value), faults),
        baseline=_baseline(entry.get("baseline"), rows + columns, arms, faults),
        pair=pair,
        select=select,
        margin=_margin(entry.get("margin", 0.5), faults),
        paper=_paper(entry.get("paper", ""), faults),
    )


def _value(value: Any, faults: Faults) -> Value:
    if value in list(Value):
        return Value(value)
    faults.add(f"table: value must be one of {', '.join(Value)}, got {value!r}")
    return Value.test_error


def _baseline(value: Any, keys: tuple[str, ...], arms: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    entry = faults.mapping("table: baseline", value, "KEY: VALUE, or KEY: {VALUE: THE BASELINE'S}")
    found: dict[str, Any] = {}
    for key, each in entry.items():
        if key not in keys:
            faults.add(f"table: baseline: {key} is neither in rows nor in columns")
        elif isinstance(each, dict):
            found[key] = {
                _plain(key, own, arms, faults): _plain(key, other, arms, faults) for own, other in each.items()
            }
        else:
            found[key] = _plain(key, each, arms, faults)
    return found


def _plain(key: str, value: Any, arms: Mapping[str, Any], faults: Faults) -> Any:
    """Return a value as a record's config stores it, or the name of an arm."""
    if key != ARM:
        # A list is one value here, also for a builder's argument, because there are no alternatives.
        alone = [value] if identity.is_argument(key) else value
        return next(iter(record_values("table: baseline", key, alone, faults)), value)
    if value not in arms:
        faults.add(f"table: baseline: there is no arm {value}; legal: {', '.join(arms)}")
    return value


def _select(value: Any, faults: Faults) -> dict[str, Criterion]:
    entry = faults.mapping("table: select", value, "KNOB: val_error or test_error")
    found = {}
    for key, by in entry.items():
        faults.knob("table: select", key)
        if key == "seed":
            faults.add("table: select: seed: what is averaged over cannot be selected")
        elif by in list(Criterion):
            found[key] = Criterion(by)
        else:
            faults.add(
                f"table: select: {key} must be val_error, or test_error, which is the paper's own rule, got {by!r}"
            )
    if len(found) > 1:
        faults.add(f"table: select: one knob at a time, got {', '.join(found)}")
    return found


def _margin(value: Any, faults: Faults) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    faults.add(f"table: margin must be above 0, in points of error (or nats, for a loss), got {value!r}")
    return 0.5


def _paper(value: Any, faults: Faults) -> str:
    if isinstance(value, str):
        return value
    faults.add(f"table: paper must name a table of analysis/paper.yaml, got {value!r}")
    return ""
