"""Cells that another sweeper than strive's asks for, such as Hydra's basic one or Optuna's: each is trained once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from strive import app, signals
from strive.cells import records
from strive.cells.records import Status
from strive.cells.returned import OBJECTIVE
from strive.cells.task import CellOutcome
from strive.config import identity
from strive.config.exit_codes import exit_codes
from strive.config.schema import is_typed
from strive.errors import ConfigError, StoppedError
from strive.multirun.run_sweep import Launcher, SweepRun
from strive.multirun.sweeping import queued, use_foreign
from strive.options import SweeperOptions
from strive.sweeps.plan import Plan, Planned, Retrain, write_plan
from strive.sweeps.planner import Planner


class LauncherInUse(Launcher, Protocol):
    """A launcher with what Hydra gave to it."""

    hydra_context: HydraContext
    config: DictConfig
    task_function: TaskFunction
    launched: Sequence[Sequence[str]]  # the overrides of all jobs of this multirun so far


@dataclass(kw_only=True, slots=True)
class OtherSweeper:
    """The sweeper in use, as the parts of strive's that plan and launch see it."""

    options: SweeperOptions
    hydra_context: HydraContext
    config: DictConfig
    task_function: Any
    launcher: Any


def launch(launcher: LauncherInUse, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Train the missing cells of a batch of jobs, and return what each job's function returned, now or earlier.

    jobs: the overrides of each. Raises SystemExit, with a message, for a mistake and for a stop by a signal.
    """
    with exit_codes():
        sweeper = OtherSweeper(
            options=_options(launcher.options.sweeper),
            hydra_context=launcher.hydra_context,
            config=launcher.config,
            task_function=launcher.task_function,
            launcher=launcher,
        )
        if getattr(launcher.options, "detach", False):
            raise ConfigError(
                "hydra.launcher.detach=true leaves before there are results, which this sweeper waits for; leave it"
                " out, or take hydra/sweeper=strive"
            )
        if not is_typed(launcher.config):
            use_foreign(sweeper)
        return _trained(sweeper, jobs)


def _options(given: Mapping[str, Any]) -> SweeperOptions:
    legal = [item.name for item in fields(SweeperOptions) if item.name not in _OF_STRIVES_SWEEPER]
    if wrong := [name for name in given if name not in legal]:
        raise ConfigError(
            f"hydra.launcher.sweeper.{wrong[0]}={given[wrong[0]]!r} is no option here; legal: {', '.join(legal)}"
        )
    return SweeperOptions.of(given)


_OF_STRIVES_SWEEPER = ("sweep", "dry_run", "json", "verbose", "parents", "until", "max_gpu_hours")


def _trained(sweeper: OtherSweeper, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
    composer = app.in_use().composer(sweeper.hydra_context.config_loader, sweeper.config)
    planner = Planner(
        composer,
        _no_sweep_file,
        retrain=Retrain(sweeper.options.retrain),
        queued=lambda runs: queued(runs, sweeper.launcher),
        jobs=sweeper.launcher.asked_overrides,
    )
    whole = planner.plan(list(sweeper.config.hydra.overrides.task), None)
    write_plan(whole)
    Path(sweeper.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # sweepers write what they found there
    cells = [identity.cell_id(records.as_recorded(composer.compose(job))) for job in jobs]
    batch = replace(whole, cells=[planned for planned in whole.cells if planned.cell in cells])
    _stop_if_requested()  # since the batch before
    ended = SweepRun(planner, sweeper.launcher).train_missing(batch)
    _stop_if_requested()
    planned = {each.cell: each for each in batch.cells}
    return [_returned(job, planned[cell], ended.get(cell), whole) for job, cell in zip(jobs, cells, strict=True)]


def _stop_if_requested() -> None:
    if reason := signals.requested():
        raise StoppedError(f"stopped by {reason}; the cells that were in training keep their checkpoints")


def _no_sweep_file(name: str) -> Any:
    raise ConfigError(f"{name}: a sweep file is for hydra/sweeper=strive")


def _returned(job: Sequence[str], planned: Planned, ended: CellOutcome | None, plan: Plan) -> JobReturn:
    """Return a job's result for its sweeper: the number that was returned alone, or the mapping of metrics."""
    record = records.record_of(planned.config)
    found = JobReturn(overrides=job, task_name=plan.sweep, working_dir=str(plan.runs / planned.cell))
    if record is not None and record.status is Status.done:
        found.status = JobStatus.COMPLETED
        alone = record.metrics.keys() == {OBJECTIVE}
        found.return_value = record.metrics[OBJECTIVE] if alone else dict(record.metrics)
        return found
    status = record.status if record is not None else ended.status if ended is not None else None
    cause = (record.cause if record is not None else "") or (ended.cause if ended is not None else "")
    found.status = JobStatus.FAILED
    # Printed without a stack trace, under any app.
    found.return_value = CompactHydraException(
        f"{planned.cell}: {status.value if status else 'it was not trained'}{f': {cause}' if cause else ''}"
    )
    return found
