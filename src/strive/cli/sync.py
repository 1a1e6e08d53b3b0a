"""`strive sync`: uploads to W&B what it does not have yet. Imports neither W&B nor torch."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from strive.cells.find_record import one_result
from strive.cli.folders import Asked, add_sweeps, asked_for, plan_names
from strive.config.keys import knobs
from strive.config.platform_keys import TrackerConfig
from strive.console import OUTPUT
from strive.errors import RecordError, UsageError
from strive.format import counted
from strive.plain_text import printable
from strive.progress_bar import progress_bar
from strive.sweeps.plan import StoredPlan, names_in, plan_folders, runs_folder, sweep_folder
from strive.trackers.daemon_process import DaemonProcess
from strive.trackers.protocol import UploadEvent, UploadEventKind
from strive.trackers.session import missing
from strive.trackers.upload_state import read_upload_state, write_upload_state

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
_SECONDS = 700.0  # without an event, after which the process is given up; weights may take ten minutes
_ENDED = (
    UploadEventKind.uploaded,
    UploadEventKind.done,
    UploadEventKind.partly,
    UploadEventKind.nothing,
    UploadEventKind.other_process,
    UploadEventKind.failed,
)
_MEANINGS = {key: meaning for key, meaning, _ in knobs(TrackerConfig())}
_WORDS = {
    UploadEventKind.uploaded: "uploaded",
    UploadEventKind.done: "there already",
    UploadEventKind.partly: "not ended, uploaded so far",
    UploadEventKind.nothing: "not begun",
    UploadEventKind.other_process: "shown by another process",
    UploadEventKind.failed: "failed",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and to which project."""
    add_sweeps(parser, default="every cell, also those of no plan")
    parser.add_argument("--project", metavar="P", help="W&B project (default: that of the launch)")
    parser.add_argument("--entity", metavar="E", help="W&B user or team (default: that of the launch)")
    parser.add_argument("--watch", action="store_true", help="go on until every cell has ended")
    parser.add_argument("--again", action="store_true", help="ask W&B about every cell, not its wandb.json")


def run(options: argparse.Namespace) -> int:
    """Upload; return the exit code."""
    target = _target(options)
    asked = asked_for(options)
    found = _wanted(asked, begun=not options.watch)
    cells = [cell for each in found for cell in each.cells]
    if not found:
        print(f"there is no cell in {', '.join(map(str, asked.folders))}")
        return 0
    if reason := missing():
        raise UsageError(f"W&B: {reason}")
    for each in found if options.again else ():
        each.forget()
    upload = _Upload(cells)
    with ExitStack() as stack:
        processes = list[DaemonProcess]()
        for each in found:
            log = each.runs / "sync.log"
            processes.append(DaemonProcess(each.runs, log=log, on_event=upload.hear, overrides=target))
            stack.callback(processes[-1].kill)
            processes[-1].show(cells=each.cells, plans=each.plans)
        try:
            with upload.bar:
                while options.watch and not (upload.is_over or all(each.has_ended for each in processes)):
                    time.sleep(0.2)
                for process in processes:
                    process.leave()
                while any(not each.has_ended and each.silent_seconds < _SECONDS for each in processes):
                    time.sleep(0.05)
        except KeyboardInterrupt:
            _say("stopped; the same command goes on from there")
    return upload.report()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """What is to be uploaded of one runs folder."""

    runs: Path
    plans: list[str]
    cells: list[str]

    def forget(self) -> None:
        """Forget what is known to be on W&B, so that it is asked again."""
        for folder in (
            *(sweep_folder(self.runs, name) for name in self.plans),
            *(self.runs / cell for cell in self.cells),
        ):
            if (state := read_upload_state(folder)) is not None:
                write_upload_state(folder, replace(state, sha256=""))


class _Upload:
    """Progress of the upload."""

    def __init__(self, cells: Sequence[str]) -> None:
        self._cells, self._total = frozenset(cells), len(cells)
        self._last: dict[str, UploadEvent] = {}
        self._problems: dict[str, str] = {}  # {cell, plan, or "" for the server: its error}
        # On a terminal, lines are printed above the bar; in a file there is no bar.
        self.bar = progress_bar(redirect_stdout=OUTPUT.is_terminal)
        self._task = self.bar.add_task("uploading", total=self._total)

    @property
    def is_over(self) -> bool:
        """Return whether all cells are finished."""
        return len(self._last) >= self._total

    def hear(self, event: UploadEvent) -> None:
        """Process and display an event of the upload process."""
        if event.kind in (UploadEventKind.offline, UploadEventKind.retrying):
            self._problems[event.cell] = f"{event.cell}: {event.text}" if event.cell else event.text
        if event.kind not in _ENDED:
            return
        self._problems.pop(event.cell, None)
        if event.kind is UploadEventKind.failed:
            self._problems[event.cell] = f"{event.cell}: {event.text}"
        if event.cell not in self._cells:
            return  # the event of a plan
        before = self._last.get(event.cell)
        if not (before is not None and before.kind is UploadEventKind.uploaded and event.kind is UploadEventKind.done):
            self._last[event.cell] = event  # keep "uploaded" if a second check reports "done"
        self.bar.update(self._task, completed=len(self._last))
        if event.kind in (UploadEventKind.uploaded, UploadEventKind.partly):
            _say(f"{event.cell}: {event.text}  {event.url}")

    def report(self) -> int:
        """Print a summary of the upload; return the exit code."""
        counts = Counter(event.kind for event in self._last.values())
        parts = [f"{counts[kind]} {word}" for kind, word in _WORDS.items() if counts[kind]]
        left = self._total - len(self._last)
        cells = counted(self._total, "cell")
        _say(f"{cells}: " + ", ".join([*parts, *([f"{left} not uploaded"] if left else [])]))
        if not left:
            self._problems.pop("", None)  # the server was only temporarily unavailable
        for text in dict.fromkeys(self._problems.values()):
            print(f"W&B: {text}", file=sys.stderr)
        if not left and not self._problems:
            return 0
        return 1 if self._last else 2


def _say(line: str) -> None:
    # Not OUTPUT, which would overwrite the progress bar.
    print(printable(line), flush=True)


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


def _wanted(asked: Asked, *, begun: bool) -> list[_Folder]:
    """Return the plans and cells to upload, of one launch or of all. begun: only started cells."""
    by_name = bool(asked.sweeps or asked.overrides)
    where = plan_folders(asked.folders)
    names = plan_names(asked, where) if by_name else list(where)
    found = {folder: _Folder(runs=folder, plans=[], cells=[]) for folder in asked.folders}
    there = {folder: names_in(folder) for folder in asked.folders}
    cells: dict[str, Path] = {}  # {cell: the folder that has most of it}
    for name in names:
        try:
            plan = StoredPlan.read(where[name])
        except RecordError as error:
            if by_name:
                raise
            print(f"left out: {error}", file=sys.stderr)
            continue
        runs = runs_folder(where[name])
        found[runs].plans.append(name)
        for each in plan.cells:
            cells.setdefault(each.cell, runs)
    if not by_name:
        for folder, inside in there.items():
            for name in sorted(inside):
                if _is_cell(folder / name):
                    cells.setdefault(name, folder)
    for cell, planned in cells.items():
        having = [folder for folder in asked.folders if cell in there[folder]]
        record = one_result(cell, having) if len(having) > 1 else None
        folder = record.parent.parent if record else next(iter(having), planned)
        if having or not begun:
            found[folder].cells.append(cell)
    return [each for each in found.values() if each.cells or each.plans]


def _is_cell(folder: Path) -> bool:
    return (folder / "record.json").exists() or (folder / "config.yaml").exists()
