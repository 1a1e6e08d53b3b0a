"""Sessions of trackers: show cells on W&B or in files while they train. Imports neither W&B nor torch."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from strive import app, signals
from strive.cells.task import Task
from strive.config.platform_keys import Tracker
from strive.errors import ConfigError
from strive.format import runs_option
from strive.processes import own_source_first
from strive.sweeps.plan import sweep_folder
from strive.trackers.mirror_process import MirrorOptions
from strive.trackers.server import seconds as answer_seconds
from strive.trackers.server import surroundings

_ANSWER_SECONDS = 20.0  # for the process's first word on a busy machine, beside the time for an answer of the server
_TOTAL_SECONDS = 60.0  # that the end may take; what is left then is for `strive sync`
_LEAVE_SECONDS = 8.0  # that it may take after a signal: SLURM kills half a minute after it
_QUIET_SECONDS = 3.0  # how long it waits at the end before a line says for what
_FIRST_SECONDS = 10.0  # the same before there was an answer: there may be no key, and nothing to wait for
_NEWS = "sweeps/wandb.txt"  # in the runs folder: why W&B was not used when that was said last
_AGAIN_SECONDS = 30.0  # before a process that ended by itself a second time is started again
_WANDB = (Tracker.auto, Tracker.wandb)


class Session:
    """Cells in one tracker, by a process of its own; use as a context manager.

    Nothing waits for it but the end, which is bounded; whatever goes wrong is one line.
    """

    def __init__(
        self,
        kind: Tracker,
        runs: Path,
        folder: Path,
        *,
        log: Path,
        say: Callable[[str], object],
        plan: Path | None = None,
        leave_seconds: float = _LEAVE_SECONDS,
        hidden: Iterable[str] = (),
    ) -> None:
        """Nothing starts before `with`.

        runs: folder of the cells. folder: of the tracker's files. log: gets what the process prints, if anything.
        say: shows a line to the user. plan: folder of the sweep's, if it is to be shown. leave_seconds: that the end
        may take after a signal. hidden: cells with tracker=none.
        """
        self.kind, self._runs, self._log, self._say = kind, runs, log, say
        self._leave_seconds, self._hidden = leave_seconds, frozenset(hidden)
        self._options = MirrorOptions(
            kind="wandb" if kind in _WANDB else kind.value,
            runs=str(runs),
            folder=str(folder.absolute()),
            plan=str(plan.absolute()) if plan else "",
        )
        self._later = "a new launch writes its files again"
        if kind in _WANDB:
            self._later = f"strive sync{runs_option(runs)} uploads the rest"
        self._process: subprocess.Popen[str] | None = None
        self._stack = ExitStack()
        self._cells: dict[str, None] = {}
        self._again_at = 0.0
        self._answered, self._refused = threading.Event(), ""
        self._state = self._left = ""

    def __enter__(self) -> Self:
        """Start the process.

        Raises ConfigError for tracker=wandb without W&B's client, or without a key.
        """
        if self.kind in _WANDB and (reason := missing()):
            self._refuse(reason)
        elif self.kind is not Tracker.none:
            self._start()
            if self.kind is Tracker.wandb:
                self._answered.wait(_ANSWER_SECONDS + answer_seconds())
                if self._refused:
                    self._stack.close()
                    self._refuse(self._refused)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait, for a bounded time, until it has shown what is there; raises nothing."""
        with self._stack:
            # What failed before there was anything to show needs no word on it.
            if self._process is None or self._refused or not self._cells or not (error is None or self._left):
                return
            try:
                self._wait(self._process)
            except KeyboardInterrupt:
                self._tell(f"left; {self._later}")

    def show(self, cells: Iterable[str]) -> None:
        """Show these cells from now on; those that are shown already are ignored."""
        new = [cell for cell in cells if cell not in self._cells and cell not in self._hidden]
        self._cells |= dict.fromkeys(new)
        if self._process is not None and self._process.poll() not in (None, 0) and time.monotonic() >= self._again_at:
            if not self._again_at:
                self._tell("its process died; restarting it")
            self._again_at = time.monotonic() + _AGAIN_SECONDS
            self._stack.close()
            self._start()
            new = [*self._cells]
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError, ValueError):  # it has ended
                self._process.stdin.writelines(f"{cell}\n" for cell in new)
                self._process.stdin.flush()

    @property
    def state(self) -> str:
        """How things stand on W&B, for a display; "" where it is not asked."""
        return f"W&B: {self._state}" if self._state and self.kind in _WANDB else ""

    def _start(self) -> None:
        try:
            self._process = self._stack.enter_context(self._started())
        except OSError as error:
            self._process = None
            self._tell(f"its process cannot be started ({error}); {self._later}")

    @contextmanager
    def _started(self) -> Iterator["subprocess.Popen[str]"]:
        """Give the process, and kill it in the end. Raises OSError."""
        # Whatever W&B's client keeps while it sends: not in the cell's folder, where all of it is already.
        with tempfile.TemporaryDirectory(prefix="strive-tracker-", ignore_cleanup_errors=True) as scratch:
            options = json.dumps(asdict(self._options) | {"scratch": scratch})
            printed = Path(scratch, "printed.txt")
            with printed.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "strive.trackers.mirror_process", options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    env=own_source_first(os.environ, app.sources()) | surroundings(scratch),
                    # In a session of its own: a Ctrl-C is for the cells, which then have something more to show.
                    start_new_session=True,
                )
            reader = threading.Thread(target=self._hear, args=(process.stdout,), name="tracker", daemon=True)
            reader.start()
            try:
                yield process
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # W&B's helper process leaves by itself
                process.wait()
                reader.join(timeout=5)
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):
                        pipe.close()  # type: ignore[union-attr]
                with suppress(OSError):
                    if (text := printed.read_bytes()) and self._log.parent.is_dir():
                        with self._log.open("ab") as file:
                            file.write(text)

    def _hear(self, lines: Iterable[str]) -> None:
        """Take in what the process says, in a thread."""
        for line in lines:
            match json.loads(line):
                case {"say": str(text)}:
                    self._say(text)
                case {"refused": str(reason)}:
                    self._refused = reason
                    if self.kind is Tracker.auto:
                        self._refuse(reason)
                case {"state": str(state), "left": str(left)}:
                    self._state, self._left = state, left
            self._answered.set()
        self._answered.set()

    def _tell(self, text: str) -> None:
        self._say(f"{self._options.name}: {text}")

    def _refuse(self, reason: str) -> None:
        """Say why W&B is not used, unless the last launch into this folder has said the same."""
        if self.kind is Tracker.wandb:
            raise ConfigError(f"tracker=wandb: {reason}; or say tracker=auto, or tracker=none")
        text = f"{reason}; epochs stay in the cells' folders, and strive sync uploads them"
        with suppress(OSError, UnicodeDecodeError):
            if (self._runs / _NEWS).read_text(encoding="utf-8") == text:
                return
        if os.environ.get("WANDB_MODE") == "disabled":
            return
        self._tell(text)
        with suppress(OSError):  # then it is said again, as it is for a single cell, whose folder has no sweeps
            (self._runs / _NEWS).write_text(text, encoding="utf-8")

    def _wait(self, process: "subprocess.Popen[str]") -> None:
        """Have it send what is left, and say how that went. Raises KeyboardInterrupt for a signal."""
        asked_before, begun, announced = signals.requested(), time.monotonic(), self.kind not in _WANDB
        limit = self._leave_seconds if asked_before else _TOTAL_SECONDS
        with suppress(OSError, ValueError):
            process.stdin.close()  # type: ignore[union-attr]
        while (code := process.poll()) is None and (waited := time.monotonic() - begun) < limit:
            if signals.requested() != asked_before:
                raise KeyboardInterrupt  # the signal was for this wait
            if not announced and waited > (_QUIET_SECONDS if self._state else _FIRST_SECONDS):
                announced = True
                self._tell("sending what is left (Ctrl-C leaves that to strive sync)")
            time.sleep(0.02)
        self._stack.close()  # now all that it has said is read
        if code:
            self._tell(f"its process ended; {self._log} has its last words; {self._later}")
        elif self._left:
            self._say(self._left)
        elif code is None:
            self._tell(f"there was no time for it; {self._later}")


