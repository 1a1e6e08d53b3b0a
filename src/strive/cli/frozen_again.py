"""Training of a cell again as its launch has frozen it, for apps that are started as the user's own program."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from strive import signals
from strive.cells import records
from strive.cells.task import Task, read_tasks
from strive.config.platform_keys import Tracker, TrackerConfig
from strive.errors import RecordError, StoppedError, UsageError
from strive.hydra_app.program import ENVIRONMENT, FILE
from strive.launch.local import train_locally
from strive.launch.submission import Submission
from strive.options import LocalOptions


def train_frozen(cell: str, runs: Path, again: Path) -> None:
    """Train a cell of a runs folder again, so that its record is written to `again`.

    Raises UsageError if no launch in the folder has the cell, StoppedError if a signal stopped it.
    """
    launch, task = _newest(cell, runs)
    os.environ[ENVIRONMENT] = str((launch / FILE).absolute())
    settings = replace(
        task.settings, runs=str(again.parent.parent.absolute()), tracker=TrackerConfig(kind=Tracker.none)
    )
    replaces = records.file_hash(again) if again.exists() else ""
    print(f"trains {cell} again, into {again.parent.parent}", file=sys.stderr)
    signals.listen()
    with tempfile.TemporaryDirectory(prefix="strive-again-") as folder:
        (Path(folder) / "logs").mkdir()
        submission = Submission(Path(folder), [replace(task, settings=settings, replaces=replaces, code="")])
        ended = train_locally(submission, LocalOptions(), title=f"{cell} again")
    if reason := signals.requested():
        raise StoppedError(f"stopped by {reason}")
    if not again.exists():
        raise RecordError(f"{cell} was not trained: {ended[cell].cause if cell in ended else 'it did not begin'}")


def _newest(cell: str, runs: Path) -> tuple[Path, Task]:
    """Return the folder of the newest launch that trained a cell, and the cell as it was frozen there."""
    for launch in _launches(runs):
        for task in read_tasks(launch / "tasks.jsonl"):
            if task.cell == cell:
                return launch, task
    raise UsageError(
        f"{cell} cannot be trained again: no launch below {runs / 'sweeps'} has it; a copy of the records alone is not"
        " enough"
    )


def _launches(runs: Path) -> Iterator[Path]:
    """Yield the folders of launches of a user's own program, the newest first."""
    found = [path.parent for path in runs.glob(f"sweeps/*/*/{FILE}") if (path.parent / "tasks.jsonl").exists()]
    yield from sorted(found, key=lambda folder: folder.name, reverse=True)
