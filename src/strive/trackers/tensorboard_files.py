"""Tracker `tensorboard`: event files, by TensorBoard's own writer. Imports tensorboard, and no torch."""

import json
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from strive.config import identity
from strive.trackers.cell_files import CellFiles, step_name
from strive.trackers.tracker import CellTracker, Shown, plan_in

FOLDER = "tensorboard"


class TensorBoardFiles(CellTracker):
    """A folder for each cell, with its history as scalars, its result, and the values that the sweep varies."""

    def __init__(self, folder: Path) -> None:
        """folder: of the sweep's plan; without a plan, of the one cell."""
        self._folder = folder / FOLDER
        self._plan = plan_in(folder)
        self._cells: dict[str, _CellEvents] = {}

    def show(self, files: CellFiles, *, last: bool) -> Shown:
        """Add the steps and the result that are not there yet."""
        events = self._cells.get(files.cell)
        if events is None or not events.goes_on(files):
            # Other events of the cell are of an earlier launch, or of a training that began again.
            if events is not None:
                events.close()
            events = self._cells[files.cell] = _CellEvents(self._place(files), self._varied(files))
        events.add(files)
        return Shown.whole

    def close(self) -> None:
        """Write what is left, and close the files."""
        for events in self._cells.values():
            events.close()

    def _place(self, files: CellFiles) -> Path:
        return self._folder / files.cell if self._plan else self._folder

    def _varied(self, files: CellFiles) -> dict[str, Any]:
        """Return what the sweep varies, with the cell's values, as TensorBoard takes them."""
        config = identity.with_argument_keys(files.config)
        found = {key: config[key] for key in (self._plan.varying if self._plan else []) if key in config}
        plain = (bool, int, float, str)
        return {key: value if isinstance(value, plain) else json.dumps(value) for key, value in found.items()}


class _CellEvents:
    """The event file of one cell; its folder has no other."""

    def __init__(self, folder: Path, varied: dict[str, Any]) -> None:
        for path in folder.glob("events.out.tfevents.*"):
            path.unlink(missing_ok=True)
        self._writer = EventFileWriter(str(folder))
        self._lines: list[str] = []  # of the history that were written
        self._result = ""  # the record that was written
        if varied:
            self._write(Event(summary=hparams_pb(varied)))

    def goes_on(self, files: CellFiles) -> bool:
        """Return whether what was written is still how the cell's history begins, and its result is the same."""
        same = files.epochs[: len(self._lines)] == self._lines
        return same and self._result in ("", files.record_text)

    def add(self, files: CellFiles) -> None:
        """Write what is new."""
        for row in files.rows(len(self._lines)):
            self._scalars(int(row.pop(step_name())), row)
        self._lines = list(files.epochs)
        if files.record is not None and not self._result:
            last = files.rows(len(self._lines) - 1) if self._lines else []
            step = int(last[-1][step_name()]) if last else 0
            self._scalars(step, {f"result/{name}": value for name, value in files.record.metrics.items()})
            self._result = files.record_text
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()

    def _scalars(self, step: int, numbers: dict[str, Any]) -> None:
        values = [Summary.Value(tag=name, simple_value=float(n)) for name, n in numbers.items() if n is not None]
        if values:
            self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.add_event(event)
