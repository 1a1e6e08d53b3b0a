"""Uploads cells to W&B that are missing there: `python src/sync.py --help`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from allcnn.config import Config
from strive import streams
from strive.cli import command_parser
from strive.config.keys import knobs
from strive.console import CONSOLE, OUTPUT
from strive.errors import RecordError, UsageError
from strive.plain_text import printable
from strive.sweeps.find_plan import split, wanted
from strive.sweeps.plan import StoredPlan, names_in, sweep_folder
from strive.trackers.daemon_process import DaemonProcess
from strive.trackers.protocol import UploadEvent, UploadEventKind
from strive.trackers.session import missing
from strive.trackers.upload_state import read_upload_state, write_upload_state

_USAGE = "python src/sync.py [sweeps=NAME] [KEY=VALUE ...] [runs=DIR] [tracker.project=P] [--watch] [--again]"
_HELP = """\
Upload to W&B what it does not have yet of the cells on disk: epochs, results, plans. It needs nothing
but their files, so it runs on a login node, on a laptop with a copy of the folder, or a year later.

  python src/sync.py                                    every cell below runs/
  python src/sync.py sweeps=table3                      the cells of one sweep
  python src/sync.py sweeps=table3 seed=0,1             of one that was launched with such overrides
  python src/sync.py runs=results/table3_small          records in another folder
  python src/sync.py tracker.project=P tracker.entity=E elsewhere than the cells' own config says
  python src/sync.py sweeps=table3 --watch              while they train, until every cell has ended

A cell has one W&B run, and each epoch is uploaded once, however often this is started. What W&B has
of a cell is in its wandb.json; --again asks W&B itself, should somebody have deleted something there."""
_EXIT = """\
exit code: 0 if W&B has all that there is, 1 if something did not arrive, 2 if nothing could be uploaded."""
_SECONDS = 700.0  # without an event, after which the process is given up; weights may take ten minutes
_TARGET = ("tracker.project", "tracker.entity")
_ENDED = (
    UploadEventKind.uploaded,
    UploadEventKind.done,
    UploadEventKind.partly,
    UploadEventKind.nothing,
    UploadEventKind.other_process,
    UploadEventKind.failed,
)
_MEANINGS = {key: meaning for key, meaning, _ in knobs(Config())}
_WORDS = {
    UploadEventKind.uploaded: "uploaded",
    UploadEventKind.done: "there already",
    UploadEventKind.partly: "not ended, uploaded so far",
    UploadEventKind.nothing: "not begun",
    UploadEventKind.other_process: "shown by another process",
    UploadEventKind.failed: "failed",
}


def _say(line: str) -> None:
    # Not OUTPUT, which would overwrite the progress bar.
    print(printable(line), flush=True)


def main() -> int:
    """Upload; return the exit code."""
    options = _parser().parse_intermixed_args()
    runs, arguments = split(options.overrides)
    target = _target(arguments)
    launch = [text for text in arguments if text.partition("=")[0] not in _TARGET]
    plans, cells = _wanted(runs, launch, begun=not options.watch)
    if not cells and not plans:
        print(f"there is no cell in {runs}")
        return 0
    if reason := missing():
        raise UsageError(f"W&B: {reason}")
    if options.again:
        for folder in (*(sweep_folder(runs, name) for name in plans), *(runs / cell for cell in cells)):
            if (state := read_upload_state(folder)) is not None:
                write_upload_state(folder, replace(state, sha256=""))
    upload = _Upload(cells)
    process = DaemonProcess(runs, log=runs / "sync.log", on_event=upload.hear, overrides=target)
    try:
        process.show(cells=cells, plans=plans)
        with upload.bar:
            while options.watch and not (upload.is_over or process.has_ended):
                time.sleep(0.2)
            process.leave()
            while not process.has_ended and process.silent_seconds < _SECONDS:
                time.sleep(0.05)
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from there")
    finally:
        process.kill()
    return upload.report()


class _Upload:
    """Progress of the upload."""

    def __init__(self, cells: Sequence[str]) -> None:
        self._cells, self._total = frozenset(cells), len(cells)
        self._last: dict[str, UploadEvent] = {}
        self._problems: dict[str, str] = {}  # {cell, plan, or "" for the server: its error}
        self.bar = Progress(
            TextColumn("uploading"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=CONSOLE,
            disable=not CONSOLE.is_terminal,
            transient=True,
            # On a terminal, lines are printed above the bar; in a file there is no bar.
            redirect_stdout=OUTPUT.is_terminal,
        )
        self._task = self.bar.add_task("", total=self._total)

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
        cells = f"{self._total} cell{'' if self._total == 1 else 's'}"
        _say(f"{cells}: " + ", ".join([*parts, *([f"{left} not uploaded"] if left else [])]))
        if not left:
            self._problems.pop("", None)  # the server was only temporarily unavailable
        for text in dict.fromkeys(self._problems.values()):
            print(f"W&B: {text}", file=sys.stderr)
        if not left and not self._problems:
            return 0
        return 1 if self._last else 2


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(_USAGE, _HELP, _EXIT)
    parser.add_argument("--watch", action="store_true", help="go on until every cell has ended")
    parser.add_argument("--again", action="store_true", help="ask W&B about every cell, not its wandb.json")
    return parser


def _target(overrides: Sequence[str]) -> dict[str, str]:
    """Return the upload target as far as the command line sets it."""
    pairs = [text.partition("=") for text in overrides]
    for key, _, value in pairs:
        if key in _TARGET and not (meaning := _MEANINGS[key]).check(value):
            raise UsageError(f"{key} must be {meaning.legal}, got {value!r}")
    return {key.partition(".")[2]: value for key, _, value in pairs if key in _TARGET}


def _wanted(runs: Path, arguments: Sequence[str], *, begun: bool) -> tuple[list[str], list[str]]:
    """Return the names of the plans and cells to upload, of one launch or of all. begun: only started cells."""
    if not runs.is_dir():
        raise UsageError(f"runs={runs}: there is no such folder; name one that records were written to")
    there = names_in(runs)
    cells: dict[str, None] = {}
    found = []
    names = [wanted(runs, arguments)] if arguments else sorted(names_in(runs / "sweeps"))
    for name in names:
        try:
            cells |= dict.fromkeys(cell.cell for cell in StoredPlan.read(sweep_folder(runs, name)).cells)
            found.append(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except RecordError as error:
            if arguments:
                raise UsageError(str(error)) from None
            print(f"left out: {error}", file=sys.stderr)
    if not arguments:
        cells |= dict.fromkeys(name for name in sorted(there) if _is_cell(runs / name))
    return found, [cell for cell in cells if cell in there or not begun]


def _is_cell(folder: Path) -> bool:
    return (folder / "record.json").exists() or (folder / "config.yaml").exists()


if __name__ == "__main__":
    streams.guard()
    try:
        sys.exit(main())
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
