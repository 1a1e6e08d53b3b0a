"""The ledger of a runs folder: each comparison that was looked at and each scoring of a test set, a line each.

Who tries many ideas and keeps the best has to correct for all of them, not for those that were kept. The ledger counts
them. Lines are only ever added, in one write, so several processes may add at once; the same comparison on the same
numbers is one entry, however often it is looked at. Nothing fails because a ledger cannot be written.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

import msgspec

from strive.cells.records import Record, utc_now

LEDGER = "ledger.jsonl"


class Kind(StrEnum):
    """What was looked at."""

    comparison = auto()
    scoring = auto()  # of a test set, by one cell


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a ledger."""

    id: str  # of what was looked at: equal for equal numbers
    kind: Kind
    what: str  # "ALL-CNN-C against Model C", or a cell
    metric: str
    sweep: str = ""  # plan in whose table it was first looked at; "" of a scoring
    n: int = 0  # pairs of a comparison
    margin: float = 0.0
    p_no_loss: float | None = None  # one-sided, of a loss of the margin or more, not corrected for other comparisons
    p_loss: float | None = None
    at: str = ""  # UTC, when it was first looked at


def entry_id(*parts: Any) -> str:
    """Return the id of what consists of these JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def scorings(cell: str, metrics: Mapping[str, float | None]) -> list[LedgerEntry]:
    """Return an entry if a cell was scored on test data: a metric of it begins with test."""
    own = {name: value for name, value in metrics.items() if name.startswith("test") and value is not None}
    if not own:
        return []
    return [
        LedgerEntry(id=entry_id("scoring", cell, own), kind=Kind.scoring, what=cell, metric=", ".join(own)),
    ]


def read_ledger(runs: Path) -> dict[str, LedgerEntry]:
    """Return {id: entry} of a runs folder. A line that is none, such as a half one, is passed over."""
    found: dict[str, LedgerEntry] = {}
    with suppress(OSError):
        for line in (runs / LEDGER).read_bytes().splitlines():
            with suppress(msgspec.MsgspecError):
                entry = msgspec.json.decode(line, type=LedgerEntry)
                found.setdefault(entry.id, entry)
    return found


def add_to_ledger(runs: Path, entries: Iterable[LedgerEntry]) -> str:
    """Add the entries that a ledger does not have; return why it could not be written, "" if it could."""
    try:
        known = read_ledger(runs)
        _append(runs / LEDGER, {entry.id: entry for entry in entries if entry.id not in known}.values())
    except OSError as error:
        return f"{runs / LEDGER} cannot be written ({error.strerror}); what was looked at now is not counted there"
    return ""


def note_scoring(runs: Path, record: Record) -> None:
    """Add that a cell was scored on test data."""
    if record.status.finished:
        with suppress(OSError):
            _append(runs / LEDGER, scorings(record.cell, record.metrics))


def _append(path: Path, entries: Collection[LedgerEntry]) -> None:
    """Add a line for each at the end, whatever other processes do and whatever a killed one has left there."""
    if not entries:
        return
    now = utc_now()
    lines = b"".join(msgspec.json.encode(msgspec.structs.replace(entry, at=now)) + b"\n" for entry in entries)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        _lock(file)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        os.write(file, lines)
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Wait a second for the lock at most: on most file systems a single write is whole without one."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # not every file system has locks
            return
