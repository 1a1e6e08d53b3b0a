"""`--source wandb:ENTITY/PROJECT`: the plans and records that W&B has, read as if they lay in a runs folder."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from strive.errors import LoadError, SilentError
from strive.format import counted
from strive.results.record_row import UNREADABLE, read_rows
from strive.trackers.local_copy import SWEEPS, LocalCopy, copy_of, last_fetched
from strive.trackers.project import PLAN, PLAN_FILE, TRAIN, Project
from strive.trackers.server import host
from strive.trackers.wandb_records import MirroredRecord, history_lines, is_name, newest, plan_name, record_in

if TYPE_CHECKING:
    from wandb.apis.public import Run

_AT_ONCE = 8  # histories


class WandbSource:
    """A project on W&B, and its copy here."""

    def __init__(self, project: Project, copy: LocalCopy, records: Mapping[str, MirroredRecord]) -> None:
        """Take what `open_source` found. records: by cell."""
        self._project, self._copy, self._records = project, copy, records

    def __str__(self) -> str:
        return str(self._project)

    @property
    def folder(self) -> Path:
        """Where the copy lies."""
        return self._copy.folder

    def fetch_curves(self, cells: Iterable[str]) -> None:
        """Put a history beside the records of these cells, asking only for histories that changed.

        Raises LoadError.
        """
        records = [self._records[cell] for cell in cells if cell in self._records]
        records = [record for record in records if not self._copy.has_curve(record)]
        short = []
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            histories = pool.map(lambda record: self._project.history(record.run), records)
            for number, (record, rows) in enumerate(zip(records, histories, strict=True), 1):
                _show(f"{self}: learning curve {number} of {len(records)}")
                short += self._keep_curve(record, history_lines(rows))
        except SilentError as error:
            raise LoadError(f"{error}; the same command again goes on from there") from None
        finally:
            pool.shutdown(cancel_futures=True)
            _show("")
        if short:
            more = f", and {len(short) - 1} more are not whole" if len(short) > 1 else ""
            _say(f"{self}: {short[0]}{more}; strive sync --again uploads what is missing")

    def _keep_curve(self, record: MirroredRecord, lines: Sequence[str]) -> list[str]:
        """Write a cell's epochs; return what is missing of them, a sentence or none."""
        # How far a failed cell came is known from its epochs alone.
        last = record.epochs or (json.loads(lines[-1])["step"] if lines else 0)
        whole = len(lines) == last
        self._copy.keep_curve(record, lines, whole=whole)
        return [] if whole else [f"W&B run {record.run.id} has {len(lines)} of {last} epochs"]


def open_source(text: str) -> WandbSource:
    """Bring the copy of what --source names up to date: changed there, changed here; deleted there, deleted here.

    Raises LoadError; then the copy is what it was.
    """
    entity, name = _parts(text)
    try:
        project = Project(entity, name)
        copy = copy_of(project.host, project.entity, name)
        runs = project.runs(lambda number, count: _show(f"{project}: {number} of {count} W&B runs"))
        records = _records([run for run in runs if run.job_type == TRAIN])
        plans = _plans(project, [run for run in runs if run.job_type == PLAN], copy)
    except SilentError as error:
        raise LoadError(f"{error}{_instead(entity, name)}") from None
    finally:
        _show("")
    if not plans:
        had = counted(len(records), "record")
        raise LoadError(f"{project} has {had}, but no plan of a sweep: strive sync uploads both")
    copy.keep(records, plans)
    _say_unreadable(copy.folder, records)
    _say(f"{project}: {counted(len(records), 'record')}, {counted(len(plans), 'plan')}, copied to {copy.folder}")
    return WandbSource(project, copy, records)


def _parts(text: str) -> tuple[str, str]:
    """Return the entity, "" for the key's own, and the project."""
    match = re.fullmatch(r"wandb:(?:([^/]+)/)?([^/]+)", text)
    if match is None or not all(is_name(part) for part in match.groups() if part is not None):
        raise LoadError(f"--source {text}: must be wandb:ENTITY/PROJECT, or wandb:PROJECT for the key's own entity")
    return match[1] or "", match[2]


def _records(runs: Sequence["Run"]) -> dict[str, MirroredRecord]:
    """Return {cell: its record}."""
    found: dict[str, list[MirroredRecord]] = {}
    for record in filter(None, map(record_in, runs)):
        if is_name(record.cell) and record.cell != SWEEPS:
            found.setdefault(record.cell, []).append(record)
        else:
            _say(f"left out: W&B run {record.run.id} has a record of {record.cell!r}, which is no name of a cell")
    for cell, each in found.items():
        for record in each if len(each) > 1 else ():
            if not record.valid:
                _say(f"left out: W&B run {record.run.id} has a record of {cell} that cannot be read")
    return {cell: newest(each) for cell, each in found.items()}


def _plans(project: Project, runs: Sequence["Run"], copy: LocalCopy) -> dict[str, bytes]:
    """Return {name: plan}, asking only for those that changed."""
    found = {}
    for run in sorted(runs, key=lambda run: str(run.heartbeat_at)):  # the last one with a name counts
        name = plan_name(run)
        if not is_name(name):
            _say(f"left out: W&B run {run.id} has a plan of {name!r}, which is no name of a sweep")
            continue
        content = copy.plan(name)
        if hashlib.sha256(content).hexdigest() != run.summary_metrics.get("plan_sha256"):
            content = project.plan(run)
        if content:
            found[name] = content
        else:
            _say(f"left out: W&B run {run.id} has no {PLAN_FILE}: strive sync --again uploads it")
    return found


def _say_unreadable(folder: Path, records: Mapping[str, MirroredRecord]) -> None:
    rows = read_rows(folder, list(records)).columns
    for record, status, cause in zip(records.values(), rows["status"], rows["cause"], strict=True):
        if status == UNREADABLE:
            _say(f"W&B run {record.run.id}: {cause}")


def _instead(entity: str, name: str) -> str:
    """Return what can be done while the server does not answer."""
    found = last_fetched(host(), entity or os.environ.get("WANDB_ENTITY", ""), name)
    return f"; --runs {found[0]} reads what was fetched at {found[1]}" if found else ""


def _say(line: str) -> None:
    _show("")
    print(line, file=sys.stderr)


def _show(text: str) -> None:
    """Show the progress on a terminal; "" clears the line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