def session_of(
    tasks: Sequence[Task],
    *,
    sweep: str,
    log: Path,
    say: Callable[[str], object],
    shows_plan: bool = True,
    strict: bool = True,
    leave_seconds: float = _LEAVE_SECONDS,
) -> Session:
    """Return what shows the cells of a launch, or of one of its jobs; the other arguments are Session's.

    sweep: that the cells belong to. shows_plan: on W&B, too. strict: refuse tracker=wandb where W&B cannot be had,
    rather than do without. Raises ConfigError.
    """
    if strict and len(tasks) > 1 and os.environ.get("WANDB_SWEEP_ID"):
        raise ConfigError("a W&B agent gives one W&B run to each command, so train one cell in each: leave out -m")
    kinds = {task.settings.tracker.kind for task in tasks} - {Tracker.none}
    if Tracker.wandb in kinds:  # as strict as the strictest cell
        kinds = kinds - {Tracker.auto} if strict else kinds - {Tracker.wandb} | {Tracker.auto}
    if len(kinds) > 1:
        raise ConfigError(f"the cells of a launch have one tracker, or none; got {', '.join(sorted(kinds))}")
    runs = Path(tasks[0].settings.runs) if tasks else Path("runs")
    folder = sweep_folder(runs, sweep)
    return Session(
        next(iter(kinds), Tracker.none),
        runs,
        folder,
        log=log,
        say=say,
        plan=folder if shows_plan else None,
        leave_seconds=min(leave_seconds, _LEAVE_SECONDS),
        hidden=[task.cell for task in tasks if task.settings.tracker.kind is Tracker.none],
    )


def single_session(kind: Tracker, runs: Path, cell: str, say: Callable[[str], object]) -> Session:
    """Return what shows one cell that is of no sweep."""
    return Session(kind, runs, runs / cell, log=runs / cell / "wandb.log", say=say)


def check_trackers(kinds: Collection[str]) -> None:
    """Raise ConfigError for tracker=tensorboard without its package."""
    if Tracker.tensorboard.value in kinds and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "tracker=tensorboard: its package is not installed (pip install tensorboard); or say tracker=csv or none"
        )


def check_wandb(kinds: Iterable[str], say: Callable[[str], object]) -> None:
    """Raise ConfigError for tracker=wandb without W&B's client or a key, before a cluster finds out."""
    if Tracker.wandb.value in kinds:
        with tempfile.TemporaryDirectory() as folder:
            session = Session(Tracker.wandb, Path(folder), Path(folder), log=Path(folder) / "wandb.log", say=say)
            with session:
                pass


def missing() -> str:
    """Return why W&B is not even asked; "" if it is."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE={mode}"
    if importlib.util.find_spec("wandb") is None:
        return "its client is not installed (pip install wandb)"
    return ""
