"""Trains a launch as jobs of SLURM: submits it and waits for it, leaves it or cancels. Imports no torch."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from strive import signals
from strive.cells.task import CellOutcome
from strive.format import counted
from strive.launch.launch_folder import Launch
from strive.launch.live_view import LiveView
from strive.options import SlurmOptions
from strive.slurm.jobs import SlurmJobs
from strive.slurm.watch import JobWatcher


def train_on_slurm(launch: Launch, waiting: Mapping[str, str], options: SlurmOptions) -> dict[str, CellOutcome]:
    """Train a launch's cells in SLURM jobs and return how each one ended; None where that is not known yet.

    Cells that an earlier launch has in the queue are waited for, and submitted only if that job
    ends without them. With options.detach, or when the user leaves at Ctrl-C, the jobs go on; the
    same command comes back to them.

    waiting: {cell: job} of the cells in the queue.

    Raises SubmitError or QueueError if SLURM takes no jobs, SnapshotError if the code cannot be frozen.
    """
    options.validate()
    jobs = SlurmJobs(launch.folder, options)
    folders = {task.cell: task.folder for task in jobs.tasks}
    work = {task.cell: task.work for task in jobs.tasks}
    with_job = {cell: waiting[cell] for cell in folders if cell in waiting}
    view = LiveView(folders, total=len(folders), done=0, title=launch.sweep, work=work)
    watch = JobWatcher(jobs, options, with_job, view)
    with _signals_noted():
        watch.begin()
        while not watch.over:
            with view:
                watch.wait()
            if reason := signals.requested():
                signals.forget()
                _on_signal(reason, watch)
    return watch.ended


@contextmanager
def _signals_noted() -> Iterator[None]:
    """Let signals only set a flag: an interrupt between sbatch and its bookkeeping would lose a job."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals.forget()


def _on_signal(reason: str, watch: JobWatcher) -> None:
    """Cancel the jobs, detach or go on waiting, as the user chooses after a signal."""
    answer = _asked(watch.num_jobs()) if reason == "SIGINT" else "d"
    if answer == "c":
        watch.cancel()
    elif answer in ("d", ""):
        watch.detach()


def _asked(num_jobs: int) -> str:
    if not sys.stdin.isatty():
        return "d"
    print(
        f"{counted(num_jobs, 'SLURM job')} queued or running. c = cancel, d = detach: leave them alone (default),"
        " anything else = go on waiting",
        file=sys.stderr,
    )
    noted = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input("> ").strip().lower()
    except (EOFError, KeyboardInterrupt):
        return "d"
    finally:
        signal.signal(signal.SIGINT, noted)
