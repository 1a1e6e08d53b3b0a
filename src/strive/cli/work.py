"""`strive work`: trains the cells of a launched sweep that nobody trains. Imports no torch."""

import argparse
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from strive import signals
from strive.cells import records
from strive.cells.lease import owner_of, surely_dead
from strive.cells.task import Task
from strive.cli.launched_sweep import add_sweep, launched_sweep
from strive.console import CONSOLE
from strive.errors import RecordError, StoppedError, UsageError
from strive.format import counted
from strive.hydra_app.program import ENVIRONMENT, FILE
from strive.launch.local import train_locally
from strive.launch.submission import Submission
from strive.options import LocalOptions
from strive.slurm.launches import Launch

HELP = """\
Train whatever of a launched sweep nobody trains, until nothing is left. Any
number of these commands may run at once, in a second terminal or on other
machines that share the folders: under PBS, LSF, Kubernetes.

  python train.py -m hydra/sweeper=strive hydra/launcher=strive_local \\
      sweeps=heads hydra.launcher.detach=true       stores the cells
  %(prog)s heads                                 trains them
  %(prog)s heads --once                          trains one of them
  %(prog)s heads --wait 60                       waits an hour for cells of
                                                    others, should they die

Each cell is trained by one process, and goes on where its process died. A cell
that has failed since the launch is left as it is; the sweep's own command, with
hydra.launcher.detach=true again, stores it anew."""
EXIT = """\
exit code: 0 if every cell has a result, 1 if one has failed, 2 if there is no
such sweep, 3 if cells are left: others train them, or --once has done its one;
130 if stopped."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The cells of a launch, and where those stand that this process may train."""

    launch: Launch
    tasks: Sequence[Task]
    options: LocalOptions

    def train(self, tasks: Sequence[Task], *, idle_seconds: float) -> bool:
        """Train the cells; return whether one has ended here. Raises StoppedError."""
        process = f"work-{socket.gethostname()}-{os.getpid()}"
        submission = Submission(self.launch.folder, list(tasks), process=process)
        ended = train_locally(submission, self.options, title=self.launch.folder.parent.name, idle_seconds=idle_seconds)
        if reason := signals.requested():
            raise StoppedError(f"stopped by {reason}")
        return any(end.status is not None for end in ended.values())

    def is_open(self, task: Task) -> bool:
        """Return whether the cell has neither a result nor failed since it was stored."""
        try:
            record = records.read_record(records.record_path(task.folder.parent, task.cell))
        except (OSError, RecordError):
            return True  # the worker says what is wrong with it
        if record.status.finished:
            return task.result() is None
        return record.provenance.finished < self.launch.time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sweep, and for how long to train."""
    add_sweep(parser)
    parser.add_argument("--once", action="store_true", help="train one cell and end; waits for nobody")
    parser.add_argument(
        "--wait",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="how long to wait where others train all that is left (default: 10): a cell whose process dies is taken"
        " over",
    )


def run(options: argparse.Namespace) -> int:
    """Train; return the exit code."""
    if not options.wait >= 0:
        raise UsageError(f"--wait {options.wait}: minutes, 0 or more")
    sweep = launched_sweep(options)
    stored = _stored(sweep.newest, sweep.runs)
    signals.listen()
    todo = [task for task in stored.tasks if stored.is_open(task)]
    # Not all from the same end, or each process would find the cells of the others first.
    first = secrets.randbelow(len(todo)) if todo else 0
    todo = todo[first:] + todo[:first]
    if options.once:
        free = (task for task in todo if _is_free(task))
        next((task for task in free if stored.train([task], idle_seconds=0.0)), None)
    elif todo:
        stored.train(todo, idle_seconds=60 * options.wait)
    return _verdict(sweep.name, stored)


def _stored(launch: Launch, runs: Path) -> _Stored:
    """Return the launch's cells, and be in the folder where it was launched. Raises UsageError."""
    if launch.cancel_file.exists():
        raise UsageError(
            f"{launch.folder.parent.name} was cancelled; the sweep's own command, with hydra.launcher.detach=true if"
            " it is to train nothing itself, stores its cells anew"
        )
    launch, here = replace(launch, folder=launch.folder.absolute()), runs.absolute()
    try:
        tasks = launch.tasks
    except (OSError, ValueError) as error:
        raise UsageError(f"{launch.folder / 'tasks.jsonl'}: not the cells of a launch ({error})") from None
    folder = Path(launch.working_directory)
    if not folder.is_dir() or any((folder / task.settings.runs).resolve() != here.resolve() for task in tasks):
        raise UsageError(
            f"{launch.folder} was launched in {folder}, with records below that; {here} is not that folder. Start the"
            " command where the same paths lead to the same files"
        )
    os.chdir(folder)
    if (program := launch.folder / FILE).exists():
        os.environ[ENVIRONMENT] = str(program)
    return _Stored(launch, tasks, _options(launch))


def _options(launch: Launch) -> LocalOptions:
    """Return those options of a launch that say how cells train here; the time limit of a SLURM job says nothing."""
    here = {item.name for item in fields(LocalOptions)} - ({"timeout_min"} if launch.launcher == "slurm" else set())
    given = {name: value for name, value in launch.options.items() if name in here}
    return LocalOptions.of({**given, "detach": False})


def _is_free(task: Task) -> bool:
    owner = owner_of(task.folder)
    return owner is None or surely_dead(owner)


def _verdict(name: str, stored: _Stored) -> int:
    """Print how the cells stand, and return the exit code."""
    left = [task for task in stored.tasks if stored.is_open(task)]
    failed = [task for task in stored.tasks if task not in left and task.result() is None]
    others = sum(not _is_free(task) for task in left)
    parts = [counted(len(stored.tasks) - len(left) - len(failed), "cell") + " of this launch with a result"]
    parts += [f"{len(failed)} failed (strive status {name} says why)"] if failed else []
    parts += [f"{len(left)} left, {others} of them in training elsewhere"] if left else []
    CONSOLE.print(f"{name}: {', '.join(parts)}")
    return 1 if failed else 3 if left else 0
