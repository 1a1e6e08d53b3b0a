"""The state of a sweep with looks: its lines, in words, and the cells that the next look needs."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from msgspec import structs

from strive.cells import records
from strive.format import counted
from strive.results import judged_lines
from strive.results.conditions import Condition
from strive.results.fixed_looks import FixedLooks
from strive.results.judged_lines import conditions_of, declared_looks, resolution
from strive.results.line_look import looks_text
from strive.results.load import Loaded
from strive.results.record_row import MISSING
from strive.results.table_choice import declared_table
from strive.sweeps.labels import in_sentence
from strive.sweeps.table_spec import TableSpec

_LINES = 40  # lines of the table that are said one by one


@dataclass(frozen=True, kw_only=True, slots=True)
class LookState:
    """A sweep with looks, as its cells are now."""

    loaded: Loaded
    layout: TableSpec
    conditions: Sequence[Condition]
    kept: FixedLooks | None = None  # looks.json as this launch found it; None if there was none

    @classmethod
    def of(cls, loaded: Loaded) -> Self | None:
        """Return the state; None if neither the sweep file has looks nor any were fixed.

        Raises ConfigError for a faulty sweep file.
        """
        layout = declared_table(loaded)
        if layout.looks is None and loaded.fixed_looks is None:
            return None
        return cls(loaded=loaded, layout=layout, conditions=conditions_of(loaded, layout, mix=False))

    @classmethod
    def at_launch(cls, loaded: Loaded, *, without: Iterable[str] = ()) -> Self:
        """Return the state of a sweep with looks that is launched now.

        Until a line has had its first look, the design is the sweep file's; from then on it is that of looks.json.

        without: cells whose results do not count, because they are to be trained again.

        Raises ConfigError for a faulty sweep file, and for cells that do not go with the looks: too few seeds, or a
        condition without baseline.
        """
        layout, kept = declared_table(loaded), loaded.fixed_looks
        again = loaded.cells["cell"].isin(list(without))
        if again.any():
            status, dead = loaded.cells["status"].mask(again, MISSING), loaded.cells["dead"].mask(again, None)
            loaded = replace(loaded, cells=loaded.cells.assign(status=status, dead=dead))
        declared = declared_looks(loaded, layout)
        if kept is None or not _has_looked(kept, loaded.folders):
            loaded = replace(loaded, fixed_looks=declared)
        conditions = conditions_of(loaded, layout, mix=False)
        return cls(loaded=loaded, layout=layout, conditions=conditions, kept=kept)

    @property
    def lines(self) -> list[Condition]:
        """Return the conditions that are looked at."""
        return [condition for condition in self.conditions if condition.look is not None]

    @property
    def withheld(self) -> str:
        """Return why no line gets a verdict, "" if lines do."""
        return next((condition.withheld for condition in self.conditions if condition.withheld), "")

    @property
    def needed(self) -> frozenset[str]:
        """Return the cells that the looks so far and the next one need, trained or not."""
        return frozenset(cell for condition in self.conditions for cell in condition.needed)

    @property
    def not_needed(self) -> frozenset[str]:
        """Return the cells that no look needs so far."""
        return judged_lines.not_needed(self.loaded, self.conditions)

    @staticmethod
    def not_needed_lines(count: int) -> list[str]:
        """Return the line that so many cells are needed by no look so far; [] for none."""
        if not count:
            return []
        return [f"{counted(count, 'more cell')} of the sweep {'is' if count == 1 else 'are'} not needed so far"]

    @property
    def waits(self) -> bool:
        """Return whether a line needs another look."""
        return any(each.look.waits for each in self.lines if each.look)

    @property
    def mean_seconds(self) -> float | None:
        """Return how long a cell of this sweep takes, from those that are done; None if none is."""
        seconds = self.loaded.cells["train_seconds"][self.loaded.cells["status"] == "done"].dropna()
        return float(seconds.mean()) if len(seconds) else None

    def hours_spent(self) -> float:
        """Return for how many hours cells were trained since the looks were fixed."""
        if self.kept is None:
            return 0.0
        cells = self.loaded.cells
        since = (cells["status"] != MISSING) & (cells["finished"].map(str) >= self.kept.time)
        return math.fsum(cells["train_seconds"][since].dropna()) / 3600

    def text(self) -> Iterator[str]:
        """Yield how the looks stand, a line for each."""
        if self.withheld:
            yield self.withheld
            return
        if self.layout.looks is None:  # they were fixed, and the sweep file has none any more
            return
        margin = self.layout.value.amount(self.layout.margin)
        yield f"{counted(len(self.lines), 'line')} with a margin of {margin}, {looks_text(self.layout.looks.looks)}"
        for condition in self.lines[:_LINES]:
            assert condition.look is not None
            against = f"{condition.label} against {in_sentence(condition.baseline)}"
            yield f"  {against}: {condition.look.at}: {condition.look.verdict}"
        if len(self.lines) > _LINES:
            yield f"  and {len(self.lines) - _LINES} more"

    # -- of a sweep that is launched now

    def changes(self) -> str:
        """Return what has changed since the first look; "" before it, and if nothing has."""
        assert self.loaded.fixed_looks is not None
        return "; ".join(self.loaded.fixed_looks.changes(declared_looks(self.loaded, self.layout)))

    def fix(self, folder: Path) -> None:
        """Keep the looks in the plan's folder; after the first look as they were then."""
        fixed = self.loaded.fixed_looks
        assert fixed is not None
        if self.kept is None or self.kept.changes(fixed):
            done = {str(cell) for cell in self.loaded.cells["cell"][self.loaded.cells["status"] == "done"]}
            first = {cell for line in fixed.first_look for cell in line}
            fixed = structs.replace(fixed, time=records.utc_now(), done_before=len(first & done))
        else:
            fixed = self.kept
        if fixed.resolution is None and any(each.look.n for each in self.lines if each.look):
            fixed = structs.replace(fixed, resolution=resolution(self.loaded, self.layout))
        if fixed != self.kept:
            fixed.write(folder)


def _has_looked(fixed: FixedLooks, folders: Sequence[Path]) -> bool:
    """Return whether a line has all cells of its first look."""
    return any(
        all(any(records.has_result(folder, cell) for folder in folders) for cell in cells) for cells in fixed.first_look
    )
