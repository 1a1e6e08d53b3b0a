"""Files and folders of a runs folder by kind, with the room that they take. Imports no torch."""

import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from strive.cells.checkpoints import FILE, FOLDER, generations
from strive.cells.lease import live_owner
from strive.cells.records import RETRAINING, has_result
from strive.errors import RecordError
from strive.format import size_text
from strive.launch.launch_folder import Launch, Launches
from strive.slurm.live_jobs import LiveJobs
from strive.sweeps.plan import StoredPlan, plan_folders

_CHECKPOINTS = {path.name for name in (FOLDER, FILE) for path in generations(Path(name))}
_PUT_ASIDE = re.compile(r"(strive-)?checkpoint(-previous)?-unused-\d+x*(\.pt)?")
_SCRATCH = re.compile(r"\..*\.tmp")
_COPY = re.compile(r"\.?(code|app|modules)-[0-9a-f]{12,32}")
_SCRATCH_SECONDS = 86400.0  # younger ones may be in use, by a process on another machine
_RESULTS = re.compile(r"record(-\d+)?\.json|history(-\d+)?\.jsonl|epochs\.jsonl|predictions\.npz|config\.yaml")
_LOGS = re.compile(r".*\.log|log(-rank-\d+)?\.txt")
_MOST_BYTES = 10_000_000  # of a launch's file that is searched for the name of a copy


class DiskKind(StrEnum):
    """What a file or folder is for."""

    results = "results: records, histories, predictions, plans"
    app = "what the app wrote: weights, pictures, its own files"
    checkpoints = "checkpoints of cells without a result"
    logs = "logs"
    launches = "launches, with the cells as they were frozen"
    copies = "copies of code for SLURM's jobs"
    old_checkpoints = "checkpoints of cells with a result, and those that were put aside"
    old_launches = "launches that have ended, before the newest of their sweep"
    old_copies = "copies of code that no launch uses"
    scratch = "temporary files of processes that were killed"
    unplanned = "results of cells that are in no sweep's plan"

    @property
    def may_go(self) -> bool:
        """Whether nobody needs it."""
        return self in (DiskKind.old_checkpoints, DiskKind.old_launches, DiskKind.old_copies, DiskKind.scratch)


@dataclass(frozen=True)  # no slots: cached_property needs a place
class DiskEntry:
    """A file or a folder with all that is in it."""

    kind: DiskKind
    path: Path

    @cached_property
    def stats(self) -> list[os.stat_result]:
        """What the file system says of each file."""
        return list(_stats(self.path))


def disk_use(runs: Path, *, unplanned: bool = False) -> list[DiskEntry]:
    """Return all that lies in a runs folder. unplanned: tell results apart that belong to no stored plan."""
    planned = _planned_cells(runs) if unplanned else None
    found = [use for folder in sorted(runs.iterdir()) if folder.name != "sweeps" for use in _of_cell(folder, planned)]
    return found + list(_of_sweeps(runs))


def bytes_of(uses: Iterable[DiskEntry]) -> int:
    """Return how much room would be free without them, in bytes: a file with links elsewhere frees none."""
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    links = Counter[tuple[int, int]]()
    for stat in (stat for use in uses for stat in use.stats):
        file = stat.st_dev, stat.st_ino
        sizes[file], links[file] = (stat.st_size, stat.st_nlink), links[file] + 1
    return sum(size for file, (size, number) in sizes.items() if links[file] >= number)


def kind_lines(uses: Sequence[DiskEntry]) -> list[str]:
    """Return a line for each kind: how many files and folders, and how much room they take."""
    lines = []
    for kind in DiskKind:
        own = [use for use in uses if use.kind is kind]
        if own:
            lines.append(f"  {size_text(bytes_of(own)):>8}  {len(own):>6,}  {kind.value}")
    return lines


