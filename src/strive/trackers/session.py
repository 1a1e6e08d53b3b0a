"""Sessions of trackers: show cells on W&B or in files while they train. Imports neither W&B nor torch."""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from strive import signals
from strive.cells.task import Task
from strive.config.platform_keys import Tracker
from strive.errors import ConfigError, StoppedError
from strive.format import counted, runs_option
from strive.sweeps.plan import sweep_folder
from strive.trackers.csv_file import CsvFile
from strive.trackers.daemon_process import DaemonProcess
from strive.trackers.file_session import FileSession, FileTracker
from strive.trackers.protocol import UploadEvent, UploadEventKind
from strive.trackers.server import seconds as answer_seconds

_PATIENCE_SECONDS = 6.0  # at the end, without a word from the process, beside the time for one answer of the server
_TOTAL_SECONDS = 60.0  # at the end, in all; what is left then is for `strive sync`
_LEAVE_SECONDS = 8.0  # the same after a signal: SLURM kills half a minute after it
_LATER = "strive sync"
_STAY = f"epochs stay in the cells' folders, and {_LATER} uploads them"
_SAID = "sweeps/wandb.txt"  # in the runs folder: why W&B was not used when that was said last
_STARTS = 3  # of the process, should it end by itself
_WANDB, _FILES = (Tracker.auto, Tracker.wandb), (Tracker.csv, Tracker.tensorboard)
_WHOLE = (UploadEventKind.uploaded, UploadEventKind.done)


class UploadSession:
    """Cells on W&B, in a process of its own; use as a context manager.

    Nothing waits for it but the end, which is bounded; whatever goes wrong is one line.
    """

    def __init__(
        self,
        runs: Path,
        kind: Tracker,
        *,
        log: Path,
        say: Callable[[str], object],
        plans: Sequence[str] = (),
        leave_seconds: float = _LEAVE_SECONDS,
        hidden: Iterable[str] = (),
    ) -> None:
        """Nothing starts before `with`.

        runs: folder of the cells. log: what W&B's client prints. say: shows a line to the user. plans: of the
        sweeps that the cells belong to. leave_seconds: that the end may take after a signal. hidden: cells with
        tracker=none, which are not shown.
        """
        self._leave_seconds, self._hidden = leave_seconds, frozenset(hidden)
        self._runs, self.kind, self._log, self._say, self._plans = runs, kind, log, say, plans
        self._process: DaemonProcess | None = None
        self._shown: set[str] = set()
        self._leaving = False
        self._starts = self._pages = 0

    def __enter__(self) -> Self:
        """Start the process.

        Raises ConfigError for tracker=wandb without W&B's client, or without a key.
        """
        if reason := missing():
            self._refuse(reason)
            if self.kind is Tracker.auto and os.environ.get("WANDB_MODE") != "disabled":
                self._say_news(f"W&B: {reason}; {_STAY}")
        elif self.kind is not Tracker.none:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait, for a bounded time, until it has sent what is there, and say what it has not; raises nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            # What failed before there was anything to show needs no word on W&B.
            if error is None or any(event.kind is UploadEventKind.shown for event in process.events):
                self._wait(process)
                error = None
        except KeyboardInterrupt:
            self._say(f"W&B: left; {_LATER} uploads the rest")
        finally:
            lost = process.has_ended and not self._leaving
            process.kill()
        if error is None or isinstance(error, StoppedError):
            why = f"its process ended; {self._log} has its last words" if lost else ""
            if text := summary(process.events, self._shown, self._runs, why):
                self._say(text)

    def show(self, cells: Iterable[str]) -> None:
        """Show these cells from now on; those that are shown already are ignored."""
        new = [cell for cell in cells if cell not in self._shown and cell not in self._hidden]
        self._shown.update(new)
        if self._process is None:
            return
        if self._process.has_ended and self._starts < _STARTS:
            self._say("W&B: its process ended, and is started again")
            self._process.kill()
            self._start()
            new = sorted(self._shown)
        if new:
            self._process.show(cells=new)

    def _start(self) -> None:
        self._starts += 1
        try:
            self._process = DaemonProcess(self._runs, log=self._log, on_event=self._show_event)
        except OSError as error:
            self._say(f"W&B: its process cannot be started ({error}); {_LATER} uploads the cells later")
            return
        self._process.show(plans=self._plans)
        if self.kind is Tracker.wandb:
            event = self._process.wait_for_server(_PATIENCE_SECONDS + answer_seconds())
            if event is not None and event.kind is UploadEventKind.offline:
                self._process.kill()
                self._refuse(event.text)

    def _refuse(self, reason: str) -> None:
        if self.kind is Tracker.wandb:
            raise ConfigError(f"tracker=wandb: {reason}; or say tracker=auto, or tracker=none")

    def _show_event(self, event: UploadEvent) -> None:
        if self._leaving and event.kind is UploadEventKind.retrying:
            return  # the summary says it
        if self.kind is Tracker.wandb and event.kind is UploadEventKind.offline:
            return  # the refusal says it
        if event.kind is UploadEventKind.shown:
            self._pages += 1
        if text := event_text(event, first=self._pages == 1, lone=len(self._shown) == 1 and not self._plans):
            (self._say_news if event.kind is UploadEventKind.offline else self._say)(text)

    def _say_news(self, text: str) -> None:
        """Say why W&B is not used, unless the last launch into this folder has said the same."""
        path = self._runs / _SAID
        try:
            if path.read_text(encoding="utf-8") == text:
                return
        except (OSError, UnicodeDecodeError):
            pass
        self._say(text)
        with suppress(OSError):  # then it is said again, as it is for a single cell, whose folder has no sweeps
            path.write_text(text, encoding="utf-8")

    def _wait(self, process: DaemonProcess) -> None:
        self._leaving, asked_before = not process.has_ended, signals.requested()
        process.leave()
        begun, announced = time.monotonic(), False
        patience = _PATIENCE_SECONDS + answer_seconds()
        while not process.has_ended and process.silent_seconds < patience:
            seconds = time.monotonic() - begun
            if seconds > (self._leave_seconds if asked_before else _TOTAL_SECONDS):
                return
            if signals.requested() != asked_before:
                raise KeyboardInterrupt  # the signal was for this wait
            # Before its first page it may find out that there is no key, and then it has nothing to send.
            if seconds > (1 if self._pages else 3) and not announced:
                announced = True
                what = "sending what is left" if self._pages else "waiting for its first answer"
                self._say(f"W&B: {what} (Ctrl-C leaves that to {_LATER})")
            time.sleep(0.02)


