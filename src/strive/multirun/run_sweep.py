"""One launch of a sweep from its plan to its table."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from strive import app, signals
from strive.cells import records
from strive.cells.metrics import main_metric
from strive.cells.records import Record
from strive.cells.settings import settings_of
from strive.cells.task import CellOutcome, task_of
from strive.console import CONSOLE, OUTPUT
from strive.errors import CellsFailedError, ConfigError, StoppedError
from strive.format import counted, runs_option, wrapped
from strive.launch.devices import slots_for
from strive.launch.launch_folder import Launch, write_launch
from strive.multirun.plan_looks import looks_of
from strive.options import CellOptions, LocalOptions, SlurmOptions
from strive.sweeps.choice import MissingParentsError
from strive.sweeps.estimate import Estimate, estimate_from, estimate_hours
from strive.sweeps.plan import Action, Plan, Planned, plan_name, sweep_folder, write_plan
from strive.sweeps.plan_text import (
    counts_lines,
    failure_lines,
    hours_lines,
    plan_json,
    plan_lines,
    remark_lines,
)
from strive.sweeps.planner import Planner
from strive.sweeps.sweep_file import Sweep
from strive.sweeps.terminal_table import terminal_table
from strive.trackers.session import check_trackers, check_wandb


class Launcher(Protocol):
    """Trains frozen cells."""

    name: str

    @property
    def options(self) -> CellOptions:
        """Its options; raises ConfigError for wrong ones."""

    def train(self, launch: Launch, waiting: Mapping[str, str]) -> dict[str, CellOutcome]:
        """Train the cells and return the outcome of each. waiting: {cell: SLURM job} of those in a queue."""

    def continue_after(self, jobs: Sequence[str], plan_folder: Path) -> None:
        """Schedule this same command to run again after these jobs have ended."""


@dataclass
class SweepRun:
    """Plans and launches a sweep, and reports its results."""

    planner: Planner
    launcher: Launcher
    dry_run: bool = False
    as_json: bool = False  # what a dry run prints
    verbose: bool = False  # whether it lists each cell
    parents: bool = False
    max_gpu_hours: float | None = None
    _left: list[str] = field(default_factory=list)  # SLURM jobs that train cells of the last run
    _runs: Path = Path()  # runs folder of the last run

    def run(self, arguments: Sequence[str], sweep: Sweep | None) -> bool:
        """Train the missing cells. Return whether each has its result now: False where others train them.

        Raises ConfigError for a user's mistake before any training starts, CellsFailedError
        if a cell has no result in the end.
        """
        plan = self.planned(arguments, sweep)
        if plan is None:
            return False
        looks = looks_of(plan, sweep)
        estimates = estimates_of(plan)
        if self.dry_run:
            OUTPUT.print("\n".join(self.dry_lines(plan, estimates, looks.text() if looks else ())))
        self._check_hours(plan, estimates)
        if self.dry_run:
            return False
        write_plan(plan)
        if looks is not None:
            looks.fix(plan.folder)
            if changes := looks.changes():
                CONSOLE.print(f"tables give no verdict: since the first look, {changes}")
        for line in (*plan.images, *plan.notes, *counts_lines(plan), *self.hours_lines(plan, estimates)):
            CONSOLE.print(line)
        ended = self.train_missing(plan)
        self._runs = plan.runs
        self._left = left_jobs(ended)
        if self._left:
            left = sum(bool(each.job) for each in ended.values())
            CONSOLE.print(f"{counted(left, 'cell')} {'is' if left == 1 else 'are'} left to SLURM: strive status")
            return False
        if only_stores(self.launcher):
            CONSOLE.print(f"nothing was trained; to train: strive work {plan.sweep}{runs_option(plan.runs)}")
            return False
        report(plan, ended)
        return True

    def dry_lines(self, plan: Plan, estimates: Sequence[Estimate], looks: Iterable[str]) -> list[str]:
        """Return what a dry run prints. looks: where the lines of the table stand."""
        if self.as_json:
            return [plan_json(plan, estimates)]
        lines = plan_lines(plan, estimates, at_once=self._at_once(plan, estimates), verbose=self.verbose)
        return [part for line in (*lines, *looks) for part in ([line] if self.verbose else wrapped(line))]

    def hours_lines(self, plan: Plan, estimates: Sequence[Estimate]) -> Iterator[str]:
        """Return how long a plan takes."""
        return hours_lines(plan, estimates, self._at_once(plan, estimates))

    def _at_once(self, plan: Plan, estimates: Sequence[Estimate]) -> int:
        """Return the threads that a plan's cells use together here, or their GPUs; 0 if they do not train here."""
        options, todo = self.launcher.options, [planned for planned in plan.cells if planned.action.trains]
        if not isinstance(options, LocalOptions) or options.detach or not any(each.here for each in estimates):
            return 0
        with suppress(ConfigError):  # the launch says so
            settings = [settings_of(planned.config) for planned in todo]
            slots = slots_for(settings, options, side_by_side=app.in_use().side_by_side)
            return len(slots) if slots[0].gpus else sum(slot.threads for slot in slots)
        return 0

    def _train_parent(self, arguments: Sequence[str], sweep: Sweep) -> list[str]:
        """Train another sweep's missing cells; return the SLURM jobs that will train the rest."""
        CONSOLE.print(f"first {sweep.name}: {sweep.question}")
        self.run(arguments, sweep)
        return self._left

    def planned(self, arguments: Sequence[str], sweep: Sweep | None, failed_before: str = "") -> Plan | None:
        """Return the plan after training the parents; None if SLURM jobs train them and then restart this command.

        None also for a dry run of cells that wait for parents: it has been printed, after that of the parents.
        """
        try:
            return self.planner.plan(arguments, sweep)
        except MissingParentsError as error:
            if sweep is not None and self.dry_run:
                self._print_with_parents(arguments, sweep)
                return None
            if not self.parents or sweep is None:
                raise
            if str(error) == failed_before:
                raise  # the parents were just trained and still have no result
            left = [
                job
                for name in error.spec.sweeps
                for job in self._train_parent(list(error.overrides), self.planner.read_sweep(name))
            ]
            if left:
                self.launcher.continue_after(left, sweep_folder(self._runs, plan_name(arguments, sweep.name)))
                return None
            return self.planned(arguments, sweep, failed_before=str(error))

    def _print_with_parents(self, arguments: Sequence[str], sweep: Sweep) -> None:
        """Print the plans of the sweeps that values are chosen from, and that of the cells that wait for them."""
        parents = list(dict.fromkeys(name for spec in sweep.choices(arguments) for name in spec.sweeps))
        for name in parents:
            self.run(sweep.for_parents(arguments), self.planner.read_sweep(name))
            if not self.as_json:
                OUTPUT.print()
        plan = self.planner.plan(arguments, sweep, before_parents=True)
        if not (self.parents or self.as_json):
            how = f"{' and '.join(parents)} must be trained first; hydra.sweeper.parents=true does it"
            plan = replace(plan, notes=[*plan.notes, how])
        OUTPUT.print("\n".join(self.dry_lines(replace(plan, after=parents), estimates_of(plan), ())))

    def hours_limit(self) -> float | None:
        """Return hydra.sweeper.max_gpu_hours. Raises ConfigError for one that means nothing."""
        limit = self.max_gpu_hours
        if limit is not None and (limit <= 0 or not math.isfinite(limit)):
            raise ConfigError(f"hydra.sweeper.max_gpu_hours must be above 0, got {limit}")
        return limit

    def _check_hours(self, plan: Plan, estimates: Sequence[Estimate]) -> None:
        limit = self.hours_limit()
        if limit is None:
            return
        if not any(planned.action.trains for planned in plan.cells):
            return
        if not estimates and not any(planned.flops for planned in plan.cells):
            raise ConfigError(
                f"hydra.sweeper.max_gpu_hours={limit:g} cannot be checked: how long a cell of this app takes is"
                " known when some of the sweep are done; leave it out until then"
            )
        if not estimates:
            raise ConfigError(
                f"hydra.sweeper.max_gpu_hours={limit:g} cannot be checked: no cell with these nets was trained into"
                f" {plan.runs} yet. Train one first, or leave the limit out"
            )
        if estimates[0].hours > limit:
            raise ConfigError(
                f"hydra.sweeper.max_gpu_hours={limit:g}, but the plan takes {estimates[0].hours:.3g} hours of one"
                f" {estimates[0].device}; allow more, or make the sweep smaller"
            )

    def train_missing(self, plan: Plan) -> dict[str, CellOutcome]:
        """Train a plan's missing cells, and return how those ended."""
        todo = cells_to_train(plan)
        if not todo:
            return {}
        tasks = [task_of(each.config, replaces=each.replaces, work=each.work, code=each.code) for each in todo]
        check_trackers([task.settings.tracker.kind for task in tasks])
        launch = write_launch(plan.folder, tasks, self.launcher.name, asdict(self.launcher.options))
        if isinstance(self.launcher.options, SlurmOptions):
            check_wandb([task.settings.tracker.kind for task in tasks], CONSOLE.print)
        # From here on signals are handled gracefully: cells stop between two steps and keep their checkpoints.
        signals.listen()
        return self.launcher.train(launch, {planned.cell: planned.job for planned in todo if planned.job})