def _stats(path: Path) -> Iterator[os.stat_result]:
    paths = [path] if path.is_symlink() or not path.is_dir() else path.rglob("*")
    for each in paths:
        with suppress(OSError):
            if each.is_symlink() or each.is_file():
                yield each.lstat()


def _planned_cells(runs: Path) -> set[str] | None:
    """Return the cells of all stored plans; None if one cannot be read, and so nothing is known to be in none."""
    found = set[str]()
    for folder in plan_folders([runs]).values():
        try:
            found |= {cell.cell for cell in StoredPlan.read(folder).cells}
        except (OSError, RecordError):
            return None
    return found


def _of_cell(folder: Path, planned: Collection[str] | None) -> Iterator[DiskEntry]:
    if not folder.is_dir():
        yield DiskEntry(DiskKind.scratch if _is_old_scratch(folder) else DiskKind.results, folder)
        return
    is_free, is_done = live_owner(folder) is None, has_result(folder.parent, folder.name)
    if planned is not None and is_done and is_free and folder.name not in planned:
        yield DiskEntry(DiskKind.unplanned, folder)
        return
    for path in sorted(folder.iterdir()):
        yield DiskEntry(_kind_in_cell(path, is_free=is_free, is_done=is_done), path)


def _kind_in_cell(path: Path, *, is_free: bool, is_done: bool) -> DiskKind:
    if is_free and _is_old_scratch(path):
        return DiskKind.scratch
    if _PUT_ASIDE.fullmatch(path.name):
        return DiskKind.old_checkpoints if is_free else DiskKind.checkpoints
    if path.name in _CHECKPOINTS:
        return DiskKind.old_checkpoints if is_free and is_done else DiskKind.checkpoints
    if path.name == RETRAINING:
        return DiskKind.checkpoints
    if _LOGS.fullmatch(path.name):
        return DiskKind.logs
    return DiskKind.results if _RESULTS.fullmatch(path.name) else DiskKind.app


def _is_old_scratch(path: Path) -> bool:
    return bool(_SCRATCH.fullmatch(path.name)) and time.time() - path.lstat().st_mtime > _SCRATCH_SECONDS


def _of_sweeps(runs: Path) -> Iterator[DiskEntry]:
    sweeps = runs / "sweeps"
    if not sweeps.is_dir():
        return
    launches = Launches(runs)
    jobs = LiveJobs(launches)
    live = {job.launch.folder for job in jobs.by_cell().values()}
    kept = list[Path]()
    copies = list[Path]()
    for folder in sorted(sweeps.iterdir()):
        if _COPY.fullmatch(folder.name):
            copies.append(folder)
            continue
        own = launches.of(folder.name)
        old = {each.folder for each in own[1:] if each.folder not in live and _has_ended(each, jobs)}
        kept += [each.folder for each in own if each.folder not in old]
        for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
            if path in old:
                yield DiskEntry(DiskKind.old_launches, path)
            elif path.is_dir():
                yield DiskEntry(DiskKind.launches, path)
            else:
                yield DiskEntry(DiskKind.scratch if _is_old_scratch(path) else DiskKind.results, path)
    for copy in copies:
        used = bool(jobs.queue_error) or any(_names(launch, copy.name) for launch in kept)
        yield DiskEntry(DiskKind.copies if used else DiskKind.old_copies, copy)


def _has_ended(launch: Launch, jobs: LiveJobs) -> bool:
    """Return whether nothing of a launch is at work or may begin; in doubt it has not."""
    if launch.launcher == "slurm" and jobs.queue_error:
        return False
    runs = launch.folder.parents[2]
    if any(live_owner(runs / cell) is not None for cell in launch.cells):
        return False
    # On another machine its process cannot be seen.
    return launch.alive is False or (launch.alive is None and all(has_result(runs, cell) for cell in launch.cells))


def _names(launch: Path, copy: str) -> bool:
    """Return whether a file of a launch names a copy of code."""
    for path in launch.rglob("*"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_size < _MOST_BYTES and copy.encode() in path.read_bytes():
                return True
    return False