class Sessions(ExitStack):
    """What shows the cells of a launch: on W&B, in files, or in both; use as a context manager."""

    def __init__(self, sessions: Sequence[UploadSession | FileSession]) -> None:
        super().__init__()
        self.parts = tuple(sessions)

    def __enter__(self) -> Self:
        """Start all. Raises what they raise."""
        super().__enter__()
        with ExitStack() as begun:
            for each in self.parts:
                begun.enter_context(each)
            self.push(begun.pop_all())
        return self

    def show(self, cells: Iterable[str]) -> None:
        """Show these cells from now on."""
        cells = list(cells)
        for each in self.parts:
            each.show(cells)


def session_of(
    tasks: Sequence[Task],
    *,
    sweep: str,
    log: Path,
    say: Callable[[str], object],
    shows_plan: bool = True,
    strict: bool = True,
    leave_seconds: float = _LEAVE_SECONDS,
) -> Sessions:
    """Return what shows the cells of a launch, or of one of its jobs; the other arguments are UploadSession's.

    sweep: that the cells belong to. shows_plan: on W&B, too. strict: refuse tracker=wandb where W&B cannot be had,
    rather than do without.
    """
    if strict and len(tasks) > 1 and os.environ.get("WANDB_SWEEP_ID"):
        raise ConfigError("a W&B agent gives one W&B run to each command, so train one cell in each: leave out -m")
    kinds = {task.settings.tracker.kind for task in tasks}
    kind = next((each for each in (Tracker.wandb, Tracker.auto) if each in kinds), Tracker.none)
    runs = Path(tasks[0].settings.runs) if tasks else Path("runs")
    upload = UploadSession(
        runs,
        Tracker.auto if kind is Tracker.wandb and not strict else kind,
        log=log,
        say=say,
        plans=[sweep] if shows_plan else [],
        leave_seconds=min(leave_seconds, _LEAVE_SECONDS),
        hidden=[task.cell for task in tasks if task.settings.tracker.kind not in _WANDB],
    )
    files = [file_session(each, runs, sweep_folder(runs, sweep), say) for each in _FILES if each in kinds]
    return Sessions([upload, *files])


