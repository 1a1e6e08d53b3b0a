"""Claim of a process on a cell: one owner at a time, on any file system that renames atomically.

A claim is the folder `claim/<token>/` in the cell's folder. It comes into being by one rename, which
fails while another claim is there. Its owner writes whatever belongs to the cell into that folder
first and renames it out. A process that takes a claim over renames the folder away: every later write
of the old owner fails, also if it was suspended in between, because the folder it writes from is gone.

Clocks are not compared: a claim is stale when its beat stood still for its whole lease on the
observer's own monotonic clock, or when its process is gone from this very machine. Imports no torch.
"""

import dataclasses
import errno
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from strive.errors import LeasedError, LostLeaseError
from strive.processes import boot_id, is_gone, slurm_job, slurm_restarts, start_time

_FOLDER = "claim"
_UNKNOWN_LEASE_SECONDS = 120.0  # the default of trainer.lease_seconds
_BEAT_SECONDS = 2.0  # at most, between two beats: who watches a cell wants to see it move


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The process that trains a cell, as it wrote itself down."""

    token: str  # names this claim, and no other one ever
    host: str
    boot: str  # of the host since when; "" where it cannot be known
    pid: int
    pid_started: str  # of the process, in the kernel's own count; "" where it cannot be known
    job: str  # SLURM's id of the job, such as 12 or 12_3; "" outside one
    restart: int  # how often SLURM started the job again
    lease_seconds: float  # without a beat for so long it counts as dead
    since: str  # UTC, ISO 8601
    beat: int = 0  # grows while the owner lives
    note: dict[str, Any] = field(default_factory=dict)  # how far the cell is

    def __str__(self) -> str:
        job = f", SLURM job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    def is_here(self) -> bool:
        """Return whether it is, or was, a process of this machine since it was started."""
        return bool(self.boot) and self.host == socket.gethostname() and self.boot == boot_id()


class Claim:
    """A cell that this process owns, with a beat that says so; use as a context manager."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.owner = owner
        self.scratch = folder / _FOLDER / owner.token
        self._note: dict[str, Any] = {}
        self._left = threading.Event()
        self._beats = threading.Thread(target=self._keep_beating, name="beat", daemon=True)

    def __enter__(self) -> Self:
        """Start the beat."""
        self._beats.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Give the cell back."""
        self.release()

    def note(self, **progress: Any) -> None:
        """Say how far the cell is; goes out with the next beat."""
        self._note = progress

    def check(self) -> None:
        """Raise LostLeaseError if the cell belongs to another process by now."""
        if not self.scratch.is_dir():
            raise LostLeaseError(
                f"{self.scratch.parents[1]}: this process has lost the cell to another one, which saw no sign"
                " of life from it; or the folder was moved. Nothing more is written here"
            )

    def release(self) -> None:
        """Give the cell back; nothing happens if it was lost."""
        self._left.set()
        if self._beats.is_alive():
            self._beats.join()
        with suppress(OSError):  # it is found stale, then
            _drop(self.scratch)

    def _keep_beating(self) -> None:
        beat = 0
        while not self._left.wait(min(self.owner.lease_seconds / 8, _BEAT_SECONDS)):
            beat += 1
            # Without the folder the claim is lost; the next write of the cell finds out. Not even a fault of ours
            # may end the beat: others would take the cell over.
            with suppress(Exception):
                _write_beat(self.scratch, beat, self._note)


class LeaseMonitor:
    """Finds dead owners: watches claims for heartbeats, by this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[str, int, float]] = {}

    def fence(self, folder: Path) -> str | None:
        """Return None while a living process owns the cell in `folder`, else the `fence` to take the claim with.

        Ask again and again, as for `stale`.
        """
        dead = self.stale(folder)
        if dead is not None:
            return dead.token
        return "" if owner_of(folder) is None else None

    def stale(self, folder: Path) -> Owner | None:
        """Return the owner of the cell in `folder` if it is dead, as far as this observer has watched.

        Ask again and again: an owner on another machine is dead when its beat stood still for its
        lease since the first question.
        """
        owner = owner_of(folder)
        if owner is None:
            self._seen.pop(folder, None)
            return None
        if surely_dead(owner):
            return owner
        now = time.monotonic()
        token, beat, since = self._seen.get(folder, ("", -1, now))
        if (token, beat) != (owner.token, owner.beat):
            self._seen[folder] = (owner.token, owner.beat, now)
            return None
        return owner if now - since >= owner.lease_seconds else None


