"""The `table` section of a sweep file: the layout of the result table and its baseline. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from strive.cells.metrics import Better, better_of, is_share
from strive.look_design import LookDesign
from strive.sweeps.criterion import Criterion, direction_text, read_better, read_criterion
from strive.sweeps.design import Design
from strive.sweeps.labels import ARM, PLAIN, Labels
from strive.sweeps.sections import Faults, knob_list

__all__ = ["ARM", "TEST_ERROR", "TableSpec", "Value", "read_table", "value_of"]

_KEYS = ("rows", "columns", "value", "better", "scale", "unit", "baseline", "pair", "select", "margin", "paper")
_SCALES = ("percent", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """The metric that a table shows."""

    name: str  # "" in a sweep file that leaves it to the records
    better: Better | None = None  # None: nobody says, so nothing is judged
    percent: bool = False  # a share in [0, 1], shown in percent
    units: str = ""  # of a value that is no share, such as nats; "": nobody says
    digits: int = 2  # behind the point

    @property
    def words(self) -> str:
        """Return its name in words, such as test error."""
        return self.name.replace("_", " ")

    @property
    def factor(self) -> int:
        """Return by what the metric is multiplied to be shown."""
        return 100 if self.percent else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest value that there can be, as shown."""
        return (0.0, 100.0) if self.percent else (-math.inf, math.inf)

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """Return the least and the largest difference that there can be, as shown."""
        low, high = self.bounds
        return low - high, high - low

    @property
    def unit(self) -> str:
        """Return the unit of a difference and of the margin; "" if it has none."""
        return "points" if self.percent else self.own_unit

    def amount(self, number: float) -> str:
        """Return a difference of this size with its unit, such as 0.5 points or 1 point."""
        return f"{number:g} {'point' if self.percent and abs(number) == 1 else self.unit}".rstrip()

    @property
    def own_unit(self) -> str:
        """Return the unit of the value; "" if nobody says."""
        return "%" if self.percent else self.units

    @property
    def title(self) -> str:
        """Return its name with its unit, such as "test error, %"."""
        return f"{self.words}, {self.own_unit}" if self.own_unit else self.words

    @property
    def sign(self) -> int:
        """Return 1 if a larger value is worse, -1 if it is better; for a value that nobody judges, 1."""
        return -1 if self.better is Better.higher else 1

    @property
    def worse(self) -> str:
        """Return in words which differences from a baseline are worse."""
        return "below 0 is worse" if self.better is Better.higher else "above 0 is worse"

    @property
    def best(self) -> str:
        """Return the superlative of a value that is best."""
        return "largest" if self.better is Better.higher else "smallest"


def value_of(name: str, better: Better | None = None, percent: bool | None = None, labels: Labels = PLAIN) -> Value:
    """Return a metric as a table shows it; what is not given follows from its name, its unit from the app's labels."""
    percent = is_share(name) if percent is None else percent
    return Value(name=name, better=better or better_of(name), percent=percent, units=labels.units.get(name, ""))


TEST_ERROR = value_of("test_error")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """Layout of the result table. Keys are knobs, or the word arm."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    value: Value = TEST_ERROR
    # {key of rows or columns: the baseline's value, or {own value: the baseline's value}}
    baseline: Mapping[str, Any] = field(default_factory=dict)
    pair: tuple[str, ...] = ("seed",)  # knobs that must be equal in a cell and its baseline's cell
    select: Mapping[str, Criterion] = field(default_factory=dict)  # {knob: metric to select its value by}
    margin: float = 0.0  # a loss up to this is negligible, in percentage points or the value's unit; 0: not given
    paper: str = ""  # the table of published numbers that it corresponds to
    labels: Labels = PLAIN  # of the plan
    looks: LookDesign | None = None  # at how many seeds its lines are looked at; None: at all of them, once
    design: Design | None = None  # of the sweep file; None if it has no components

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that identify an entry of the table."""
        return self.rows + self.columns


def read_table(
    value: Any, faults: Faults, *, arms: Mapping[str, Any], design: Design | None = None
) -> TableSpec | None:
    """Return the table's layout: the file's, over that of its design; None if the file has neither.

    arms: those that a key of the table may name.
    """
    if value is None and design is None:
        return None
    entry = faults.mapping("table", value, ", ".join(_KEYS))
    faults.unknown("table: ", entry, _KEYS)
    if design is not None:
        entry = _of_design(design, entry, faults)
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
        value=_value(entry, faults),
        baseline=_baseline(entry.get("baseline"), rows + columns, arms, faults),
        pair=pair,
        select=select,
        margin=_margin(entry.get("margin", 0.0), faults) if "margin" in entry else 0.0,
        paper=_paper(entry.get("paper", ""), faults),
        design=design,
    )


def _of_design(design: Design, entry: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    """Return a table with what the design says of it where the file does not."""
    columns = entry.get("columns", [])
    rows = entry.get("rows", [] if isinstance(columns, list) and ARM in columns else [ARM])
    if isinstance(rows, list) and isinstance(columns, list) and ARM not in rows + columns:
        faults.add(f"table: {ARM} must be in rows or columns: the design's arms are no cells to average over")
    baseline = {"baseline": {ARM: design.references}} if design.name.compares_arms else {}
    return baseline | dict(entry) | {"rows": rows, "columns": columns}


def _value(entry: Mapping[str, Any], faults: Faults) -> Value:
    name, scale = entry.get("value", ""), entry.get("scale")
    if not isinstance(name, str) or ("value" in entry and not name):
        faults.add(f"table: value must be the name of a metric, got {name!r}")
        name = ""
    if "scale" in entry and scale not in _SCALES:
        faults.add(f"table: scale must be one of {', '.join(_SCALES)}, got {scale!r}")
    better = read_better("table", entry.get("better"), faults)
    unit = _unit(entry.get("unit", ""), faults)
    percent = scale == "percent" if scale in _SCALES else None
    if not name:
        for key in ("better", "scale", "unit"):
            if key in entry:
                faults.add(f"table: {key} is said of a metric: add value: NAME")
        return Value(name="")
    value = value_of(name, better, percent)
    if value.better is None and "better" not in entry:
        faults.add(direction_text("table", name))
    if unit and value.percent:
        faults.add(f"table: unit: {name} is a share, shown in %: add scale: none if it is not")
    return replace(value, units=unit)


def _unit(value: Any, faults: Faults) -> str:
    if not isinstance(value, str) or not value.isprintable():
        faults.add(f"table: unit must be a text such as nats, got {value!r}")
        return ""
    return value.strip()


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
        return faults.one_value("table: baseline", key, value)
    if value not in arms:
        faults.add(f"table: baseline: there is no arm {value}; legal: {', '.join(arms)}")
    return value


def _select(value: Any, faults: Faults) -> dict[str, Criterion]:
    entry = faults.mapping("table: select", value, "KNOB: METRIC")
    found = {}
    for key, by in entry.items():
        faults.knob("table: select", key)
        if key == "seed":
            faults.add("table: select: seed: what is averaged over cannot be selected")
        elif (criterion := read_criterion(f"table: select: {key}", by, faults)) is not None:
            found[key] = criterion
    if len(found) > 1:
        faults.add(f"table: select: one knob at a time, got {', '.join(found)}")
    return found


def _margin(value: Any, faults: Faults) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    faults.add(f"table: margin must be above 0, in points of a percentage, or in units of the metric, got {value!r}")
    return 0.0


def _paper(value: Any, faults: Faults) -> str:
    if isinstance(value, str):
        return value
    faults.add(f"table: paper must name a table of published numbers, got {value!r}")
    return ""
