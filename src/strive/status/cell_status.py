"""Status of each cell of a sweep, from records, claims and launches on disk, and from SLURM. Imports no torch."""

import dataclasses
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from strive.cells.checked_record import CheckedRecord
from strive.cells.evidence import at_chance_text, same_weights
from strive.cells.history import HISTORY
from strive.cells.lease import Owner
from strive.cells.metrics import result_text
from strive.cells.records import PREDICTIONS, Status, data_text
from strive.cells.schema1 import EPOCHS
from strive.cells.state import CellState, find_state
from strive.code.imported import code_now
from strive.code.same_code import is_stale
from strive.errors import RecordError
from strive.launch.launch_folder import Launch, Launches
from strive.slurm.job_log import starts
from strive.slurm.job_outcome import lost_cells
from strive.slurm.live_jobs import Job, LiveJobs
from strive.slurm.squeue import JobPhase
from strive.sweeps.audit import Audit, audit_plan, changed_file, sweep_files
from strive.sweeps.plan import StoredCell, StoredPlan, names_in

_BESIDE = (HISTORY, EPOCHS, PREDICTIONS)
_MOST_BYTES = 16 * 2**20  # of predictions that status reads; tables read larger ones, too


@dataclass(frozen=True, kw_only=True, slots=True)
class CellStatus:
    """State of one cell, and why."""

    cell: str
    state: CellState
    status: Status | None = None  # of a failure
    dead: bool = False  # it is done, and never left chance
    why: str = ""  # may have any number of lines
    log: str = ""  # where to read more
    traceback: str = ""
    owner: Owner | None = None  # who trains it
    suspended: bool = False  # by SLURM
    epochs_done: int = 0
    epochs: int = 0  # in all
    batch_size: int = 0  # images in a step
    images: str = ""  # fingerprint of those that a finished one was trained on
    stale: str = ""  # the code hash of its record, where the code has changed since

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at the present speed; None while that is not known."""
        note = self.owner.note if self.owner else {}
        rate = note.get("images_per_second", 0)
        return (note["steps"] - note["step"]) * self.batch_size / rate if rate else None


@dataclass(frozen=True, slots=True)
class _ReadRecord:
    """A record, checked against the other files of its cell."""

    stamp: tuple[int, ...]  # of the record: time, size, number; and of what it is compared with
    status: Status | None  # None: it cannot be trusted
    why: str
    traceback: str = ""
    images: str = ""  # the fingerprint in the record
    code: str = ""  # hash of the code that trained it
    files: Mapping[str, str] = field(default_factory=dict)  # {file: its own hash} of that code
    dead: bool = False
    contradicted: bool = False
    weights: str = ""  # their hash
    checked: CheckedRecord | None = None  # what was read, where it is kept

    @property
    def finished(self) -> bool:
        return self.status is not None and self.status.finished


class StatusReader:
    """Reads the status of the cells of a runs folder; ask the same object again, it reads only what is new."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._launches = Launches(runs)
        self._jobs = LiveJobs(self._launches)
        self._records: dict[str, _ReadRecord] = {}
        self._audits: dict[str, tuple[StoredPlan, Audit]] = {}

    @property
    def queue_error(self) -> str:
        """Why SLURM could not be asked, "" if it could, or need not be."""
        return self._jobs.queue_error

    def last_launch(self, sweep: str) -> Launch | None:
        """Return the newest launch of a sweep."""
        return next(iter(self._launches.of(sweep)), None)

    def look(self, plan: StoredPlan, *, keep: bool = False) -> list[CellStatus]:
        """Return the status of each cell, in the plan's order. keep: its records, for `read`."""
        names = names_in(self._runs)
        found = {cell.cell: self._on_disk(plan, cell, names, keep) for cell in plan.cells}
        for cell, why in self._audit(plan).cells.items():
            if found[cell].state.finished:
                found[cell] = CellStatus(cell=cell, state=CellState.contradictory, why=why)
        for cell, why in self._same_weights(plan, found).items():
            found[cell] = CellStatus(cell=cell, state=CellState.contradictory, why=why)
        live = self._jobs.by_cell()
        for cell, current in found.items():
            if current.state.finished:
                continue
            job = live.get(cell)
            if current.state is CellState.running:
                suspended = job is not None and job.info.phase is JobPhase.suspended
                found[cell] = dataclasses.replace(current, suspended=suspended)
            elif job is not None and not _has_failed_in(job, cell):
                found[cell] = dataclasses.replace(current, state=CellState.waiting, why=_place_in_queue(job))
        self._ask_launches(plan.sweep, found)
        return list(found.values())

    def read(self, path: str | Path) -> CheckedRecord:
        """Return a record as the last `look` has read it, or read it, as CheckedRecord.read, where it has kept none."""
        known = self._records.get(Path(path).parent.name)
        return CheckedRecord.read(path) if known is None or known.checked is None else known.checked

    def _same_weights(self, plan: StoredPlan, found: Mapping[str, CellStatus]) -> dict[str, str]:
        weights = {}
        for cell in plan.cells:
            if found[cell.cell].state is CellState.done and (record := self._records.get(cell.cell)):
                weights[cell.cell] = (record.weights, plan.config(cell).get(plan.seed))
        return same_weights(weights)

    def problems(self, plan: StoredPlan) -> list[str]:
        """Return what contradicts the plan, a sentence each."""
        return [*self._audit(plan).problems, *changed_file(plan, sweep_files())]

    def _audit(self, plan: StoredPlan) -> Audit:
        """Return what contradicts a plan; one that was looked at before is not looked at again."""
        before = self._audits.get(plan.sweep)
        if before is None or before[0] != plan:
            before = self._audits[plan.sweep] = (plan, audit_plan(plan, plan.sweep, [self._runs]))
        return before[1]

    # -- from the cell's folder

    def _on_disk(self, plan: StoredPlan, cell: StoredCell, names: frozenset[str], keep: bool) -> CellStatus:
        if cell.cell not in names:
            return CellStatus(cell=cell.cell, state=CellState.missing, epochs=cell.epochs)
        folder = self._runs / cell.cell
        record = self._record(folder, keep)
        disk = find_state(folder, record.status if record is not None else None)
        if disk.state is CellState.running:
            batch_size = plan.config(cell).get("budget.batch_size", 0)
            return CellStatus(
                cell=cell.cell, state=disk.state, owner=disk.owner, epochs=cell.epochs, batch_size=batch_size,
                epochs_done=disk.epochs_done,
            )  # fmt: skip
        if record is not None:
            return _ended(plan, cell, folder, record)
        why = ""
        if disk.state is CellState.stopped:
            why = f"its process is gone ({disk.owner})" if disk.owner else "a checkpoint is there"
        return CellStatus(cell=cell.cell, state=disk.state, why=why, epochs=cell.epochs, epochs_done=disk.epochs_done)

    def _record(self, folder: Path, keep: bool) -> _ReadRecord | None:
        """Return the cell's record, checked; one that was read before only if its file has changed."""
        path = folder / "record.json"
        try:
            stamp = (*_stamp(path), *(number for name in _BESIDE for number in _stamp(folder / name, there=False)))
            before = self._records.get(folder.name)
            if before is None or before.stamp != stamp or (keep and before.checked is None):
                self._records[folder.name] = _read(path, stamp, keep)
        except (FileNotFoundError, NotADirectoryError):
            self._records.pop(folder.name, None)
            return None
        except OSError as error:
            return _ReadRecord((0, 0, 0), None, f"{path}: {error.strerror}")
        return self._records[folder.name]

    # -- from the launches

    def _ask_launches(self, sweep: str, found: dict[str, CellStatus]) -> None:
        """Find out who will train the cells that no process trains, or why their jobs ended."""
        open_ = {cell for cell, current in found.items() if not current.state.finished}
        settled = (CellState.running, CellState.waiting, CellState.unreadable, CellState.contradictory)
        open_ -= {cell for cell in open_ if found[cell].state in settled}
        for launch in self._launches.of(sweep):
            if not open_:
                return
            mine = open_.intersection(launch.cells)
            if not mine:
                continue
            if launch.alive:
                why = f"a worker of process {launch.pid}"
                for cell in mine - {cell for cell in mine if self._has_failed_since(launch, found[cell])}:
                    found[cell] = dataclasses.replace(found[cell], state=CellState.waiting, why=why)
                open_ -= mine
            elif launch.launcher == "slurm":
                # Cells without a job in this launch were left to an earlier one's.
                open_ -= self._explain(launch, mine, found)
            else:
                open_ -= mine

    def _has_failed_since(self, launch: Launch, current: CellStatus) -> bool:
        if current.state is not CellState.failed:
            return False
        return self._records[current.cell].stamp[0] > (launch.folder / "launch.json").stat().st_mtime_ns

    def _explain(self, launch: Launch, cells: Set[str], found: dict[str, CellStatus]) -> set[str]:
        """Set why jobs ended without a record of their cells; return the cells that had a job."""
        # A later job of the same cell stands later.
        last_job = {cell: job for job, numbers in launch.jobs.items() for cell in launch.cells_at(numbers)}
        silent: dict[str, list[str]] = {}
        for cell in cells & last_job.keys():
            if found[cell].state in (CellState.missing, CellState.stopped):
                silent.setdefault(last_job[cell], []).append(cell)
        for job, info in self._jobs.ended(silent).items():
            for cell, lost in lost_cells(job, info, silent[job], launch.folder).items():
                state = CellState.failed if lost.status is not None else found[cell].state
                found[cell] = dataclasses.replace(
                    found[cell], state=state, status=lost.status, why=lost.cause, log=lost.log
                )
        return cells & last_job.keys()


