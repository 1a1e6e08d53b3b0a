"""A runs folder with a plan and launches, written by hand."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from study_records import study_record

from allcnn.config import Config, checked
from strive.cells import records
from strive.cells.records import Failure, Status
from strive.cells.state import CellState
from strive.cells.task import task_of, write_tasks
from strive.config import identity
from strive.processes import boot_id, start_time
from strive.status.cell_status import CellStatus, StatusReader
from strive.sweeps.plan import Action, Plan, Planned, StoredPlan, write_plan

NOW = "2026-01-01T00:00:00+00:00"


class Runs:
    """A runs folder with a plan of some cells that nobody has begun."""

    def __init__(self, folder: Path, cells: int, name: str = "table3") -> None:
        self.folder, self.name, self.launches = folder, name, 0
        self.configs = [checked(Config(seed=seed, runs=str(folder))) for seed in range(cells)]
        self.cells = [identity.cell_id(config) for config in self.configs]
        planned = [
            Planned(cell=cell, arm="", config=config, action=Action.train, reason="", code="")
            for cell, config in zip(self.cells, self.configs, strict=True)
        ]
        write_plan(Plan(sweep=name, file=name, changes=[], question="Why?", runs=folder, code="", cells=planned))

    def cell(self, number: int) -> Path:
        folder = self.folder / self.cells[number]
        folder.mkdir(exist_ok=True)
        return folder

    def ends(
        self,
        number: int,
        status: Status = Status.done,
        failure: Failure | None = None,
        images: str = "ab",
        **provenance: str,
    ) -> Path:
        record = study_record(self.configs[number], status, failure=failure, images=images, provenance=provenance)
        return records.write_record(self.folder, record)

    def launched(
        self, numbers: Sequence[int], *, pid: int, launcher: str = "local", host: str = "", started: str = ""
    ) -> Path:
        folder = self.folder / "sweeps" / self.name / f"20260101-00000{self.launches}-abcd"
        self.launches += 1
        folder.mkdir(parents=True)
        write_tasks(
            folder / "tasks.jsonl",
            [task_of(self.configs[number]) for number in numbers],
        )
        launch = {
            "launcher": launcher, "host": host or socket.gethostname(), "pid": pid, "folder": "/", "time": NOW,
            "boot": boot_id(), "pid_started": started or start_time(pid),
        }  # fmt: skip
        (folder / "launch.json").write_text(json.dumps(launch))
        return folder

    def look(self, watcher: StatusReader | None = None) -> list[CellStatus]:
        return (watcher or StatusReader(self.folder)).look(StoredPlan.read(self.folder / "sweeps" / self.name))

    def states(self, watcher: StatusReader | None = None) -> list[CellState]:
        return [each.state for each in self.look(watcher)]
