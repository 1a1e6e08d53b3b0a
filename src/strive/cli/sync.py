"""`strive sync`: uploads to W&B what it does not have yet. Imports no torch."""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from strive.cells.find_record import one_result
from strive.cli.folders import AskedSweeps, add_sweeps, asked_for, plan_names
from strive.config.keys import knobs
from strive.config.platform_keys import TrackerConfig
from strive.console import OUTPUT
from strive.errors import NoKeyError, RecordError, UsageError
from strive.format import counted
from strive.plain_text import printable
from strive.progress_bar import progress_bar
from strive.sweeps.plan import StoredPlan, names_in, plan_folders, runs_folder
from strive.trackers.mirror import Mirror
from strive.trackers.server import surroundings
from strive.trackers.session import missing
from strive.trackers.tracker import CellTracker, Shown
from strive.trackers.upload_state import read_upload_state, upload_url, write_upload_state

HELP = """\
Upload to W&B what it does not have yet of the cells on disk: histories,
results, plans. It needs nothing but their files, so it runs on a login node, on
a laptop with a copy of the folder, or a year later.

  %(prog)s                   every cell below runs
  %(prog)s table3            the cells of one sweep
  %(prog)s table3 seed=0,1   as it was launched with these overrides
  %(prog)s --runs DIR        records in another folder
  %(prog)s --project P       not to the project that the launch named
  %(prog)s table3 --watch    while they train, until every cell has ended

A cell has one W&B run, and each step is uploaded once, however often this is
started. What W&B has of a cell is in its wandb.json; --again asks W&B itself,
should somebody have deleted something there."""
EXIT = """\
exit code: 0 if W&B has all that there is, 1 if something did not arrive, 2 if
nothing could be uploaded."""
_MEANINGS = {key: meaning for key, meaning, _ in knobs(TrackerConfig())}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and to which project."""
    add_sweeps(parser, default="every cell, also those of no plan")
    parser.add_argument("--project", metavar="P", help="W&B project (default: that of the launch)")
    parser.add_argument("--entity", metavar="E", help="W&B user or team (default: that of the launch)")
    parser.add_argument("--watch", action="store_true", help="go on until every cell has ended")
    parser.add_argument("--again", action="store_true", help="ask W&B about every cell, not its wandb.json")


def run(options: argparse.Namespace) -> int:
    """Upload; return the exit code. Raises UsageError without W&B's package or a key."""
    target = _target(options)
    asked = asked_for(options)
    plans, cells = _wanted(asked, begun=not options.watch)
    if not plans and not cells:
        print(f"there is no cell in {', '.join(map(str, asked.folders))}")
        return 0
    if reason := missing():
        raise UsageError(f"W&B: {reason}")
    for folder in [*plans, *cells] if options.again else ():
        if (state := read_upload_state(folder)) is not None:
            write_upload_state(folder, replace(state, content=""))
    with tempfile.TemporaryDirectory(prefix="strive-sync-", ignore_cleanup_errors=True) as scratch:
        os.environ |= surroundings(scratch)
        return _Upload(plans, cells, target).run(watch=options.watch)


class _Upload:
    """An upload that a user waits for."""

    def __init__(self, plans: Sequence[Path], cells: Sequence[Path], target: Mapping[str, str]) -> None:
        make = partial(_tracker, target)
        self._mirror = Mirror(make, plans, on_shown=self._on_shown, on_problem=self._on_problem)
        self._mirror.add(cells)
        self._cells = frozenset(cells)
        # On a terminal, lines are printed above the bar; in a file there is no bar.
        self._bar = progress_bar(redirect_stdout=OUTPUT.is_terminal)
        self._task = self._bar.add_task("uploading", total=len(cells))

    def run(self, *, watch: bool) -> int:
        """Upload, to watch them until every cell has ended; return the exit code."""
        if not (watch and self._cells):
            self._mirror.close()
        try:
            with self._bar:
                self._mirror.run()
        except NoKeyError as error:
            self._on_problem(str(error))
        except KeyboardInterrupt:
            _say("stopped; the same command goes on from there")
            self._report()
            os._exit(1)  # W&B's client would wait for what is on its way
        return self._report()

    def _on_shown(self, folder: Path) -> None:
        if folder not in self._cells:
            return
        shown, counts = self._mirror.how(folder), self._mirror.counts
        if shown is Shown.whole or (shown is Shown.partly and self._mirror.is_closing):
            _say(f"{folder.name}: {shown}  {upload_url(folder)}")
        self._bar.update(self._task, completed=len(self._cells) - counts[Shown.waiting])
        if counts[Shown.whole] + counts[Shown.already] == len(self._cells):
            self._mirror.close()

    def _on_problem(self, text: str) -> None:
        print(printable(f"W&B: {text}"), file=sys.stderr, flush=True)

    def _report(self) -> int:
        """Print how many cells are where; return the exit code."""
        counts = self._mirror.counts
        left = counts.pop(Shown.waiting, 0)
        parts = [f"{counts[shown]} {shown}" for shown in Shown if counts[shown]]
        _say(
            f"{counted(len(self._cells), 'cell')}: " + ", ".join([*parts, *([f"{left} not uploaded"] if left else [])])
        )
        if not (left or self._mirror.problems):
            return 0
        return 1 if parts else 2


def _say(line: str) -> None:
    # Not OUTPUT, which would overwrite the progress bar.
    print(printable(line), flush=True)


def _tracker(target: Mapping[str, str]) -> CellTracker:
    from strive.trackers.wandb_tracker import WandbTracker  # imports W&B

    return WandbTracker(**target)


def _target(options: argparse.Namespace) -> dict[str, str]:
    """Return the upload target as far as the command line sets it."""
    found = {name: value for name in ("project", "entity") if (value := getattr(options, name)) is not None}
    for name, value in found.items():
        if not (meaning := _MEANINGS[name]).check(value):
            raise UsageError(f"--{name} must be {meaning.legal}, got {value!r}")
    for text in options.sweeps:
        key, _, value = text.partition("=")
        if key in ("tracker.project", "tracker.entity"):
            raise UsageError(f"{text}: give it as --{key.removeprefix('tracker.')} {value}")
    return found


def _wanted(asked: AskedSweeps, *, begun: bool) -> tuple[list[Path], list[Path]]:
    """Return the folders of plans and of cells to upload, of one launch or of all. begun: only started cells."""
    by_name = bool(asked.sweeps or asked.overrides)
    where = plan_folders(asked.folders)
    there = {folder: names_in(folder) for folder in asked.folders}
    plans: list[Path] = []
    cells: dict[str, Path] = {}  # {cell: the folder that it is to be in}
    for name in plan_names(asked, where) if by_name else where:
        try:
            plan = StoredPlan.read(where[name])
        except RecordError as error:
            if by_name:
                raise
            print(f"left out: {error}", file=sys.stderr)
            continue
        plans.append(where[name])
        for each in plan.cells:
            cells.setdefault(each.cell, runs_folder(where[name]))
    if not by_name:
        for folder, inside in there.items():
            for name in sorted(inside):
                if _is_cell(folder / name):
                    cells.setdefault(name, folder)
    found = []
    for cell, planned in cells.items():
        having = [folder for folder in asked.folders if cell in there[folder]]
        record = one_result(cell, having) if len(having) > 1 else None
        if having or not begun:
            found.append(record.parent if record else next(iter(having), planned) / cell)
    return plans, found


def _is_cell(folder: Path) -> bool:
    return (folder / "record.json").exists() or (folder / "config.yaml").exists()
