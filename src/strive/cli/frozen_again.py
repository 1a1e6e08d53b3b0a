"""Training of a cell again as its launch has frozen it, for apps that are started as the user's own program."""

import difflib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from strive import signals
from strive.cells import records
from strive.cells.records import Record
from strive.cells.task import Task, read_tasks
from strive.config.platform_keys import Tracker, TrackerConfig
from strive.errors import ConfigError, RecordError, StoppedError, UsageError
from strive.hydra_app.frozen import with_overrides
from strive.hydra_app.program import ENVIRONMENT, FILE, Program, read_program, write_program
from strive.launch.launch_folder import write_launch
from strive.launch.local import train_locally
from strive.options import LocalOptions
from strive.sweeps.override_syntax import bare_key
from strive.sweeps.plan import StoredPlan


def train_frozen(record: Record, runs: Path, again: Path, overrides: Sequence[str] = ()) -> None:
    """Train a record's cell again, with the record's threads, so that the new record is written to `again`.

    runs: the folder of the record. overrides: KEY=VALUE of logistics.

    Raises UsageError if no launch in the folder has the cell, or its program is gone; ConfigError for an override that
    is not of its logistics; StoppedError if a signal stopped it.
    """
    launch, task = _newest(record.cell, runs)
    _check(overrides, task)
    settings = replace(
        task.settings,
        runs=str(again.parent.parent.absolute()),
        tracker=TrackerConfig(kind=Tracker.none),
        threads=record.provenance.threads,
    )
    replaces = records.file_hash(again) if again.exists() else ""
    frozen = with_overrides(task.frozen, overrides, task.logistics) if overrides else task.frozen
    program = program_here(record.cell, launch)
    print(f"trains {record.cell} again, into {again.parent.parent}", file=sys.stderr)
    signals.listen()
    with tempfile.TemporaryDirectory(prefix="strive-again-") as folder:
        os.environ[ENVIRONMENT] = str(write_program(Path(folder), program))
        task = replace(task, settings=settings, replaces=replaces, code="", frozen=frozen)
        alone = write_launch(Path(folder), [task], "local")
        ended = train_locally(alone, [task], LocalOptions(), title=f"{record.cell} again")
    if reason := signals.requested():
        raise StoppedError(f"stopped by {reason}")
    if not again.exists() or records.file_hash(again) == replaces:  # that of an earlier reproduction is kept
        cause = ended[record.cell].cause if record.cell in ended else "it did not begin"
        raise RecordError(f"{record.cell} was not trained: {cause}")


def _check(overrides: Sequence[str], task: Task) -> None:
    """Raise ConfigError for a key that is not of the cell's logistics."""
    legal = [key for key in task.logistics if "[" not in key]
    for text in overrides:
        key = bare_key(text)
        if key not in legal:
            where = f"here {', '.join(legal) or 'nothing'} can be set"
            if any(f"{name}.".startswith(f"{key}.") for name in task.config):
                raise ConfigError(f"{text} would make it another cell; {where}")
            close = difflib.get_close_matches(key, legal, n=1)
            raise ConfigError(f"there is no key {key}{f'; did you mean {close[0]}?' if close else ''}; {where}")


def program_here(cell: str, launch: Path) -> Program:
    """Return how the app of a launch is started, with its code as it is here: that of a SLURM job was copied.

    Raises UsageError if its file or folder is gone.
    """
    with suppress(OSError, RecordError, msgspec.ValidationError):
        if start := StoredPlan.read(launch.parent).start:
            program = msgspec.convert(start, Program)
            gone = [path for path in (program.file, program.folder) if path and not os.path.exists(path)]
            if gone:
                raise UsageError(
                    f"{cell} cannot be trained again: its sweep was launched with {gone[0]}, which is gone;"
                    " launch it again from where it is now"
                )
            return program
    return read_program(launch / FILE)


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
