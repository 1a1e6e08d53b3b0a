"""Prints the state of a sweep's cells, with reasons: `python src/status.py --help`."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live

import allcnn  # noqa: F401 (the app whose cells these are)
from strive import streams
from strive.cli import command_parser, complain
from strive.errors import RecordError, UsageError
from strive.plain_text import printable
from strive.status.cell_status import CellStatus, StatusReader
from strive.status.status_text import NOT_A_RESULT, advice, counts, overview, sweep_report
from strive.sweeps.find_plan import plans, split, wanted
from strive.sweeps.plan import StoredPlan, sweep_folder

_USAGE = "python src/status.py [sweeps=NAME] [KEY=VALUE ...] [runs=DIR] [--failed] [--watch]"
_HELP = """\
Say how a sweep stands, from what lies on disk and from squeue: how many cells are done, running,
waiting, failed and missing; how far each running one is, and where; why each failed one failed.

  python src/status.py                              every sweep below runs/sweeps, a line each
  python src/status.py sweeps=table3                one sweep
  python src/status.py sweeps=table3 seed=0,1       a sweep that was launched with such overrides
  python src/status.py 'model=glob(*)' data=digits  a multirun without a sweep file
  python src/status.py sweeps=table3 runs=DIR       with records in another folder
  python src/status.py sweeps=table3 --failed       with the stack traces of what failed
  python src/status.py sweeps=table3 --watch        again and again, until every cell has ended

It reads the plan that the last launch left, so give the overrides of that launch; what says nothing of
the cells' science (hydra..., tracker, trainer, needs) may stay in the line or not, and changes nothing."""
_EXIT = """\
exit code: 0 if every cell is done or diverged, 1 if one is not or something contradicts a plan or a record, 2 if
there is no such sweep.

running    the line names host and process, or SLURM's job
waiting    for a worker of a launch on this machine, or in SLURM's queue, with SLURM's reason
stopped    begun, and left by its process; the next launch goes on from the checkpoint
missing    not begun, and in no launch; the next one trains it
dead       done, but its test error is not below that of always naming the largest class
contradictory  the plan, predictions.npz or history.jsonl says something else than the record"""
_SECONDS = 2.0  # between two updates
_SILENT_SECONDS = 10.0  # an owner sends a heartbeat every 2 s


def main() -> int:
    """Print the state of the cells; return the exit code."""
    options = _parser().parse_intermixed_args()
    runs, arguments = split(options.overrides)
    names = [wanted(runs, arguments)] if arguments else plans(runs)
    look = _Look(runs, names, options.overrides if arguments else [], tracebacks=options.failed)
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        # For files and pipes: full ids and paths on one line each, regardless of the terminal's width.
        console = Console(highlight=False, markup=False, emoji=False, width=100_000, color_system=None)
    if options.watch:
        with suppress(KeyboardInterrupt):
            _watch(look, console)
    look.again()
    console.print(look.report(console), soft_wrap=not console.is_terminal)
    if text := look.advice():
        console.print(f"\n{printable(text)}", soft_wrap=True)  # on one line, so that it can be copied
    return 0 if look.finished else 1


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(_USAGE, _HELP, _EXIT)
    parser.add_argument("--failed", action="store_true", help="add the stack traces of failed cells")
    parser.add_argument("--watch", action="store_true", help="look again each 2 s until every cell has ended")
    return parser


class _Look:
    """The latest state of some sweeps of a runs folder."""

    def __init__(self, runs: Path, names: Sequence[str], given: Sequence[str], *, tracebacks: bool) -> None:
        self._runs, self._names, self._given, self._tracebacks = runs, names, given, tracebacks
        self._watcher = StatusReader(runs)
        self._found: list[tuple[StoredPlan, list[CellStatus]]] = []
        self._unreadable: list[str] = []
        self._beats: dict[str, tuple[tuple[str, int], float]] = {}  # {cell: (its owner's last heartbeat, arrival time)}

    def again(self) -> None:
        """Update the state."""
        self._found, self._unreadable = [], []
        for name in self._names:
            try:
                plan = StoredPlan.read(sweep_folder(self._runs, name))
            except (RecordError, OSError) as error:
                self._unreadable.append(str(error))
            else:
                self._found.append((plan, self._watcher.look(plan)))

    @property
    def statuses(self) -> list[CellStatus]:
        """Return every cell of every sweep."""
        return [each for _, statuses in self._found for each in statuses]

    @property
    def finished(self) -> bool:
        """Return whether every cell has a result."""
        contradicted = any(self._watcher.problems(plan) for plan, _ in self._found)
        return not (self._unreadable or contradicted) and all(each.state.finished for each in self.statuses)

    @property
    def ended(self) -> bool:
        """Return whether every cell has ended."""
        return all(each.state.ended for each in self.statuses)

    def counts(self) -> str:
        """Return one line for all cells."""
        return counts(self.statuses)

    def advice(self) -> str:
        """Return advice on cells that no process trains; "" if there are none, or if that is uncertain."""
        if not self._given or not self._found or self._watcher.queue_error:
            return ""
        return advice(self.statuses, self._given)

    def report(self, console: Console) -> RenderableType:
        """Return the report of the last update."""
        parts: list[RenderableType] = [printable(text) for text in self._unreadable]
        if self._given:
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
                launch=self._watcher.last_launch(plan.sweep),
                queue_error=self._watcher.queue_error,
                problems=self._watcher.problems(plan),
                tracebacks=self._tracebacks,
                silent=self._silent(statuses),
                width=console.width if console.is_terminal else None,
            )
        )

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


if __name__ == "__main__":
    streams.guard()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (UsageError, RecordError) as error:
        complain(str(error))
        sys.exit(2)
