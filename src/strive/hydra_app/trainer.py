"""Runs cells of a foreign app: calls its function with a frozen config, under Hydra's run_job."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import TaskFunction
from omegaconf import open_dict, read_write

import strive
from strive.cells.cell_run import CellRun
from strive.cells.records import Record
from strive.cells.wandb_run import wandb_run_of
from strive.code.hash import Code
from strive.code.imported import imported_code
from strive.config import identity
from strive.hydra_app.cell import HydraCell
from strive.hydra_app.frozen import thawed_cell
from strive.hydra_app.program import Program
from strive.hydra_internals import run_as_job, set_values
from strive.sweeps.override_syntax import override

_CHECKPOINT = "{checkpoint}"


@dataclass
class FunctionTrainer:
    """Trains cells of the app in whose program this process is."""

    function: TaskFunction
    loader: ConfigLoader
    program: Program

    def Pack(self, on_ended: Callable[[str, Any], object], *, room: int = 0) -> "OneCell":
        """Return a pack of at most one cell."""
        return OneCell(self, on_ended)

    def seen(self, config: Any) -> dict[str, str | int]:
        """Return nothing: only the app knows its device."""
        return {}

    def no_gpu(self, gpu: str) -> str:
        """Return "": the app chooses its device."""
        return ""

    def is_spoilt(self, *, alone: bool) -> bool:
        """Return True: after an error of a foreign app nothing is known of its process."""
        return True

    def free_memory(self) -> None:
        """Do nothing."""

    @property
    def fresh_process(self) -> bool:
        """Return whether each cell has a process of its own."""
        return self.program.fresh_process

    def run_cell(self, config: HydraCell, *, replaces: str = "", fence: str = "") -> Record:
        """Run the app's function as a cell and return its record. Raises what `CellRun.run` raises."""
        settings, runs = config.settings, Path(config.settings.runs).absolute()
        cell = identity.cell_id(config)
        goes_on = (runs / cell / "log.txt").exists()
        with CellRun(
            cell,
            runs,
            config=config.science,
            logistics=config.logistics,
            code=self._code,
            lease_seconds=settings.lease_seconds,
            checkpoint_minutes=settings.checkpoint_minutes,
            replaces=replaces,
            fence=fence,
        ) as run:
            tracker = settings.tracker

            def call() -> Any:
                with wandb_run_of(run, project=tracker.project, entity=tracker.entity):
                    return self._call(run, config, goes_on=goes_on)

            return run.run(call)

    def _call(self, run: CellRun, config: HydraCell, *, goes_on: bool) -> Any:
        frozen = thawed_cell(config.frozen)
        folder = run.folder
        with read_write(frozen.hydra), open_dict(frozen.hydra):
            frozen.hydra.sweep.dir, frozen.hydra.sweep.subdir = str(folder.parent), folder.name
            frozen.hydra.run.dir = str(folder)  # ranks that Lightning starts read this one
            frozen.hydra.job.id, frozen.hydra.job.num = run.cell, 0
        if goes_on:
            set_values(_resume_overrides(self.program), frozen)
        with _printing_to(folder / "log.txt"):
            return run_as_job(self.function, frozen, self.loader).return_value

    def _code(self) -> Code:
        program = self.program
        function = self.function.__module__.partition(".")[0]
        own = {name for name in (program.module.partition(".")[0], function) if name not in ("", "__main__")}
        further = [path for pattern in program.code for path in sorted(Path(program.folder).glob(pattern))]
        return imported_code(own, program.path, further)


def _resume_overrides(program: Program) -> list[str]:
    """Return what is added where a cell goes on. KEY={checkpoint} is what strive.load returns, if there is any."""
    found = []
    for text in program.resume_overrides:
        key, _, value = text.partition("=")
        if value != _CHECKPOINT:
            found.append(text)
        elif (path := strive.load()) is not None:
            found.append(override(key, str(path)))
    return found


class OneCell:
    """The pack of an app whose cells train alone."""

    room = measured = 1

    def __init__(self, trainer: FunctionTrainer, on_ended: Callable[[str, Any], object]) -> None:
        self._trainer, self._on_ended = trainer, on_ended
        self._waiting: list[tuple[HydraCell, str, str]] = []

    def __len__(self) -> int:
        """Return 1 if a cell waits to be run."""
        return len(self._waiting)

    def add(self, config: HydraCell, *, replaces: str = "", fence: str = "") -> None:
        """Take a cell, which runs at the next `run_epoch`."""
        self._waiting.append((config, replaces, fence))

    def run_epoch(self) -> None:
        """Run the cell to its end."""
        while self._waiting:
            config, replaces, fence = self._waiting[0]
            outcome: Record | BaseException
            try:
                outcome = self._trainer.run_cell(config, replaces=replaces, fence=fence)
            except BaseException as error:
                outcome = error
            del self._waiting[0]
            self._on_ended(identity.cell_id(config), outcome)


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Let this process and what it starts write their output into the cell's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(file)
