"""The design of looks as it was fixed at the first one: looks.json beside the plan. Imports no torch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from strive.cells.records import write_whole
from strive.decoding import convert
from strive.errors import RecordError

NAME = "looks.json"
SCHEMA = 1


class FixedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the table."""

    label: str
    baseline: str  # its label
    cells: list[str]  # of the first seeds up to the last look, in the order of the file
    baseline_cells: list[str]


class FixedLooks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may not change from the first look on."""

    looks: list[int]
    alpha: float
    shape: float
    margin: float  # in units of the table
    metric: str
    better: str  # lower or higher
    seeds: list[Any]  # up to the last look, in the order of the file
    lines: list[FixedLine]
    time: str = ""  # when it was fixed: UTC, ISO 8601
    done_before: int = 0  # cells of the first look that were done when this was written
    resolution: float | None = None  # step between two values of the metric at the first look; None before it

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read what was fixed, in the folder of a plan; None if nothing was. Raises RecordError for a damaged file."""
        path = folder / NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            return convert(content, cls)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecordError(f"{path}: not the looks of this version ({error})") from None

    def write(self, folder: Path) -> None:
        """Write looks.json into the folder of a plan."""
        content = {"schema": SCHEMA} | msgspec.to_builtins(self)
        write_whole(folder / NAME, (json.dumps(content, indent=1) + "\n").encode())

    @property
    def first_look(self) -> list[tuple[str, ...]]:
        """Return for each line the cells, its baseline's too, without which it has no first look."""
        share = self.looks[0] / self.looks[-1]
        counts = (round(share * len(line.cells)) for line in self.lines)
        return [
            (*line.cells[:count], *line.baseline_cells[:count]) for line, count in zip(self.lines, counts, strict=True)
        ]

    def changes(self, now: "FixedLooks") -> list[str]:
        """Return what is different now, a clause each."""
        return [*self._values(now), *self._lines(now)]

    def _values(self, now: "FixedLooks") -> Iterator[str]:
        for name in ("looks", "alpha", "shape", "margin", "metric", "better", "seeds"):
            before, after = getattr(self, name), getattr(now, name)
            if before != after:
                was, is_ = ("were", "are") if isinstance(before, list) else ("was", "is")
                yield f"{name} {was} {before} and {is_} {after}"

    def _lines(self, now: "FixedLooks") -> Iterator[str]:
        if self.seeds != now.seeds:
            return  # other seeds are other cells
        before, after = (sorted((each.cells, each.baseline_cells) for each in one.lines) for one in (self, now))
        if before == after:
            return
        then = {each.label: each for each in self.lines}
        new = {each.label: each for each in now.lines}
        yield from (f"line {label} is new" for label in new if label not in then)
        yield from (f"line {label} is gone" for label in then if label not in new)
        for label in [label for label in then if label in new]:
            if then[label].baseline_cells != new[label].baseline_cells or then[label].cells != new[label].cells:
                yield f"line {label} has other cells"
