"""Lease on a cell: one owner at a time, on any file system that renames atomically.

A claim is the folder `claim/<token>/` in the cell's folder. It is created by one rename, which fails if
another claim exists. The owner first writes each of the cell's files into that folder and then renames it
out. A process that takes over a claim renames the folder away. Every later write of the old owner then
fails because its folder is gone, even if that process was suspended in between.

Clocks of machines are not compared: a claim is stale if there was no heartbeat for its whole lease on the
observer's own monotonic clock, or if its process ran on this machine and is gone. Imports no torch.
"""

import dataclasses
import errno
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from strive.cells.records import utc_now
from strive.errors import LeasedError, LostLeaseError
from strive.processes import boot_id, is_gone, slurm_job, slurm_restarts, start_time

_FOLDER = "claim"
_UNKNOWN_LEASE_SECONDS = 120.0  # the default of trainer.lease_seconds
_BEAT_SECONDS = 2.0  # maximum between two heartbeats, short because users watch the progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The process that trains a cell, as described in its claim."""

    token: str  # unique for each claim
    host: str
    boot: str  # identifies the host's boot; "" if unknown
    pid: int
    pid_started: str  # start time of the process, as counted by the kernel; "" if unknown
    job: str  # id of the SLURM job, such as 12 or 12_3; "" outside SLURM
    restart: int  # how often SLURM has restarted the job
    lease_seconds: float  # without a heartbeat for this long, the owner counts as gone
    since: str  # UTC, ISO 8601
    beat: int = 0  # increases while the owner lives
    note: dict[str, Any] = field(default_factory=dict)  # progress of the cell

    def __str__(self) -> str:
        job = f", SLURM job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    def is_here(self) -> bool:
        """Return whether the process belongs to this machine and its current boot."""
        return bool(self.boot) and self.host == socket.gethostname() and self.boot == boot_id()


class Claim:
    """A cell that this process owns, with a heartbeat. Use it as a context manager."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.owner = owner
        self.scratch = folder / _FOLDER / owner.token
        self.on_beat: Callable[[], object] = lambda: None  # called after each heartbeat, in its thread
        self._note: dict[str, Any] = {}
        self._left = threading.Event()
        self._beats = threading.Thread(target=self._keep_beating, name="beat", daemon=True)

    def __enter__(self) -> Self:
        """Start the heartbeat."""
        self._beats.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Release the cell."""
        self.release()

    def note(self, **progress: Any) -> None:
        """Set the cell's progress, to be written with the next heartbeat."""
        self._note = progress

    def check(self) -> None:
        """Raise LostLeaseError if another process has taken over the cell."""
        if not self.scratch.is_dir():
            raise LostLeaseError(
                f"{self.scratch.parents[1]}: this process has lost the cell to another one, which saw no sign"
                " of life from it; or the folder was moved. Nothing more is written here"
            )

    def release(self) -> None:
        """Release the cell; do nothing if it was lost."""
        self._left.set()
        if self._beats.is_alive():
            self._beats.join()
        with suppress(OSError):  # the claim then becomes stale
            _drop(self.scratch)

    def _keep_beating(self) -> None:
        beat = 0
        while not self._left.wait(min(self.owner.lease_seconds / 8, _BEAT_SECONDS)):
            beat += 1
            # Without its folder the claim is lost, and the cell's next write fails. Even a bug must not end the
            # heartbeat, because another process would take over the cell.
            with suppress(Exception):
                _write_beat(self.scratch, beat, self._note)
                self.on_beat()


