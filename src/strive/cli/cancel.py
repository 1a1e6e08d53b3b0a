"""`strive cancel`: stops a sweep wherever it trains. Imports no torch."""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from strive.cells.checkpoints import has_checkpoint
from strive.cells.lease import Owner, live_owner
from strive.cells.records import write_whole
from strive.cells.task import Task
from strive.cli.launched_sweep import LaunchedSweep, add_sweep, launched_sweep
from strive.console import CONSOLE
from strive.errors import UsageError
from strive.format import counted
from strive.plain_text import printable
from strive.slurm.live_jobs import LiveJobs

HELP = """\
Stop a sweep: its launcher, its SLURM jobs and every `strive work` that trains
its cells, on whichever machine. Each cell that can writes a checkpoint first;
the sweep's own command goes on from there.

  %(prog)s heads
  %(prog)s heads --wait 5      says after 5 minutes what still trains"""
EXIT = """\
exit code: 0 if nothing trains any more, 1 if something still does, 2 if there
is no such sweep."""
_LOOK_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sweep, and how long to wait for its end."""
    add_sweep(parser)
    parser.add_argument(
        "--wait", type=float, default=2.0, metavar="MINUTES", help="for cells to leave with a checkpoint (default: 2)"
    )


def run(options: argparse.Namespace) -> int:
    """Stop it; return the exit code. Raises UsageError for a negative number of minutes."""
    if not options.wait >= 0:
        raise UsageError(f"--wait {options.wait}: minutes, 0 or more")
    sweep = launched_sweep(options)
    for launch in sweep.own:
        write_whole(launch.cancel_file, b"", durable=False)
    _cancel_jobs(sweep)
    tasks = _tasks(sweep)
    end = time.monotonic() + 60 * options.wait
    if owned := _owned(tasks):
        print(f"waits for {counted(len(owned), 'cell')} in training", file=sys.stderr)
    while (owned := _owned(tasks)) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    for cell, owner in owned.items():
        print(printable(f"{cell}: still trained by {owner}"), file=sys.stderr)
    open_ = [task for task in tasks if task.result() is None]
    begun = sum(has_checkpoint(task.folder) for task in open_)
    CONSOLE.print(
        f"{sweep.name}: {counted(len(tasks) - len(open_), 'cell')} of its launches with a result, {begun} with a"
        f" checkpoint, {len(open_) - begun} without; the sweep's own command goes on"
    )
    return 1 if owned else 0


def _cancel_jobs(sweep: LaunchedSweep) -> None:
    """Cancel the SLURM jobs of the sweep's launches; at SIGTERM, which SLURM sends first, cells write checkpoints."""
    folders = {launch.folder for launch in sweep.own}
    live = LiveJobs(sweep.launches)
    jobs = {job.id for job in live.by_cell().values() if job.launch.folder in folders}
    if live.queue_error:
        print(f"SLURM was not asked: {printable(live.queue_error)}", file=sys.stderr)
    if jobs:
        done = subprocess.run(["scancel", *sorted(jobs)], capture_output=True, text=True)
        failed = f": {printable(done.stderr.strip())}" if done.stderr.strip() else ""
        print(f"cancelled {counted(len(jobs), 'SLURM job')}{failed}", file=sys.stderr)


def _tasks(sweep: LaunchedSweep) -> list[Task]:
    """Return the cells of all launches, in this runs folder: their own paths are those of the launch's folder."""
    tasks = {task.cell: task for launch in sweep.own for task in launch.tasks}
    return [replace(task, settings=replace(task.settings, runs=str(sweep.runs))) for task in tasks.values()]


def _owned(tasks: Sequence[Task]) -> dict[str, Owner]:
    """Return {cell: its owner} of the cells that a process trains."""
    return {task.cell: owner for task in tasks if (owner := live_owner(task.folder)) is not None}
