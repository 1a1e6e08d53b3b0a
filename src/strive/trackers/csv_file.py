"""Tracker `csv`: one file with every step of every cell of a sweep, for a spreadsheet or pandas. Imports no torch."""

import csv
import io
import time
from pathlib import Path
from typing import Any

from strive.cells.records import write_whole
from strive.config import identity
from strive.errors import RecordError
from strive.trackers.cell_files import CellFiles, cell_stamp, read_cell_files, step_name
from strive.trackers.tracker import CellTracker, Shown, plan_in

NAME = "history.csv"
_WRITE_SECONDS = 10.0  # between two writes of the whole file


class CsvFile(CellTracker):
    """The file of a sweep, written whole: whoever writes it last has read all of the sweep's cells."""

    def __init__(self, folder: Path, runs: Path) -> None:
        """folder: of the sweep's plan; without a plan, of the one cell. runs: folder of the cells."""
        self._path, self._runs = folder / NAME, runs
        plan = plan_in(folder)
        self._keys = plan.varying if plan else []
        self._cells = [cell.cell for cell in plan.cells] if plan else [folder.name]
        self._rows: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {}  # {cell: (stamp of its files, rows)}
        self._written, self._new = float("-inf"), False

    def show(self, files: CellFiles, *, last: bool) -> Shown:
        """Write the file again, if it is time."""
        self._new = True
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self.close()
        return Shown.whole

    def close(self) -> None:
        """Write the file."""
        if self._new:
            self._written, self._new = time.monotonic(), False
            write_whole(self._path, self._text().encode(), durable=False)

    def _text(self) -> str:
        for cell in self._cells:
            stamp = cell_stamp(self._runs / cell)
            if cell not in self._rows or self._rows[cell][0] != stamp:
                self._rows[cell] = stamp, self._read(cell)
        rows = [row for _, own in self._rows.values() for row in own]
        first = ["cell", *self._keys, "status", step_name()]
        logged = dict.fromkeys(name for row in rows for name in row if name not in first)
        text = io.StringIO()
        table = csv.DictWriter(text, [*first, *sorted(logged, key=lambda name: name.startswith("result."))])
        table.writeheader()
        table.writerows(rows)
        return text.getvalue()

    def _read(self, cell: str) -> list[dict[str, Any]]:
        """Return a row for each step of a cell; the last one has its result."""
        try:
            files = read_cell_files(self._runs / cell)
        except RecordError:
            files = None  # status and tables name it
        if files is None:
            return []
        config = identity.with_argument_keys(files.config)
        own = {"cell": cell, "status": files.state} | {key: config.get(key, "") for key in self._keys}
        rows = [own | row for row in files.rows(0)] or [own]
        if files.record is not None:
            rows[-1] |= {f"result.{name}": value for name, value in files.record.metrics.items()}
        return rows
