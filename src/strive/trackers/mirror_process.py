"""The process that shows the cells of a launch: `python -m strive.trackers.mirror_process OPTIONS`, in JSON.

stdin has a cell a line. It looks at their files until stdin ends, then sends what is left and exits. stdout has a JSON
object a line: `say`, for the user; `refused`, why there is nothing to send to; `state`, how things stand, and with it
`left`, what is to be said if that was all. The parent never waits for this process, and may kill it at any time: what
W&B has then, W&B is asked next time.
"""

import json
import os
import shutil
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from strive import streams
from strive.errors import NoKeyError
from strive.format import counted, runs_option
from strive.json_lines import from_line
from strive.trackers.mirror import Mirror
from strive.trackers.tracker import CellTracker, Shown
from strive.trackers.upload_state import upload_url


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorOptions:
    """What the process is to show, and where."""

    kind: str  # wandb, csv or tensorboard
    runs: str  # folder of the cells
    folder: str  # of the files of csv and tensorboard
    plan: str = ""  # folder of the sweep's, if it is shown
    scratch: str = ""  # folder for what W&B's client keeps; removed in the end

    @property
    def name(self) -> str:
        """As the user knows the tracker."""
        return "W&B" if self.kind == "wandb" else f"tracker={self.kind}"


class _Process:
    def __init__(self, options: MirrorOptions, out: TextIO) -> None:
        self._options, self._out, self._has_page = options, out, False
        plans = [Path(options.plan)] if options.plan else []
        self._mirror = Mirror(self._tracker, plans, on_shown=self._on_shown, on_problem=self._on_problem)

    def run(self) -> None:
        """Show the cells that stdin names until it ends."""
        threading.Thread(target=self._listen, name="cells", daemon=True).start()
        try:
            self._mirror.run()
        except NoKeyError as error:
            self._tell(refused=str(error))
        else:
            self._stand()

    def _listen(self) -> None:
        runs = Path(self._options.runs).absolute()
        with suppress(ValueError):
            for line in sys.stdin:
                self._mirror.add([runs / line.rstrip("\n")])
        self._mirror.close()

    def _tracker(self) -> CellTracker:
        tracker = tracker_of(self._options)
        self._stand()
        return tracker

    def _on_shown(self, folder: Path) -> None:
        self._stand()
        if self._options.kind == "wandb" and not self._has_page and (url := upload_url(folder)):
            self._has_page = True
            alone = self._mirror.counts.total() == 1 and not self._options.plan
            self._tell(say=f"W&B: {url if alone else url.rpartition('/runs/')[0]}")

    def _on_problem(self, text: str) -> None:
        self._stand(text)
        if not (self._mirror.is_closing and self._options.kind == "wandb"):  # the last line says it
            self._tell(say=f"{self._options.name}: {text}; training goes on, it is tried again")

    def _stand(self, problem: str = "") -> None:
        """Tell how things stand. problem: what is wrong just now."""
        counts = self._mirror.counts
        there = counted(counts[Shown.whole] + counts[Shown.already], "cell")
        state = f"{there} uploaded" + (f", {counts[Shown.partly]} under way" if counts[Shown.partly] else "")
        left = summary(self._mirror, Path(self._options.runs)) if self._options.kind == "wandb" else ""
        self._tell(state=problem or state, left=left)

    def _tell(self, **entry: str) -> None:
        with suppress(OSError):  # the parent is gone
            print(json.dumps(entry), file=self._out, flush=True)


def summary(mirror: Mirror, runs: Path) -> str:
    """Return what W&B has of the cells, what it has not, and why, in one line; "" where there is nothing to have."""
    counts = mirror.counts
    # Another process has those, or there was nothing of them to show.
    wanted = counts.total() - counts[Shown.elsewhere] - counts[Shown.nothing]
    missing = wanted - counts[Shown.whole] - counts[Shown.already]
    why = next(reversed(mirror.problems.values()), "")
    if not missing:
        why = why or ("not the sweep's table" if mirror.lacks_plans else "")
        return f"W&B has all of {counted(wanted, 'cell')}{f', but {why}' if why else ''}" if wanted else ""
    why = why or ("the cells have not ended" if counts[Shown.partly] == missing else "there was no time for more")
    return (
        f"W&B: {missing} of {counted(wanted, 'cell')} not uploaded to their end ({why}); later:"
        f" strive sync{runs_option(runs)}"
    )


def tracker_of(options: MirrorOptions) -> CellTracker:
    """Return the tracker. Raises ServerError, OSError and RecordError."""
    if options.kind == "csv":
        from strive.trackers.csv_file import CsvFile

        return CsvFile(Path(options.folder), Path(options.runs))
    if options.kind == "tensorboard":
        from strive.trackers.tensorboard_files import TensorBoardFiles

        return TensorBoardFiles(Path(options.folder))
    from strive.trackers.wandb_tracker import WandbTracker

    return WandbTracker()


def _give_way() -> None:
    """Take processor time only where training leaves some; W&B's helper process, which comes later, inherits this."""
    os.nice(10)
    # A session of its own is a scheduling group of its own on Linux, within which alone niceness counts.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


def main(options: MirrorOptions) -> None:
    """Show the cells that stdin names until it ends."""
    # SLURM signals every process of a job. The cells then have something more to say, so the parent says when it ends.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    # W&B's client prints, which must not be mixed with what the parent reads.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    streams.guard()  # a full disk that takes no word of W&B's client is no reason to upload nothing
    if options.kind == "wandb":
        with suppress(Exception):  # raised again where it is said
            import strive.trackers.wandb_tracker  # noqa: F401  (a second of work, for which a user may wait at the start)
    _give_way()
    _Process(options, out).run()
    shutil.rmtree(options.scratch, ignore_errors=True)  # nobody else does it where the parent is gone
    os._exit(0)  # threads of W&B's client may still wait for a server that is gone


if __name__ == "__main__":
    main(from_line(MirrorOptions, sys.argv[1]))
