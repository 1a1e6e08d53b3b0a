"""The table of cells without a number, with their causes."""

from collections import Counter
from collections.abc import Collection

from strive.format import counted
from strive.results.failures import holes_note
from strive.results.load import Loaded
from strive.tables.table import Column, Entry, Row, Table


def hole_table(loaded: Loaded, not_needed: Collection[str] = ()) -> Table | None:
    """Return all cells without a number, with the cause; None if there are none.

    not_needed: cells that are no holes, because the looks do without them.
    """
    holes = loaded.cells[(loaded.cells["status"] != "done") & ~loaded.cells["cell"].isin(list(not_needed))]
    rows = [
        Row(entries=(Entry(text=cell), Entry(text=status.replace("_", " ")), Entry(text=cause)))
        for cell, status, cause in zip(holes["cell"], holes["status"], holes["cause"], strict=True)
    ]
    if not rows:
        return None
    number, statuses = len(loaded.cells) - len(not_needed), Counter(map(str, holes["status"])).most_common()
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in statuses)
    return Table(
        name="holes",
        title="Cells without a number",
        caption=f"Of {counted(number, 'cell')}: {counts}. {holes_note(looks=bool(not_needed))}",
        columns=tuple(Column(title=title, numeric=False) for title in ("cell", "status", "cause")),
        rows=tuple(rows),
        latex=False,
    )