def _stamp(path: Path, *, there: bool = True) -> tuple[int, ...]:
    """Return what changes with a file. there: raise OSError if it is not."""
    try:
        status = path.stat()
    except OSError:
        if there:
            raise
        return (0,)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(path: Path, stamp: tuple[int, ...], keep: bool) -> _ReadRecord:
    try:
        checked = CheckedRecord.read(path, most_bytes=math.inf if keep else _MOST_BYTES)
    except RecordError as error:
        return _ReadRecord(stamp, None, str(error))
    record, evidence, kept = checked.record, checked.evidence, checked if keep else None
    if record.failure is not None:
        return _ReadRecord(stamp, record.status, record.failure.cause, record.failure.traceback, checked=kept)
    if evidence.contradictions:
        return _ReadRecord(stamp, None, evidence.why, contradicted=True, checked=kept)
    dead = at_chance_text(record, evidence.chance)
    return _ReadRecord(
        stamp,
        record.status,
        f"{result_text(record.metrics)}, {dead}" if dead else record.cause,
        images=data_text(record.data),
        code=record.provenance.code_hash,
        files=record.provenance.code_files,
        dead=dead != "",
        weights=record.outputs.get("weights", ""),
        checked=kept,
    )


def _ended(plan: StoredPlan, cell: StoredCell, folder: Path, record: _ReadRecord) -> CellStatus:
    if record.status is None:
        state = CellState.contradictory if record.contradicted else CellState.unreadable
        return CellStatus(cell=cell.cell, state=state, why=record.why, log=str(folder / "record.json"))
    if record.finished:
        config = plan.science(cell)
        here = code_now(plan.start, config, record.files)
        stale = record.code if is_stale(record.code, here.hash, config, folder.parent) else ""
        return CellStatus(
            cell=cell.cell, state=CellState(record.status.value), why=record.why, dead=record.dead,
            images=record.images, stale=stale,
        )  # fmt: skip
    log = folder / "log.txt"
    return CellStatus(
        cell=cell.cell, state=CellState.failed, status=record.status, why=record.why, traceback=record.traceback,
        log=str(log) if log.exists() else "", epochs=cell.epochs,
    )  # fmt: skip


def _has_failed_in(job: Job, cell: str) -> bool:
    """Return whether a job that goes on has given this cell up."""
    return any(cell in start.ended for start in starts(job.launch.folder / "logs", job.id))


def _place_in_queue(job: Job) -> str:
    info = job.info
    if info.phase is JobPhase.pending:
        # The jobs of an array wait for the same thing.
        return f"SLURM job {job.id.partition('_')[0]}, pending ({info.reason or info.state.lower()})"
    return f"SLURM job {job.id}, {info.state.lower()} on {info.node}, behind other cells"
