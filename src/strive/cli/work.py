"""`strive work`: trains the cells of a launched sweep that nobody trains. Imports no torch."""

import argparse
import os
import secrets
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from strive import signals
from strive.cells import records
from strive.cells.lease import live_owner
from strive.cells.state import CellState
from strive.cells.task import Task
from strive.cli.launched_sweep import add_sweep, launched_sweep
from strive.console import CONSOLE
from strive.errors import RecordError, StoppedError, UsageError
from strive.format import counted
from strive.hydra_app.program import ENVIRONMENT, FILE
from strive.launch.launch_folder import Launch
from strive.launch.local import train_locally
from strive.options import LocalOptions

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
        ended = train_locally(self.launch, tasks, self.options, process=process, idle_seconds=idle_seconds)
        if reason := signals.requested():
            raise StoppedError(f"stopped by {reason}")
        return any(end.status is not None for end in ended.values())

    def state(self, task: Task) -> CellState:
        """Return done, failed (since it was stored), or missing: to be trained."""
        try:
            record = records.read_record(records.record_path(task.folder.parent, task.cell))
        except (OSError, RecordError):
            return CellState.missing  # the worker says what is wrong with it
        if record.status.finished:
            return CellState.missing if task.record_hash() == task.replaces else CellState.done
        return CellState.missing if record.provenance.finished < self.launch.time else CellState.failed

    def left(self) -> list[Task]:
        """Return the cells that are to be trained."""
        return [task for task in self.tasks if self.state(task) is CellState.missing]


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
    """Train; return the exit code. Raises UsageError for a launch that is cancelled, or cannot be worked on here."""
    if not options.wait >= 0:
        raise UsageError(f"--wait {options.wait}: minutes, 0 or more")
    sweep = launched_sweep(options)
    stored = _stored(sweep.newest, sweep.runs)
    signals.listen()
    todo = stored.left()
    # Not all from the same end, or each process would find the cells of the others first.
    first = secrets.randbelow(len(todo)) if todo else 0
    todo = todo[first:] + todo[:first]
    if options.once:
        free = (task for task in todo if live_owner(task.folder) is None)
        next((task for task in free if stored.train([task], idle_seconds=0.0)), None)
    elif todo:
        stored.train(todo, idle_seconds=60 * options.wait)
    return _verdict(sweep.name, stored)


def _stored(launch: Launch, runs: Path) -> _Stored:
    """Return the launch's cells, and be in the folder where it was launched. Raises UsageError."""
    if launch.cancel_file.exists():
        raise UsageError(
            f"{launch.sweep} was cancelled; the sweep's own command, with hydra.launcher.detach=true if"
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


def _verdict(name: str, stored: _Stored) -> int:
    """Print how the cells stand, and return the exit code."""
    states = {task.cell: stored.state(task) for task in stored.tasks}
    count = Counter(states.values())
    failed, left = count[CellState.failed], count[CellState.missing]
    open_ = [task for task in stored.tasks if states[task.cell] is CellState.missing]
    others = sum(live_owner(task.folder) is not None for task in open_)
    parts = [counted(count[CellState.done], "cell") + " of this launch with a result"]
    parts += [f"{failed} failed (strive status {name} says why)"] if failed else []
    parts += [f"{left} left, {others} of them in training elsewhere"] if left else []
    CONSOLE.print(f"{name}: {', '.join(parts)}")
    return 1 if failed else 3 if left else 0
