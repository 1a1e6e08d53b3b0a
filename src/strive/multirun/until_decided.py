"""Seeds until it is decided: trains a sweep look by look, each time the seeds that undecided lines need next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from strive import signals
from strive.cells.task import CellOutcome
from strive.console import CONSOLE, OUTPUT
from strive.errors import ConfigError
from strive.format import duration, runs_option
from strive.multirun.plan_looks import looks_of
from strive.multirun.run_sweep import SweepRun, cells_to_train, estimates_of, left_jobs, only_stores, report
from strive.sweeps.estimate import Estimate
from strive.sweeps.plan import Plan, Retrain, write_plan
from strive.sweeps.plan_text import counts_lines
from strive.sweeps.sweep_file import Sweep

if TYPE_CHECKING:  # imports pandas
    from strive.results.look_state import LookState


@dataclass
class UntilDecided:
    """One command with hydra.sweeper.until=decided."""

    sweep_run: SweepRun
    _given: set[str] = field(default_factory=set)  # cells that this command has given to its launcher
    _ended: dict[str, CellOutcome] = field(default_factory=dict)  # how those ended

    def run(self, arguments: Sequence[str], sweep: Sweep | None) -> bool:
        """Train until each line is decided or left alone, the last look is over, or the hours are spent.

        Return whether that is so now: False for a dry run, and where others train cells of the next look.

        Nothing is remembered between two looks but what lies on disk, so the same command goes on after any end.
        Raises as SweepRun.run.
        """
        if sweep is None or sweep.table is None or sweep.table.looks is None:
            raise ConfigError(
                "hydra.sweeper.until=decided needs a sweep file that says when to look, such as"
                " seeds: {looks: [5, 8, 12, 20]}"
            )
        if self.sweep_run.planner.retrain is Retrain.all:
            raise ConfigError(
                "hydra.sweeper.until=decided goes on with the records that are there, hydra.sweeper.retrain=all with"
                " none: give one of them"
            )
        while (plan := self.sweep_run.planned(arguments, sweep)) is not None:
            state = looks_of(plan, sweep)
            assert state is not None
            needed = replace(plan, cells=[planned for planned in plan.cells if planned.cell in state.needed])
            if self.sweep_run.dry_run:
                self._print(needed, state)
                return False
            self._keep(plan, state)
            # What has failed in this command fails again: its line gets no further look before the next command.
            todo = replace(needed, cells=[each for each in cells_to_train(needed) if each.cell not in self._given])
            if not todo.cells or not self._within_hours(todo, state):
                self._report(needed, state, {planned.cell for planned in todo.cells})
                return True
            if not self._launched(todo, state):
                return False
            self.sweep_run.planner = self.sweep_run.planner.again()
        return False

    def _print(self, needed: Plan, state: "LookState") -> None:
        """Print what a dry run says: the cells of the next look, where each line stands, and what the look costs."""
        estimates = estimates_of(needed)
        for line in self.sweep_run.dry_lines(needed, estimates, [*self._cost(needed, estimates, state), *state.text()]):
            OUTPUT.print(line)
        if self.sweep_run.as_json:
            return
        if changes := state.changes():
            OUTPUT.print(_changed(needed, changes))
        if cells_to_train(needed):
            self._within_hours(needed, state)

    def _cost(self, part: Plan, estimates: Sequence[Estimate], state: "LookState") -> Iterator[str]:
        """Yield what the next look costs, where the cells' nets do not say, and how many cells are not needed."""
        cells = cells_to_train(part)
        if cells and not estimates and not any(planned.flops for planned in cells) and state.mean_seconds is not None:
            yield f"time: {duration(state.mean_seconds * len(cells))} on one device, as the cells that are done took"
        yield from state.not_needed_lines(len(state.not_needed))

    def _keep(self, plan: Plan, state: "LookState") -> None:
        """Write the plan, and what is fixed at the first look; raise ConfigError if that has changed."""
        if changes := state.changes():
            raise ConfigError(_changed(plan, changes))
        write_plan(plan)
        state.fix(plan.folder)

    def _within_hours(self, part: Plan, state: "LookState") -> bool:
        """Return whether the next look fits into hydra.sweeper.max_gpu_hours; say so if it does not.

        Raises ConfigError where nothing was trained yet, and where it cannot be told.
        """
        limit = self.sweep_run.hours_limit()
        if limit is None:
            return True
        estimates, cells = estimates_of(part), cells_to_train(part)
        hours = estimates[0].hours if estimates else None
        if hours is None and state.mean_seconds is not None:
            hours = state.mean_seconds * len(cells) / 3600
        if hours is None:
            raise ConfigError(
                f"hydra.sweeper.max_gpu_hours={limit:g} cannot be checked: no cell of this sweep was trained into"
                f" {part.runs} yet. Train one first, or leave the limit out"
            )
        spent = state.hours_spent()
        if spent + hours <= limit:
            return True
        why = f"the next look takes {hours:.3g} hours, {spent:.3g} of hydra.sweeper.max_gpu_hours={limit:g} are spent"
        if not spent:
            raise ConfigError(f"{why}; allow more, or make the sweep smaller")
        CONSOLE.print(f"stopped before the next look: {why}")
        return False

    def _launched(self, part: Plan, state: "LookState") -> bool:
        """Train the cells of one look; return whether it can be taken now."""
        estimates = estimates_of(part)
        hours = (*self.sweep_run.hours_lines(part, estimates), *self._cost(part, estimates, state))
        for line in (*part.images, *part.notes, *state.text(), *counts_lines(part), *hours):
            CONSOLE.print(line)
        ended = self.sweep_run.train_missing(part)
        self._given |= {planned.cell for planned in part.cells}
        self._ended |= ended
        if left := left_jobs(ended):
            self.sweep_run.launcher.continue_after(left, part.folder)
            return False
        if only_stores(self.sweep_run.launcher):
            CONSOLE.print(
                f"nothing was trained; to train: strive work {part.sweep}{runs_option(part.runs)}. After that this"
                " command goes on with the next look"
            )
            return False
        if signals.requested():
            report(part, ended)
        return True

    def _report(self, needed: Plan, state: "LookState", left: set[str]) -> None:
        """Print the results and where the lines stand. left: cells for which there were no hours.

        Raises CellsFailedError if a cell that a look needs has no result.
        """
        for line in state.text():
            OUTPUT.print(line)
        report(replace(needed, cells=[planned for planned in needed.cells if planned.cell not in left]), self._ended)


def _changed(plan: Plan, changes: str) -> str:
    return (
        f"since the first look of {plan.sweep}, {changes}: after it there is no verdict by other looks. Put back what"
        f" {plan.folder / 'looks.json'} has, or ask the new question in a sweep file of another name"
    )