def single_session(kind: Tracker, runs: Path, cell: str, say: Callable[[str], object]) -> UploadSession | FileSession:
    """Return what shows one cell that is of no sweep."""
    if kind in _FILES:
        return file_session(kind, runs, runs / cell, say)
    return UploadSession(runs, kind, log=runs / cell / "wandb.log", say=say)


def file_session(kind: Tracker, runs: Path, folder: Path, say: Callable[[str], object]) -> FileSession:
    """Return the session of a tracker that writes files into a folder: a plan's, or that of a single cell."""

    def make() -> FileTracker:
        if kind is Tracker.csv:
            return CsvFile(folder, runs)
        from strive.trackers.tensorboard_files import TensorBoardFiles

        return TensorBoardFiles(folder)

    return FileSession(runs, make, name=kind.value, say=say)


def check_trackers(kinds: Collection[str]) -> None:
    """Raise ConfigError for tracker=tensorboard without its package."""
    if Tracker.tensorboard.value in kinds and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "tracker=tensorboard: its package is not installed (pip install tensorboard); or say tracker=csv or none"
        )


def check_wandb(kinds: Iterable[str], say: Callable[[str], object]) -> None:
    """Raise ConfigError for tracker=wandb without W&B's client or a key, before a cluster finds out."""
    if Tracker.wandb.value in kinds:
        with (
            tempfile.TemporaryDirectory() as folder,
            UploadSession(Path(folder), Tracker.wandb, log=Path(folder) / "wandb.log", say=say),
        ):
            pass


def missing() -> str:
    """Return why W&B is not even asked; "" if it is."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE={mode}"
    if importlib.util.find_spec("wandb") is None:
        return "its client is not installed (pip install wandb)"
    return ""


def event_text(event: UploadEvent, *, first: bool, lone: bool) -> str:
    """Return the line to print at once; "" for what the summary at the end says.

    first: it is of the first page. lone: there is one cell, so that its page is what to look at.
    """
    match event.kind:
        case UploadEventKind.offline:
            return f"W&B: {event.text}; {_STAY}"
        case UploadEventKind.retrying:
            return f"W&B: {event.cell + ': ' if event.cell else ''}{event.text}; training goes on, it is tried again"
        case UploadEventKind.shown if first:
            return f"W&B: {event.url if lone else event.url.rpartition('/runs/')[0]}"
        case _:
            return ""


def summary(events: Sequence[UploadEvent], cells: Iterable[str], runs: Path, why: str = "") -> str:
    """Return what is on W&B in the end, and what is not, in one line; "" if W&B was never asked.

    why: the reason for what is missing, where no event gives one.
    """
    wanted = set(cells)
    last = {each.cell: each for each in events if each.cell}
    # Another process has those, or there was nothing of them to show.
    wanted -= {
        cell
        for cell in wanted
        if cell in last and last[cell].kind in (UploadEventKind.other_process, UploadEventKind.nothing)
    }
    whole = {cell for cell in wanted if cell in last and last[cell].kind in _WHOLE}
    if not wanted or any(each.kind is UploadEventKind.offline for each in events):
        return ""
    if whole == wanted:
        return f"W&B has all of {counted(len(whole), 'cell')}"
    reasons = [each.text for each in events if each.kind in (UploadEventKind.retrying, UploadEventKind.failed)]
    stopped = all(cell in last and last[cell].kind is UploadEventKind.partly for cell in wanted - whole)
    why = why or (reasons[-1] if reasons else "the cells have not ended" if stopped else "there was no time for more")
    return (
        f"W&B: {len(wanted - whole)} of {counted(len(wanted), 'cell')} not uploaded to their end ({why}); later:"
        f" {_LATER}{runs_option(runs)}"
    )
