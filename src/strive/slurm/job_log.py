"""Event log of a SLURM job, read by later starts and by launches: a file for each start. Imports no torch."""

import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strive.cells.records import Status
from strive.cells.task import CellOutcome
from strive.options import Retries


class JobLog:
    """Writes logs/<job>-<restart>.jsonl. Each start has its own file, so an old process of the job disturbs nothing.

    The second node of a job, and each further one, has a file of its own, <job>-<restart>.<node>.jsonl.
    """

    def __init__(self, logs: Path, job: str, restart: int, task: int = 0) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._path = logs / f"{start_name(job, restart, task)}.jsonl"
        self._seen = set[str]()

    def write(self, event: str, **facts: Any) -> None:
        """Append one event."""
        line = {"event": event, "time": round(time.time(), 1)} | facts
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # a full disk must not end what trains
            print(f"{self._path}: {error}", file=sys.stderr, flush=True)

    def running(self, cells: Collection[str]) -> list[str]:
        """Note the cells that are in training now; return those that were not before."""
        new = sorted(set(cells) - self._seen)
        for cell in new:
            self._seen.add(cell)
            self.write("began", cell=cell)
        return new


def start_name(job: str, restart: int, task: int) -> str:
    """Return what the files of a start of a job are called, on one of its nodes."""
    return f"{job}-{restart}" + (f".{task}" if task else "")


@dataclass(slots=True)
class JobStart:
    """Events of one start of a job."""

    restart: int = 0  # how often SLURM had started the job before
    node: str = ""
    began: set[str] = field(default_factory=set)  # cells
    ended: dict[str, CellOutcome] = field(default_factory=dict)  # {cell: how, and for good}
    refused: dict[str, str] = field(default_factory=dict)  # {cell: why it was not trained}
    unfit: str = ""  # why no worker started on this node
    owned: set[str] = field(default_factory=set)  # cells that other processes had for longer than it waited
    left: Status | None = None  # why it stopped before its end, if it had the time to log it
    cause: str = ""  # one line
    stuck: set[str] = field(default_factory=set)  # cells that had all of its time, and wrote no checkpoint

    @property
    def unfinished(self) -> set[str]:
        """The cells that were in training when it ended."""
        return self.began - self.ended.keys()


def starts(logs: Path, job: str) -> list[JobStart]:
    """Return the starts of a job, the first one first."""
    found: dict[int, list[Path]] = {}
    for path in sorted(logs.glob(f"{job}-*.jsonl")):
        found.setdefault(int(path.stem.rpartition("-")[2].partition(".")[0]), []).append(path)
    return [_read(found[restart], restart) for restart in sorted(found)]


def _read(paths: Sequence[Path], restart: int) -> JobStart:
    """Return a start from the files of its nodes."""
    start = JobStart(restart=restart)
    for line in (line for path in paths for line in path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # half a line: it was killed while it wrote
        match event["event"]:
            case "start":
                # Of several nodes the one that is not fit.
                start.node = start.node if start.unfit else event["node"]
            case "began":
                start.began.add(event["cell"])
            case "ended":
                start.ended[event["cell"]] = CellOutcome(
                    cell=event["cell"], status=Status(event["status"]), cause=event["cause"], log=event["log"]
                )
            case "refused":
                start.refused[event["cell"]] = event["cause"]
            case "unfit":
                start.unfit = event["cause"]
            case "elsewhere":
                start.owned.add(event["cell"])
            case "left":
                start.left, start.cause = Status(event["status"]), event["cause"]
            case "requeued":
                start.stuck.update(event.get("stuck", ()))
    return start


def out_of_retries(before: Collection[JobStart], retries: Retries) -> dict[str, tuple[Status, str]]:
    """Return {cell: (status, cause)} of the cells whose retries a job's earlier starts have used up."""
    times = Counter[tuple[str, Status]]()
    found: dict[str, tuple[Status, str]] = {}
    for start in sorted(before, key=lambda start: start.restart):
        status = start.left or Status.node_fail
        for cell in start.unfinished:
            # What comes no further in all of a job's time would take it as often as it is tried.
            rule = Status.error if cell in start.stuck else status
            times[cell, rule] += 1
            if not retries.allow(rule, times[cell, rule] - 1):
                cause = start.cause or f"its job ended on {start.node} and logged no reason"
                if cell in start.stuck:
                    cause += ", without a new checkpoint to go on from"
                found[cell] = (status, cause + (f", {times[cell, rule]} times" if times[cell, rule] > 1 else ""))
    return found