class LeaseMonitor:
    """Detects that owners are gone by watching the heartbeats of claims on this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[str, int, float]] = {}

    def fence(self, folder: Path) -> str | None:
        """Return None while a living process owns the cell in `folder`, else the `fence` for taking the claim.

        Must be called repeatedly, like `stale`.
        """
        gone = self.stale(folder)
        if gone is not None:
            return gone.token
        return "" if owner_of(folder) is None else None

    def stale(self, folder: Path) -> Owner | None:
        """Return the owner of the cell in `folder` if it is gone, as far as this observer knows.

        Must be called repeatedly: an owner on another machine counts as gone if it sends no heartbeat for its
        lease, counted from the first call.
        """
        owner = owner_of(folder)
        if owner is None:
            self._seen.pop(folder, None)
            return None
        if surely_gone(owner):
            return owner
        now = time.monotonic()
        token, beat, since = self._seen.get(folder, ("", -1, now))
        if (token, beat) != (owner.token, owner.beat):
            self._seen[folder] = (owner.token, owner.beat, now)
            return None
        return owner if now - since >= owner.lease_seconds else None


def take_claim(folder: Path, lease_seconds: float, *, fence: str = "") -> Claim:
    """Make this process the owner of the cell in `folder`, which must exist.

    fence: the token of an owner that is gone, as LeaseMonitor found: it may be replaced.

    Raises LeasedError while another process owns the cell.
    """
    owner = _myself(lease_seconds)
    while True:
        if _created(folder, owner):
            return Claim(folder, owner)
        other = owner_of(folder)
        if other is None:
            time.sleep(0.01)  # released in between
            continue
        if other.token != fence and not surely_gone(other):
            raise LeasedError(folder.name, other)
        _drop(folder / _FOLDER / other.token)


def owner_of(folder: Path) -> Owner | None:
    """Return the owner of the cell in `folder`, or None."""
    for place in _tokens(folder):
        try:
            owner = _typed(json.loads((place / "owner.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, AttributeError):
            if not place.is_dir():
                continue  # released in between
            owner = _unknown(place.name)
        try:
            beat = json.loads((place / "beat.json").read_text(encoding="utf-8"))
            return dataclasses.replace(owner, beat=beat["beat"], note=beat["note"])
        except (OSError, ValueError, KeyError, TypeError):
            return owner  # no heartbeat yet
    return None


def is_older(folder: Path, owner: Owner, written: int) -> bool:
    """Return whether the owner's claim on the cell in `folder` is older than a file, so the owner has written it.

    written: the file's modification time in nanoseconds, from the file system's clock, which also dates the claim.
    """
    try:
        return (folder / _FOLDER / owner.token / "owner.json").stat().st_mtime_ns <= written
    except OSError:
        return True  # released in between


def surely_gone(owner: Owner) -> bool:
    """Return whether the owner was a process of this machine that is gone."""
    # A reboot gives another boot id. Two containers may share a host name, but not the boot id together with a
    # live process of this id. In doubt the lease decides.
    return owner.is_here() and is_gone(owner.pid, owner.pid_started)


def live_owner(folder: Path) -> Owner | None:
    """Return the process that trains the cell in a folder; None where none does, or it is surely gone."""
    owner = owner_of(folder)
    return None if owner is None or surely_gone(owner) else owner


def _tokens(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder / _FOLDER)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unknown(token: str) -> Owner:
    """Return an owner for a claim with a damaged file; it counts as gone after a lease without a heartbeat."""
    return Owner(
        token=token,
        host="an unknown machine (its claim is damaged)",
        boot="",
        pid=0,
        pid_started="",
        job="",
        restart=0,
        lease_seconds=_UNKNOWN_LEASE_SECONDS,
        since="an unknown time",
    )


def _typed(content: Mapping[str, Any]) -> Owner:
    known = {item.name for item in dataclasses.fields(Owner)}
    return Owner(**{name: value for name, value in content.items() if name in known})


def _created(folder: Path, owner: Owner) -> bool:
    """Create the claim by one rename; return False if another claim exists."""
    draft = folder / f".claim-{owner.token}"
    (draft / owner.token).mkdir(parents=True)
    try:
        with (draft / owner.token / "owner.json").open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(owner), file)
            file.flush()
            os.fsync(file.fileno())
        _write_beat(draft / owner.token, 0, {})  # reserves space on the disk for later heartbeats
        # The rename succeeds onto an empty folder, but never onto one that contains a claim.
        os.rename(draft, folder / _FOLDER)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # A network file system may repeat a rename that has already succeeded.
        return (folder / _FOLDER / owner.token).is_dir()
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _drop(place: Path) -> None:
    """Remove one claim by its token, never that of a later owner."""
    aside = place.parents[1] / f".gone-{place.name}"
    try:
        os.rename(place, aside)
    except FileNotFoundError:
        return  # another process removed it
    shutil.rmtree(aside, ignore_errors=True)
    # Fails as intended if there is a new claim.
    with suppress(OSError):
        place.parent.rmdir()


def _write_beat(scratch: Path, beat: int, note: Mapping[str, Any]) -> None:
    draft, place, content = scratch / ".beat.json", scratch / "beat.json", json.dumps({"beat": beat, "note": note})
    try:
        draft.write_text(content, encoding="utf-8")
        os.replace(draft, place)
    except OSError:
        # On a full disk a file can still be overwritten in place. A reader of a partial file still sees a change.
        with place.open("r+", encoding="utf-8") as file:
            file.write(content)
            file.truncate()


def _myself(lease_seconds: float) -> Owner:
    return Owner(
        token=uuid4().hex,
        host=socket.gethostname(),
        boot=boot_id(),
        pid=os.getpid(),
        pid_started=start_time(os.getpid()) or "",
        job=slurm_job(),
        restart=slurm_restarts(),
        lease_seconds=lease_seconds,
        since=utc_now(),
    )
