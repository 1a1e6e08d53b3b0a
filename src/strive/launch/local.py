"""A sweep on this machine: worker processes, one on each GPU or several on the processor. Imports no torch."""

import math

from strive import app
from strive.cells.task import CellOutcome
from strive.console import CONSOLE
from strive.launch.live_view import LiveView
from strive.launch.pool import WorkerPool, slots
from strive.launch.submission import Submission
from strive.options import LocalOptions
from strive.trackers.session import session_of


def train_locally(
    submission: Submission, options: LocalOptions, *, title: str, idle_seconds: float = math.inf
) -> dict[str, CellOutcome]:
    """Train the cells and return how each one ended.

    On a signal (strive.signals) each cell that trains writes a checkpoint first, and has not ended.
    idle_seconds: as for WorkerPool.

    Raises ConfigError for tracker=wandb where W&B cannot be had, and for more GPUs or cores in a cell than there are.
    """
    # What a SLURM job has already is left to it.
    tasks = [task for task in submission.tasks if task.cell not in submission.waiting]
    threads = max((task.settings.threads for task in tasks), default=0)
    # A device has to be chosen before torch is there: trainer.device=cpu leaves the GPUs alone.
    device = "cpu" if all(task.settings.device == "cpu" for task in tasks) else "auto"
    places = slots(options, len(tasks), side_by_side=app.in_use().side_by_side, threads=threads, device=device)
    session = session_of(
        tasks, log=submission.logs / "wandb.log", say=CONSOLE.print, plans=[submission.folder.parent.name]
    )
    folders, work = {task.cell: task.folder for task in tasks}, {task.cell: task.work for task in tasks}
    with session, LiveView(folders, total=len(tasks), done=0, title=title, work=work) as view:

        def on_ended(ended: CellOutcome) -> None:
            view.ended(ended)
            session.show([ended.cell])

        def on_tick(pool: WorkerPool) -> None:
            view.refresh(pool.running(), pool.waiting(), _of_others(pool))
            session.show(pool.running())

        pool = WorkerPool(
            tasks,
            places,
            logs=submission.logs,
            retries=options.retries,
            on_ended=on_ended,
            on_tick=on_tick,
            say=view.say,
            environment=app.in_use().prepare(submission.folder),
            idle_seconds=idle_seconds,
            cancel_file=submission.cancel_file,
            timeout_min=options.timeout_min,
        )
        return pool.run()


def _of_others(pool: WorkerPool) -> str:
    return f"{len(pool.owned())} trained by other processes" if pool.owned() else ""
