"""The `seeds` section of a sweep file: at how many seeds the lines of its table are looked at. Imports no torch."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strive.sweeps.sections import Faults
    from strive.sweeps.table_spec import TableSpec

_DEFAULTS = {"alpha": 0.05, "shape": 0.25}
_KEYS = ("looks", *_DEFAULTS)
MOST_LOOKS = 20
_EXAMPLE = "seeds: {looks: [5, 8, 12, 20]}"


@dataclass(frozen=True, slots=True)
class LookSpec:
    """Seeds that are added until each line is decided, in looks that are fixed beforehand."""

    looks: tuple[int, ...]  # number of seeds at each look
    alpha: float = _DEFAULTS["alpha"]  # chance of any wrong verdict, both ways together
    shape: float = _DEFAULTS["shape"]  # of the boundaries: 0 is O'Brien and Fleming's, 0.5 Pocock's


def read_looks(value: Any, faults: "Faults") -> LookSpec | None:
    """Return the looks; None if the file has none, or after adding a fault."""
    if value is None:
        return None
    entry = faults.mapping("seeds", value, "looks: [NUMBERS OF SEEDS], alpha and shape")
    faults.unknown("seeds: ", entry, _KEYS)
    before = len(faults.lines)
    looks = entry.get("looks")
    if not (
        isinstance(looks, list)
        and 1 <= len(looks) <= MOST_LOOKS
        and all(type(each) is int and each >= 2 for each in looks)
        and all(one < other for one, other in pairwise(looks))
    ):
        faults.add(
            f"seeds: looks must be 1 to {MOST_LOOKS} rising numbers of seeds, each 2 or more, as in {_EXAMPLE}; got"
            f" {looks!r}"
        )
    alpha, shape = (_number(entry.get(name, _DEFAULTS[name])) for name in ("alpha", "shape"))
    if not (alpha is not None and 1e-6 <= alpha <= 0.5):
        faults.add(f"seeds: alpha must be from 1e-6 to 0.5, got {entry['alpha']!r}")
    if not (shape is not None and 0 <= shape <= 0.5):
        faults.add(f"seeds: shape must be from 0 to 0.5, got {entry['shape']!r}")
    if alpha is None or shape is None or not isinstance(looks, list) or len(faults.lines) > before:
        return None
    return LookSpec(tuple(looks), alpha, shape)


def _number(value: Any) -> float | None:
    given = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if given else None


def check_looks(looks: LookSpec | None, table: "TableSpec | None", faults: "Faults") -> None:
    """Add a fault for each part of the table that looks need and that is not there, or that they do not go with."""
    if looks is None:
        return
    if table is None or not table.baseline:
        faults.add("seeds: looks decide whether a line is as good as its baseline: give table: {baseline: ...}")
    if table is None or not table.margin:
        faults.add("seeds: looks decide against a margin: give table: {margin: ...}, the loss that counts as none")
    if table is not None and table.select:
        faults.add("seeds: table: select chooses by the cells that are looked at; choose in another sweep (choose)")
    if table is not None and "seed" in table.keys:
        faults.add("seeds: looks are taken over seeds, so seed cannot be in rows or columns of the table")
