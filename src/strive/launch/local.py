"""A sweep on this machine: worker processes, one on each GPU or several on the processor. Imports no torch."""

import math
from collections.abc import Sequence

from strive import app
from strive.cells.task import CellOutcome, Task
from strive.console import CONSOLE
from strive.launch.devices import slots_for
from strive.launch.launch_folder import Launch
from strive.launch.live_view import LiveView
from strive.launch.pool import WorkerPool
from strive.options import LocalOptions
from strive.trackers.session import session_of


def train_locally(
    launch: Launch,
    tasks: Sequence[Task],
    options: LocalOptions,
    *,
    title: str = "",
    process: str = "",
    idle_seconds: float = math.inf,
) -> dict[str, CellOutcome]:
    """Train cells of a launch and return how each one ended.

    On a signal (strive.signals) each cell that trains writes a checkpoint first, and has not ended.
    title: "" for the sweep's name. process: of several that train its cells, each with logs of its own.
    idle_seconds: as for WorkerPool.

    Raises ConfigError for tracker=wandb where W&B cannot be had, and for more GPUs or cores in a cell than there are.
    """
    logs = launch.logs / process
    places = slots_for([task.settings for task in tasks], options, side_by_side=app.in_use().side_by_side)
    session = session_of(tasks, sweep=launch.sweep, log=logs / "wandb.log", say=CONSOLE.print)
    folders, work = {task.cell: task.folder for task in tasks}, {task.cell: task.work for task in tasks}
    with session, LiveView(folders, total=len(tasks), done=0, title=title or launch.sweep, work=work) as view:

        def on_ended(ended: CellOutcome) -> None:
            view.ended(ended)
            session.show([ended.cell])

        def on_tick(pool: WorkerPool) -> None:
            extra = "; ".join(filter(None, (_of_others(pool), session.state)))
            view.refresh(pool.running(), pool.waiting(), extra)
            session.show(pool.running())

        pool = WorkerPool(
            tasks,
            places,
            logs=logs,
            retries=options.retries,
            on_ended=on_ended,
            on_tick=on_tick,
            say=view.say,
            environment=app.in_use().prepare(launch.folder),
            idle_seconds=idle_seconds,
            cancel_file=launch.cancel_file,
            timeout_min=options.timeout_min,
        )
        return pool.run()


def _of_others(pool: WorkerPool) -> str:
    return f"{len(pool.owned())} trained by other processes" if pool.owned() else ""
