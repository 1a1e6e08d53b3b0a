"""Snapshot of a cell's folder, for trackers. Imports no torch."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from strive import app
from strive.cells import records
from strive.cells.history import HISTORY, read_lines, step_in
from strive.cells.lease import Owner
from strive.cells.records import Record
from strive.cells.state import living_owner
from strive.cells.wandb_run import WandbRun, read_wandb_run

_CONFIG = "config.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFiles:
    """One cell's files, read once."""

    cell: str
    folder: Path  # of the training: the cell's, or the one of a training that is to replace its result
    config: dict[str, Any]  # every knob, as {dotted key: value}
    epochs: list[str]  # lines of its history
    owner: Owner | None  # who trains it now
    record: Record | None  # how it ended; None while it trains
    record_text: str  # of record.json; "" while it trains
    wandb_run: WandbRun | None = None  # that the app has begun itself

    @property
    def is_replacing(self) -> bool:
        """Whether the training is to replace the cell's result."""
        return self.folder.name == records.RETRAINING

    @property
    def cell_folder(self) -> Path:
        """The cell's own folder."""
        return self.folder.parent if self.is_replacing else self.folder

    @property
    def state(self) -> str:
        """How the cell stands: its status, or training, or stopped."""
        if self.record is not None:
            return self.record.status.value
        return "training" if self.owner else "stopped"

    @property
    def is_offline(self) -> bool:
        """Whether the app keeps a W&B run of its own on disk, which `wandb sync` uploads."""
        return self.wandb_run is not None and not self.wandb_run.url

    def rows(self, first: int) -> list[dict[str, Any]]:
        """Return the numbers of the lines from `first` on (0 is the first), without those that are null."""
        name_of_step = step_name()
        steps = filter(None, (step_in(line.encode()) for line in self.epochs[first:]))
        return [
            {name_of_step: each.step} | {name: value for name, value in each.values.items() if value is not None}
            for each in steps
        ]


def step_name() -> str:
    """Return under which name W&B has the steps of the app in use: what its labels call a step."""
    return app.in_use().labels().step


def read_cell_files(folder: Path) -> CellFiles | None:
    """Return what lies in a cell's folder, or None if its training has left nothing yet.

    Raises RecordError for a record that cannot be trusted.
    """
    owner = living_owner(folder)
    record, text = (None, "") if owner else _record(folder)
    replacing = folder / records.RETRAINING
    place = replacing if owner and (replacing / _CONFIG).exists() else folder
    config = record.flat if record else _config(place / _CONFIG)
    if config is None:
        return None
    return CellFiles(
        cell=folder.name,
        folder=place,
        config=config,
        # A file that somebody damaged ends where the damage begins.
        epochs=[line.decode() for line in itertools.takewhile(step_in, read_lines(place))],
        owner=owner,
        record=record,
        record_text=text,
        wandb_run=read_wandb_run(place),
    )


def cell_stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes when a cell, or a plan, has something new to show."""
    found = []
    for name in ("record.json", HISTORY, f"{records.RETRAINING}/{HISTORY}", "claim", "plan.json"):
        try:
            status = (folder / name).stat()
            found += [status.st_mtime_ns, status.st_ino]
        except OSError:
            found += [0, 0]
    return tuple(found)


def _record(folder: Path) -> tuple[Record | None, str]:
    path = folder / "record.json"
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    return records.parse_record(content, path), content.decode("utf-8")


def _config(path: Path) -> dict[str, Any] | None:
    """Return what identity.to_yaml wrote, flat again; None if it is not there, or no such file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(content, dict):
        return None
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat
