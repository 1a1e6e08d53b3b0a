"""The `seeds` section of a sweep file: at how many seeds the lines of its table are looked at. Imports no torch."""

from typing import TYPE_CHECKING, Any

from strive.look_design import ALPHA, SHAPE, LookDesign, look_faults

if TYPE_CHECKING:
    from strive.sweeps.sections import Faults
    from strive.sweeps.table_spec import TableSpec


def read_looks(value: Any, faults: "Faults") -> LookDesign | None:
    """Return the looks; None if the file has none, or after adding a fault."""
    if value is None:
        return None
    entry = faults.mapping("seeds", value, "looks: [NUMBERS OF SEEDS], alpha and shape")
    given: dict[str, Any] = {"looks": None, "alpha": ALPHA, "shape": SHAPE} | entry
    faults.unknown("seeds: ", entry, ("looks", "alpha", "shape"))
    looks, alpha, shape = (given[name] for name in ("looks", "alpha", "shape"))
    if wrong := [*look_faults(looks, alpha, shape)]:
        for text in wrong:
            faults.add(f"seeds: {text}")
        return None
    return LookDesign(looks=tuple(looks), alpha=float(alpha), shape=float(shape))


def check_looks(looks: LookDesign | None, table: "TableSpec | None", faults: "Faults") -> None:
    """Add a fault for each part of the table that looks need and that is not there, or that they do not go with."""
    if looks is None:
        return
    if table is None or not table.baseline:
        faults.add("seeds: looks decide whether a line is as good as its baseline: give table: {baseline: ...}")
    if table is None or not table.margin:
        faults.add("seeds: looks decide against a margin: give table: {margin: ...}, up to which worse is equal")
    if table is not None and table.select:
        faults.add("seeds: table: select chooses by the cells that are looked at; choose in another sweep (choose)")
    if table is not None and "seed" in table.keys:
        faults.add("seeds: looks are taken over seeds, so seed cannot be in rows or columns of the table")
