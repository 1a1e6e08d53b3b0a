"""The folder that a launch writes before anything trains: frozen cells, and who launched them. Imports no torch."""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from strive.cells import records
from strive.cells.task import Task, task_of, write_tasks
from strive.processes import boot_id, start_time
from strive.sweeps.plan import Plan, Planned


@dataclass(frozen=True, slots=True)
class Submission:
    """The folder of one launch and the cells that it trains."""

    folder: Path
    tasks: list[Task]
    waiting: dict[str, str] = field(default_factory=dict)  # {cell id: job} of cells that a SLURM job has already
    process: str = ""  # one of several that train its cells, each with logs of its own

    @property
    def cancel_file(self) -> Path:
        """The file that appears where the launch is cancelled."""
        return cancel_file(self.folder)

    @property
    def logs(self) -> Path:
        """Where workers and jobs write what they print."""
        return self.folder / "logs" / self.process


def cancel_file(folder: Path) -> Path:
    """Return the file in the folder of a launch with which `strive cancel` stops it, wherever it trains."""
    return folder / "cancelled"


def write_submission(
    plan: Plan, cells: Sequence[Planned], launcher: str, options: Mapping[str, Any] | None = None
) -> Submission:
    """Freeze the cells: whatever happens to conf/ from now on, they train with these values.

    options: the launcher's, for those who train the cells later.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = plan.folder / f"{stamp}-{uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    tasks = [frozen(planned) for planned in cells]
    write_tasks(folder / "tasks.jsonl", tasks)
    launch = {
        "launcher": launcher,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": boot_id(),
        "pid_started": start_time(os.getpid()) or "",
        "folder": os.getcwd(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": dict(options or {}),
    }
    records.write_whole(folder / "launch.json", (json.dumps(launch, indent=1) + "\n").encode(), durable=False)
    (folder / "logs").mkdir()
    return Submission(folder, tasks, {planned.cell: planned.job for planned in cells if planned.job})


def frozen(planned: Planned) -> Task:
    """Return the cell as a worker gets it."""
    return task_of(
        planned.config,
        replaces=planned.replaces,
        work=float(planned.num_train * planned.epochs_left * planned.flops),
        code=planned.code,
    )
