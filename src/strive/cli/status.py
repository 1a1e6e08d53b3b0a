"""`strive status`: the state of sweeps, with reasons. Imports no torch."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live

from strive.cells.checked_record import CheckedRecord
from strive.cells.find_record import one_result
from strive.cells.lease import owner_of
from strive.cells.state import CellState
from strive.cli.folders import AskedSweeps, add_sweeps, asked_for, plan_names
from strive.cli.launch_command import launch_command
from strive.errors import RecordError, StriveError
from strive.format import runs_option, size_text
from strive.launch.running_cells import RunningCells
from strive.plain_text import printable
from strive.status.cell_status import CellStatus, StatusReader
from strive.status.disk_use import bytes_of, disk_use, kind_lines
from strive.status.status_text import NOT_A_RESULT, advice, counts, overview, sweep_report
from strive.sweeps.audit import other_plans
from strive.sweeps.plan import StoredPlan, plan_folders, runs_folder

HELP = """\
Say how sweeps stand, from what lies on disk and from squeue: how many cells are
done, running, waiting, failed and missing; how far each running one is, and
where; why each failed one failed.

  %(prog)s                     a line for each sweep launched into runs
  %(prog)s table3              one sweep, also as launched with overrides
  %(prog)s table3 seed=0,1     as launched with these overrides
  %(prog)s lr=0.1,1 seed=0,1   a multirun without a sweep file
  %(prog)s table3 --runs DIR   with records in another folder
  %(prog)s table3 --failed     with the stack traces of what failed
  %(prog)s table3 --watch      again and again, until every cell has ended
  %(prog)s --disk              what takes how much room (strive prune)

It reads the plan that the last launch left. Overrides that decide no number (of
hydra, the tracker, devices) may stand in the line or not, and change nothing."""
EXIT = """\
exit code: 0 if every cell is done or diverged, 1 if one is not or something
contradicts a plan or a record, 2 if there is no such sweep.

running        the line names host and process, or SLURM's job
waiting        for a worker of a launch on this machine, or in SLURM's queue
stopped        begun, and left by its process; the next launch goes on from the
               checkpoint
missing        not begun, and in no launch; the next one trains it; those that
               no look needs so far are only counted
dead           done, but no better than always naming the largest class
contradictory  the plan or another file of the cell contradicts the record"""
_SECONDS = 2.0  # between two updates
_SILENT_SECONDS = 10.0  # an owner sends a heartbeat every 2 s
_NOT_ENDED = (CellState.missing, CellState.stopped)
# Of a cell that is in several folders, the state that comes first here is its state.
_RANK = (
    CellState.done,
    CellState.diverged,
    CellState.running,
    CellState.waiting,
    CellState.contradictory,
    CellState.unreadable,
    CellState.failed,
    CellState.stopped,
    CellState.missing,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and how much is shown."""
    add_sweeps(parser, default="all, a line each")
    parser.add_argument("--failed", action="store_true", help="add the stack traces of failed cells")
    parser.add_argument("--json", action="store_true", help="print one JSON object: docs/agents.md has its keys")
    parser.add_argument("--disk", action="store_true", help="say what takes how much room, and nothing else")
    parser.add_argument(
        "--watch", action="store_true", help="look again each 2 s until every cell has ended, with how the table stands"
    )


def run(options: argparse.Namespace) -> int:
    """Print the state of the cells; return the exit code."""
    asked = asked_for(options)
    if options.disk:
        return _disk(asked.folders)
    look = _Look(asked, tracebacks=options.failed, stands=options.watch)
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        # For files and pipes: full ids and paths on one line each, regardless of the terminal's width.
        console = Console(highlight=False, markup=False, emoji=False, width=100_000, color_system=None)
    if options.watch and not options.json:
        with suppress(KeyboardInterrupt):
            _watch(look, console)
    look.again()
    if options.json:
        print(json.dumps(look.values(), indent=1, allow_nan=False))
        return 0 if look.finished else 1
    console.print(look.report(console), soft_wrap=not console.is_terminal)
    if text := look.advice([text for text in options.sweeps if "=" in text]):
        console.print(f"\n{printable(text)}", soft_wrap=True)  # on one line, so that it can be copied
    return 0 if look.finished else 1


def _disk(folders: Sequence[Path]) -> int:
    for runs in folders:
        uses = disk_use(runs)
        print(printable(f"{runs}: {size_text(bytes_of(uses))}"))
        for line in kind_lines(uses):
            print(line)
        if any(use.kind.may_go for use in uses):
            print(f"strive prune{runs_option(runs)} removes what nobody needs any more")
    return 0


