"""Runs cells of a foreign app: calls its function with a frozen config, under Hydra's run_job."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import TaskFunction
from omegaconf import open_dict, read_write

import strive
from strive.app import Trainer
from strive.cells.cell_run import CellRun
from strive.cells.log_file import rank_log
from strive.cells.ranks import CellStart, Ranks
from strive.cells.records import Record
from strive.cells.serial_pack import SerialPack
from strive.cells.wandb_run import wandb_run_of
from strive.code.hash import Code
from strive.code.imported import imported_code
from strive.config import identity
from strive.hydra_app.cell import HydraCell
from strive.hydra_app.frozen import thawed_cell
from strive.hydra_app.option_checks import CHECKPOINT, code_files
from strive.hydra_app.program import Program
from strive.hydra_internals import run_as_job, set_values
from strive.sweeps.override_syntax import override

# What hydra.job_logging is on a rank other than 0, whose output has a file of its own.
_TO_STDOUT = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["stdout"]},
}


@dataclass
class FunctionTrainer(Trainer):
    """Trains cells of the app in whose program this process is."""

    function: TaskFunction
    loader: ConfigLoader
    program: Program
    ranks: Ranks

    def __post_init__(self) -> None:
        self.fresh_process = self.program.fresh_process

    def pack(self, on_ended: Callable[[str, Any], object], *, room: int = 0) -> SerialPack:
        """Return an empty pack."""

        def run(config: HydraCell, replaces: str, fence: str) -> Record:
            on_hang = partial(on_ended, identity.cell_id(config))
            return self.run_cell(config, replaces=replaces, fence=fence, on_hang=on_hang)

        return SerialPack(run, on_ended)

    def run_cell(
        self,
        config: HydraCell,
        *,
        replaces: str = "",
        fence: str = "",
        on_hang: Callable[[Record | BaseException], object] = lambda outcome: None,
    ) -> Record:
        """Run the app's function as a cell and return its record. Raises what `CellRun.run` raises.

        on_hang: called in another thread with what would be returned or raised, where the function does not return
        although a rank has failed; then this process ends.
        """
        runs = Path(config.settings.runs).absolute()  # hydra.job.chdir leaves this folder
        goes_on = (runs / identity.cell_id(config) / "log.txt").exists()
        with CellRun.of(config, runs=runs, code=self._code, replaces=replaces, fence=fence, ranks=self.ranks) as run:
            start = CellStart(cell=run.cell, folder=str(run.folder), frozen=dict(config.frozen), goes_on=goes_on)
            tracker = config.settings.tracker

            def call() -> Any:
                with (
                    wandb_run_of(run, project=tracker.project, entity=tracker.entity),
                    self.ranks.cell(start, lambda error: on_hang(_outcome(run, error))),
                ):
                    return call_function(self.function, self.loader, self.program, start)

            return run.run(call)

    def _code(self) -> Code:
        program = self.program
        function = self.function.__module__.partition(".")[0]
        own = {name for name in (program.module.partition(".")[0], function) if name not in ("", "__main__")}
        return imported_code(own, program.path, code_files(program.code, program.folder))


def _resume_overrides(program: Program) -> list[str]:
    """Return what is added where a cell goes on. KEY={checkpoint} is what strive.load returns, if there is any."""
    found = []
    for text in program.resume_overrides:
        key, _, value = text.partition("=")
        if value != CHECKPOINT:
            found.append(text)
        elif (path := strive.load()) is not None:
            found.append(override(key, str(path)))
    return found


def call_function(
    function: TaskFunction, loader: ConfigLoader, program: Program, start: CellStart, rank: int = 0
) -> Any:
    """Return what the app's function returns for a frozen cell; raise what it raises."""
    frozen, folder = thawed_cell(start.frozen), Path(start.folder)
    with read_write(frozen.hydra), open_dict(frozen.hydra):
        frozen.hydra.sweep.dir, frozen.hydra.sweep.subdir = str(folder.parent), folder.name
        frozen.hydra.run.dir = str(folder)  # ranks that Lightning starts read this one
        frozen.hydra.job.id, frozen.hydra.job.num = start.cell, 0
        if rank:  # rank 0 writes .hydra and the app's own log, and calls what is to be called once
            frozen.hydra.output_subdir, frozen.hydra.callbacks, frozen.hydra.job_logging = None, {}, _TO_STDOUT
    if start.goes_on:
        set_values(_resume_overrides(program), frozen)
    with _printing_to(rank_log(folder, rank)):
        return run_as_job(function, frozen, loader).return_value


def _outcome(run: CellRun, error: BaseException) -> Record | BaseException:
    try:
        return run.fail(error)
    except BaseException as raised:
        return raised


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