def left_jobs(ended: Mapping[str, CellOutcome]) -> list[str]:
    """Return the SLURM jobs that cells of a launch were left to."""
    return sorted({each.job for each in ended.values() if each.job})


def only_stores(launcher: Launcher) -> bool:
    """Return whether a launch leaves its cells to `strive work`."""
    return isinstance(launcher.options, LocalOptions) and launcher.options.detach


def cells_to_train(plan: Plan) -> list[Planned]:
    """Return the cells that are to be trained, or that others train."""
    return [planned for planned in plan.cells if planned.action.trains or planned.action is Action.wait]


def estimates_of(plan: Plan) -> list[Estimate]:
    """Return how long a plan takes, on each device that such cells were trained on."""
    todo = [planned for planned in plan.cells if planned.action.trains]
    if not any(planned.flops for planned in todo):  # an app that cannot say how much there is to train
        done = [planned for planned in plan.cells if planned.action is Action.done][:_SAMPLES]
        return estimate_from([record for each in done if (record := records.record_of(each.config))], len(todo))
    return estimate_hours(todo, plan.runs)


def report(plan: Plan, ended: Mapping[str, CellOutcome]) -> None:
    """Print the table of test errors; raise CellsFailedError if a cell has no result."""
    finished: dict[str, Record] = {}
    for planned in plan.cells:
        record = records.record_of(planned.config)
        if record is not None and record.status.finished:
            finished[planned.cell] = record
    shown = plan.cells[:_ROWS]
    OUTPUT.print(terminal_table(shown, finished, plan.swept))
    if len(plan.cells) > _ROWS:
        OUTPUT.print(f"and {counted(len(plan.cells) - _ROWS, 'more cell')}")
    for line in remark_lines(finished):
        CONSOLE.print(line)
    if reason := signals.requested():
        failed = [planned for planned in plan.cells if (end := ended.get(planned.cell)) and end.status is not None]
        lines = failure_lines(failed, finished, ended)
        left = len(plan.cells) - len(finished)
        raise StoppedError("\n  ".join([f"stopped by {reason}; {counted(left, 'cell')} without a result yet", *lines]))
    if lines := failure_lines(plan.cells, finished, ended):
        have, them = ("has", "it") if len(lines) == 1 else ("have", "them")
        raise CellsFailedError(
            f"{len(lines)} of {counted(len(plan.cells), 'cell')} {have} no result; the same command tries {them}"
            + "\n  ".join([" again", *lines])
        )
    metrics = {name: value for record in finished.values() for name, value in record.metrics.items()}
    which = " --value METRIC" if len(metrics) > 1 and not (plan.file or main_metric(metrics)) else ""
    CONSOLE.print(f"tables with statistics: strive tables {plan.sweep}{which}{runs_option(plan.runs)}")


_ROWS = 200  # rows of the table on the terminal
_SAMPLES = 50  # done cells whose seconds are asked for