class _Look:
    """The latest state of the sweeps that are asked for."""

    def __init__(self, asked: AskedSweeps, *, tracebacks: bool, stands: bool) -> None:
        self._asked, self._plans = asked, plan_folders(asked.folders)
        self._names = plan_names(asked, self._plans)
        self._in_full = bool(asked.sweeps or asked.overrides)  # rather than a line for each sweep
        self._tracebacks, self._stands = tracebacks, stands  # stands: show how the tables stand
        self._standing: dict[str, tuple[int, list[str]]] = {}  # {sweep: cells that were done, how its table stands}
        self._readers = {folder: StatusReader(folder) for folder in asked.folders}
        self._found: list[tuple[StoredPlan, list[CellStatus]]] = []
        self._running: dict[str, RunningCells] = {}
        self._looks: dict[str, list[str]] = {}  # {sweep: where its looks stand}
        self._unreadable: list[str] = []
        self._beats: dict[str, tuple[tuple[str, int], float]] = {}  # {cell: (its owner's last heartbeat, arrival time)}

    def again(self) -> None:
        """Update the state."""
        self._found, self._unreadable = [], []
        for name in self._names:
            try:
                plan = StoredPlan.read(self._plans[name])
            except (RecordError, OSError) as error:
                self._unreadable.append(str(error))
            else:
                self._found.append((plan, self._look(plan)))

    def _look(self, plan: StoredPlan) -> list[CellStatus]:
        """Return the status of each cell: that in the folder where it stands best."""
        looks = "seeds" in plan.text
        statuses, *others = (reader.look(plan, keep=looks) for reader in self._readers.values())
        for each in others:
            for number, (one, other) in enumerate(zip(statuses, each, strict=True)):
                if one.state.finished and other.state.finished:
                    one_result(one.cell, list(self._readers))
                statuses[number] = min(one, other, key=lambda status: _RANK.index(status.state))
        self._looks.pop(plan.sweep, None)
        return self._without_later_looks(plan, statuses) if looks else statuses

    def _without_later_looks(self, plan: StoredPlan, statuses: list[CellStatus]) -> list[CellStatus]:
        """Return the status of the cells that a look needs, or that are trained all the same."""
        from strive.results.load import load_sweep  # pandas, which other sweeps do without
        from strive.results.look_state import LookState

        try:
            state = LookState.of(load_sweep(plan.sweep, self._asked.folders, self._read))
        except StriveError as error:
            self._looks[plan.sweep] = [f"where its looks stand cannot be told: {error}"]
            return statuses
        if state is None:
            return statuses
        beyond = {each.cell for each in statuses if each.state in _NOT_ENDED} & state.not_needed
        self._looks[plan.sweep] = [*state.text(), *state.not_needed_lines(len(beyond))]
        return [each for each in statuses if each.cell not in beyond]

    def _read(self, path: str | Path) -> CheckedRecord:
        """Return a record that was read for the status of its cell."""
        return self._readers[Path(path).parents[1]].read(path)

    @property
    def _queue_error(self) -> str:
        return next((reader.queue_error for reader in self._readers.values() if reader.queue_error), "")

    def _problems(self, plan: StoredPlan) -> list[str]:
        found = [text for reader in self._readers.values() for text in reader.problems(plan)]
        return list(dict.fromkeys((*found, *other_plans(plan, plan.sweep, self._asked.folders))))

    @property
    def statuses(self) -> list[CellStatus]:
        """Return every cell of every sweep."""
        return [each for _, statuses in self._found for each in statuses]

    @property
    def finished(self) -> bool:
        """Return whether every cell has a result."""
        contradicted = any(self._problems(plan) for plan, _ in self._found)
        return not (self._unreadable or contradicted) and all(each.state.finished for each in self.statuses)

    @property
    def ended(self) -> bool:
        """Return whether every cell has ended."""
        return all(each.state.ended for each in self.statuses)

    def counts(self) -> str:
        """Return one line for all cells."""
        return counts(self.statuses)

    def advice(self, given: Sequence[str]) -> str:
        """Return advice on cells that no process trains; "" if there are none, or if that is uncertain.

        given: overrides of the launch, as typed.
        """
        if not self._in_full or len(self._found) != 1 or self._queue_error:
            return ""
        (plan, statuses), *_ = self._found
        return advice(statuses, self._command(plan, given))

    def _command(self, plan: StoredPlan, given: Sequence[str]) -> list[str]:
        """Return the command that launches a sweep again."""
        typed = [text for text in given if not text.startswith("sweeps=")]
        runs = runs_folder(self._plans[plan.sweep])
        until = ["hydra.sweeper.until=decided"] if plan.sweep in self._looks else []
        return launch_command(plan, runs, *([] if plan.start else [*until, *typed]), changes=not self._asked.overrides)

    def values(self) -> dict[str, Any]:
        """Return the last update as JSON values."""
        return {
            "version": 1,
            "finished": self.finished,
            "unreadable": list(self._unreadable),
            "sweeps": [self._sweep(plan, statuses) for plan, statuses in self._found],
        }

    def _sweep(self, plan: StoredPlan, statuses: Sequence[CellStatus]) -> dict[str, Any]:
        unfinished = any(not each.state.finished for each in statuses)
        return {
            "sweep": plan.sweep,
            "file": plan.file or None,
            "changes": plan.changes,
            "question": plan.question or None,
            "counts": dict(Counter(each.state.value for each in statuses)),
            "contradictions": self._problems(plan),
            "cells": [_cell(each) for each in statuses],
            "command": self._command(plan, []) if unfinished else None,
        }

    def report(self, console: Console) -> RenderableType:
        """Return the report of the last update."""
        parts: list[RenderableType] = [printable(text) for text in self._unreadable]
        if self._in_full:
            for plan, statuses in self._found:
                parts += self._one(plan, statuses, console)
        else:
            parts.append(overview(self._found, console.width if console.is_terminal else None))
            if self._tracebacks:
                for plan, statuses in self._found:
                    failed = [each for each in statuses if each.state in NOT_A_RESULT]
                    parts += ["", *self._one(plan, failed, console)] if failed else []
        return Group(*parts)

    def _one(self, plan: StoredPlan, statuses: Sequence[CellStatus], console: Console) -> list[RenderableType]:
        return list(
            sweep_report(
                plan,
                statuses,
                launch=self._readers[runs_folder(self._plans[plan.sweep])].last_launch(plan.sweep),
                queue_error=self._queue_error,
                problems=self._problems(plan),
                looks=self._looks.get(plan.sweep) or self._stand(plan, statuses),
                tracebacks=self._tracebacks,
                running=self._running_of(plan.sweep, statuses),
                silent=self._silent(statuses),
                width=console.width if console.is_terminal else None,
            )
        )

    def _stand(self, plan: StoredPlan, statuses: Sequence[CellStatus]) -> list[str]:
        """Return how the table of a sweep stands, computed again when a cell is done."""
        done = sum(each.state.finished for each in statuses)
        if not self._stands or done == len(statuses):
            return []
        if done != self._standing.get(plan.sweep, (0, []))[0]:
            from strive.cli.standing import standing  # pandas, which a look alone does without
            from strive.results.load import load_sweep

            with suppress(StriveError):
                self._standing[plan.sweep] = (done, standing(load_sweep(plan.sweep, self._asked.folders)))
        return self._standing.get(plan.sweep, (0, []))[1]

    def _running_of(self, sweep: str, statuses: Sequence[CellStatus]) -> RunningCells:
        """Return what is known of the cells of a sweep that train now, from this look and those before."""
        now = time.monotonic()
        cells = [each.cell for each in statuses if each.owner is not None]
        places = {cell: [folder / cell for folder in self._asked.folders] for cell in cells}
        folders = {cell: next(filter(owner_of, found), found[0]) for cell, found in places.items()}
        running = self._running.setdefault(sweep, RunningCells())
        running.see(cells, now)
        running.read(folders, now)
        return running

    def _silent(self, statuses: Sequence[CellStatus]) -> dict[str, float]:
        """Return {cell: seconds} for the running cells whose owners have sent no heartbeat for a while."""
        now, silent = time.monotonic(), {}
        for each in statuses:
            if each.owner is not None:
                beat = (each.owner.token, each.owner.beat)
                last, since = self._beats.get(each.cell, (beat, now))
                self._beats[each.cell] = (beat, now if beat != last else since)
                if (seconds := now - self._beats[each.cell][1]) >= _SILENT_SECONDS:
                    silent[each.cell] = seconds
        return silent


def _cell(status: CellStatus) -> dict[str, Any]:
    return {
        "cell": status.cell,
        "state": status.state.value,
        "status": None if status.status is None else status.status.value,
        "why": status.why or None,
        "dead": status.dead,
        "stale": bool(status.stale),
        "epochs": status.epochs,
        "epochs_done": status.epochs_done,
        "owner": None if status.owner is None else str(status.owner),
        "log": status.log or None,
    }


def _watch(look: _Look, console: Console) -> None:
    """Print updates until every cell has ended or the user stops the command."""
    said = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            started = time.monotonic()
            look.again()
            if look.ended:
                return
            if console.is_terminal:
                live.update(look.report(console), refresh=True)
            elif look.counts() != said:
                said = look.counts()
                console.print(printable(said))
            # Waits longer if the file system is slow.
            time.sleep(max(_SECONDS, 4 * (time.monotonic() - started)))