def take_claim(folder: Path, lease_seconds: float, *, fence: str = "") -> Claim:
    """Make this process the owner of the cell in `folder`, which must exist.

    fence: the token of an owner that was watched and found dead; it is shut out.

    Raises LeasedError while another process owns the cell.
    """
    owner = _myself(lease_seconds)
    while True:
        if _created(folder, owner):
            return Claim(folder, owner)
        other = owner_of(folder)
        if other is None:
            time.sleep(0.01)  # given back in between
            continue
        if other.token != fence and not surely_dead(other):
            raise LeasedError(folder.name, other)
        _drop(folder / _FOLDER / other.token)


def owner_of(folder: Path) -> Owner | None:
    """Return who owns the cell in `folder`, or None."""
    for place in _tokens(folder):
        try:
            owner = _typed(json.loads((place / "owner.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, AttributeError):
            if not place.is_dir():
                continue  # given back in between
            owner = _unknown(place.name)
        try:
            beat = json.loads((place / "beat.json").read_text(encoding="utf-8"))
            return dataclasses.replace(owner, beat=beat["beat"], note=beat["note"])
        except (OSError, ValueError, KeyError, TypeError):
            return owner  # no beat yet
    return None


def is_older(folder: Path, owner: Owner, written: int) -> bool:
    """Return whether the owner's claim on the cell in `folder` is older than a file: then its owner wrote that.

    written: when the file was, in nanoseconds, by the clock of its file system, which is that of the claim too.
    """
    try:
        return (folder / _FOLDER / owner.token / "owner.json").stat().st_mtime_ns <= written
    except OSError:
        return True  # given back in between


def surely_dead(owner: Owner) -> bool:
    """Return whether the owner was a process of this machine that is gone."""
    # The machine may have been started again. In containers two can share a name, but then not a boot
    # id with a live process: wait for the lease there.
    return owner.is_here() and is_gone(owner.pid, owner.pid_started)


def _tokens(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder / _FOLDER)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unknown(token: str) -> Owner:
    """Return the owner of a claim whose file was damaged: it counts as dead after a lease without a beat."""
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
    """Put the claim in place by one rename; False if another one is there."""
    draft = folder / f".claim-{owner.token}"
    (draft / owner.token).mkdir(parents=True)
    try:
        with (draft / owner.token / "owner.json").open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(owner), file)
            file.flush()
            os.fsync(file.fileno())
        _write_beat(draft / owner.token, 0, {})  # later ones need no room
        # Onto an empty folder a rename succeeds, onto one with a claim in it never.
        os.rename(draft, folder / _FOLDER)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # A network file system may repeat a rename that it has already done.
        return (folder / _FOLDER / owner.token).is_dir()
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _drop(place: Path) -> None:
    """Take one claim away, by its token: never that of a later owner."""
    aside = place.parents[1] / f".gone-{place.name}"
    try:
        os.rename(place, aside)
    except FileNotFoundError:
        return  # somebody else did
    shutil.rmtree(aside, ignore_errors=True)
    # Fails, rightly, when a new claim is there already.
    with suppress(OSError):
        place.parent.rmdir()


def _write_beat(scratch: Path, beat: int, note: Mapping[str, Any]) -> None:
    draft, place, content = scratch / ".beat.json", scratch / "beat.json", json.dumps({"beat": beat, "note": note})
    try:
        draft.write_text(content, encoding="utf-8")
        os.replace(draft, place)
    except OSError:
        # A disk that is full takes other words in the place of old ones. A reader of half of them sees a heartbeat.
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
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )
