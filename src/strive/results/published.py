"""The paper's own numbers, and the differences between a cell's set-up and the paper's."""

import contextlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from strive.errors import PublishedError

# A cell's knobs, {dotted key: value}, are Mapping[Any, Any] here, because rows of pandas frames have Hashable keys.
# Published numbers beside the sweeps that name them: the checkout's, or else those of the current folder.
_PLACES = (Path(__file__).resolve().parents[3] / "analysis" / "paper.yaml", Path("analysis/paper.yaml"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperValue:
    """The paper's entry for one condition of a table."""

    error: float | None  # percent; None if the paper has no number
    parameters: str = ""  # as printed; "" if none
    place: str = ""  # where in the paper, such as Table 3
    certain: bool = True  # False if quoted from memory
    source: str = ""  # where the number was read, or that it is from memory


def paper_value(table: str, config: Mapping[Any, Any]) -> PaperValue | None:
    """Return the paper's entry for a cell; its `error` is None where the paper has no number. None if `table` is "".

    table: a name under `tables` in paper.yaml. config: the cell's knobs, {dotted key: value}; lists may be JSON text.
    Only net, images and augmentation must match: differences in the training set-up (off_paper) are ignored.

    Raises PublishedError for an unknown table.
    """
    if not table:
        return None
    entry = _entry(table)
    if agrees(config, {"data.name": entry["data"]} | entry["when"]):
        for value in entry["values"]:
            if agrees(config, value["when"]):
                return PaperValue(**{name: each for name, each in value.items() if name != "when"})
    return PaperValue(error=None)


def off_paper(table: str, config: Mapping[Any, Any], ignore: Collection[str] = ()) -> list[str]:
    """Return the differences of a cell's set-up from the paper's, such as 'model.width=0.125 (the paper: 1)'.

    If the paper leaves a knob open, any value is accepted. Knobs missing from config are skipped, so
    off_paper(table, condition.key) returns the differences in a condition's own keys.
    table, config: as in paper_value; "" gives no lines. ignore: knobs to skip.

    Raises PublishedError for an unknown table.
    """
    return [
        f"{key}={_text(config[key])} (the paper: {_either([_text(value) for value in legal])})"
        for key, legal in paper_setup(table).items()
        if key in config and key not in ignore and not agrees(config, {key: legal})
    ]


def paper_setup(table: str) -> dict[str, list[Any]]:
    """Return {knob: the paper's values} for the cells of a table; {} if it is ""."""
    if not table:
        return {}
    entry = _entry(table)
    wanted: dict[str, list[Any]] = paper_file()["setup"] | entry.get("setup", {})
    return {key: legal for key, legal in wanted.items() if key not in entry.get("free", ())}


def agrees(config: Mapping[Any, Any], when: Mapping[str, Any]) -> bool:
    """Return whether a cell has, for each key of `when`, its value or one of its list of values."""
    for key, legal in when.items():
        wanted = legal if isinstance(legal, list) else [legal]
        if key not in config or _plain(config[key]) not in [_plain(value) for value in wanted]:
            return False
    return True


@lru_cache(maxsize=1)
def paper_file() -> dict[str, Any]:
    """Return the content of paper.yaml. Raises PublishedError if there is none."""
    for path in _PLACES:
        if path.exists():
            found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            return found
    raise PublishedError(f"table: paper: there is no {_PLACES[1]} with published numbers; write it, or drop paper")


def _entry(table: str) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = paper_file()["tables"]
    if table not in tables:
        legal = "".join(f"\n  {name}: {entry['title']}" for name, entry in tables.items())
        raise PublishedError(f"table: paper: there is no table {table!r} in {_PLACES[0].name}; legal:{legal}")
    return tables[table]


def _plain(value: Any) -> Any:
    """Return a canonical value: inf and "inf" become equal, as do 200/350 and 4/7, but not 1 and true."""
    value = _decoded(value)
    if isinstance(value, bool) or (isinstance(value, float) and math.isinf(value)):
        return str(value)
    if isinstance(value, list):
        return [_fraction(each) for each in value]
    return value


def _fraction(value: Any) -> Any:
    try:
        return Fraction(value) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        return value


def _text(value: Any) -> str:
    """Return a value as a user would type it after key=."""
    value = _decoded(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _decoded(value: Any) -> Any:
    """Convert a value of a table of cells (numpy numbers, lists as JSON text) back to its form in a record."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, str) and value.startswith("["):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _either(texts: list[str]) -> str:
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
