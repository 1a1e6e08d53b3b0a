"""Checkpoints of a cell: two generations, each one file or one folder, written through the cell's lease."""

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from strive import signals
from strive.cells.lease import Claim
from strive.cells.records import RETRAINING

FOLDER = "strive-checkpoint"  # with what an app's function saved; not a name that the app may want for itself
FILE = "checkpoint.pt"  # of an app with a trainer of its own
# What a cell's folder has whether the cell comes forward or not.
_WRITTEN_ANYWAY = re.compile(
    r"\..*|.*\.log|log(-rank-\d+)?\.txt|history.*\.jsonl|config\.yaml|claim|retraining|record.*\.json|wandb.*"
)


def has_checkpoint(folder: Path) -> bool:
    """Return whether training in a folder can resume from a checkpoint."""
    return any(path.exists() for name in (FOLDER, FILE) for path in generations(folder / name))


def newest_time(folder: Path) -> int:
    """Return when the newest file was written that a cell can go on from, by the clock of its disk; 0: there is none.

    One of `strive.save`, or of the app's own in the cell's folder: any that is no log counts, as its name may be any.
    """
    times = [0]
    for place in (folder, folder / RETRAINING):
        with suppress(OSError):
            own = [path for path in place.iterdir() if not _WRITTEN_ANYWAY.fullmatch(path.name)]
            times += [path.stat().st_mtime_ns for path in (*own, *(file for path in own for file in path.rglob("*")))]
    return max(times)


def generations(path: Path) -> tuple[Path, Path]:
    """Return the path of the newest checkpoint and of the one before it."""
    return path, path.with_name(f"{path.stem}-previous{path.suffix}")


def remove_checkpoints(newest: Path) -> None:
    """Remove the checkpoints that led to a record."""
    for path in generations(newest):
        remove(path)


class Checkpoints:
    """The newest checkpoint in a folder, and the one before it."""

    def __init__(
        self, path: Path, minutes: float, claim: Claim, unusable: Callable[[Path], str], say: Callable[[str], None]
    ) -> None:
        """Set the path of the newest one.

        minutes: between two; 0: at every step. unusable: returns why the cell cannot resume from a checkpoint, "" if
        it can. say: prints a message.
        """
        self.path = path
        self._seconds, self._claim, self._unusable, self._say = 60 * minutes, claim, unusable, say
        self._kept = self._not_kept = ""  # the step of the one on disk; why a later one could not be written
        self._last_write = time.monotonic()

    @property
    def lost(self) -> str:
        """Return the end of a message on a stop if the last step has no checkpoint, else ""."""
        return f", but kept is {self._kept or 'nothing'} ({self._not_kept})" if self._not_kept else ""

    def is_due(self) -> bool:
        """Return whether one should be written now."""
        return time.monotonic() - self._last_write >= self._seconds or bool(signals.requested())

    def keep(self, write: Callable[[Path], object], *, where: str, goes_on: bool = True) -> None:
        """Write a checkpoint; if it cannot be written, training continues without it.

        write: as for `write`. where: such as step 3. goes_on: whether training continues at all.
        """
        try:
            self.write(write)
        except OSError as error:
            self._claim.check()
            first, self._not_kept = not self._not_kept, str(error)
            kept = "an earlier one is kept" if self._kept else "there is none yet"
            goes_on = goes_on and not signals.requested()
            if first or not goes_on:  # print it once, not every few minutes
                self._say(
                    f"the checkpoint could not be written ({error}); {kept}{', training goes on' if goes_on else ''}"
                )
        else:
            self._kept, self._not_kept = where, ""
        self.start_clock()

    def start_clock(self) -> None:
        """Count the minutes to the next one from now on."""
        self._last_write = time.monotonic()

    def resumed(self, where: str) -> None:
        """Note that training goes on from the newest one. where: such as step 3."""
        self._kept = where
        self._say(f"resumes from {where}")

    def newest(self) -> Path | None:
        """Return the checkpoint to resume from; those that cannot be used are put aside first."""
        for path in filter(Path.exists, generations(self.path)):
            reason = self._unusable(path)
            if not reason:
                return path
            self._put_aside(path, reason)
        return None

    def write(self, write: Callable[[Path], object]) -> None:
        """Write a checkpoint, and keep the one before it. Raises OSError, or what `write` raises.

        write: makes a file or a folder of the path that it is given. A process that is killed at any moment leaves
        at least one of the two; one that has lost the cell changes nothing, because its claim's folder is gone.
        """
        new = self._claim.scratch / self.path.name
        remove(new)
        try:
            write(new)
            _sync(new)
            if self.path.exists():
                _, previous = generations(self.path)
                before = self._claim.scratch / previous.name
                remove(before)
                _copy(self.path, before)
                put(before, previous)
            put(new, self.path)
        except BaseException:
            with suppress(OSError):
                remove(new)
            raise

    def remove_previous(self) -> None:
        """Free space on a full disk; the last checkpoint contains all progress."""
        remove(generations(self.path)[1])

    def put_aside(self, why: str) -> None:
        """Rename the existing checkpoints, because the cell cannot resume from them."""
        self._kept = ""
        for path in filter(Path.exists, generations(self.path)):
            self._put_aside(path, why)

    def _put_aside(self, path: Path, why: str) -> None:
        aside = path.with_name(f"{path.stem}-unused-{time.time_ns() // 10**9}{path.suffix}")
        while aside.exists():
            aside = aside.with_name(f"{aside.stem}x{aside.suffix}")
        move(path, aside, self._claim.scratch)
        self._say(f"cannot go on from {path.name}, kept as {aside.name}, because {why}")


def move(path: Path, place: Path, scratch: Path) -> None:
    """Rename a file or a folder, and replace what is there.

    scratch: the claim's folder. The way goes through it, so that a process that has lost the cell moves nothing.
    """
    passing = scratch / f".{uuid4().hex}"
    os.rename(path, passing)
    put(passing, place)


def put(path: Path, place: Path) -> None:
    """Rename a file or a folder out of the claim's folder, and replace what is there."""
    if not (path.is_dir() or place.is_dir()):
        os.replace(path, place)
        return
    # Nothing can be renamed onto a folder with files.
    old = path.with_name(f".{uuid4().hex}")
    with suppress(FileNotFoundError):
        os.rename(place, old)
    os.rename(path, place)
    with suppress(OSError):  # released with the claim's folder
        remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(path: Path, place: Path) -> None:
    """Copy a file or a folder, by links where the file system has them."""
    if path.is_dir():
        shutil.copytree(path, place, symlinks=True, copy_function=_link)
    else:
        _link(path, place)


def _link(path: str | Path, place: str | Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # a file system without links; one whose claim is gone fails here too
        shutil.copyfile(path, place)


def _sync(path: Path) -> None:
    """Let a file or a folder survive a power cut."""
    inside = [each for each in path.rglob("*") if not each.is_symlink()] if path.is_dir() else []
    for each in (*inside, path):
        file = os.open(each, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
