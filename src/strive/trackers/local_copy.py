"""A project of W&B on this disk, as a folder that looks like a runs folder."""

import datetime
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from platformdirs import user_cache_dir

from strive.cells.history import HISTORY
from strive.cells.records import write_whole
from strive.cells.schema1 import EPOCHS
from strive.errors import LoadError
from strive.trackers.project import PLAN_FILE
from strive.trackers.upload_state import UploadState, write_upload_state
from strive.trackers.wandb_records import MirroredRecord

SWEEPS = "sweeps"  # folder of the plans, among those of the cells
_FETCHED = ".fetched"  # file: when
_CURVE = ".curve"  # file in a cell's folder: which history its the history was made of


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """The copy of one project."""

    folder: Path

    def plan(self, name: str) -> bytes:
        """Return a plan; empty if there is none."""
        return _read(self._plan_path(name)) or b""

    def keep(self, records: Mapping[str, MirroredRecord], plans: Mapping[str, bytes]) -> None:
        """Write what changed, and remove the cells and plans that W&B has no more; the copy's ledger stays.

        records: by cell. plans: by name.
        """
        for name, content in plans.items():
            _write(self._plan_path(name), content)
        for cell, record in records.items():
            path = self.folder / cell / "record.json"
            if _read(path) != record.content:
                for stale in (HISTORY, EPOCHS, _CURVE):  # of the training that the old record is of
                    path.with_name(stale).unlink(missing_ok=True)
                _write(path, record.content)
                write_upload_state(path.parent, _state(record))
        for parent, names in ((self.folder, {*records, SWEEPS}), (self.folder / SWEEPS, {*plans})):
            for path in parent.iterdir():
                # Files are of the copy itself: when it was made, and the ledger of what was looked at in it.
                if path.is_dir() and path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)
        now = datetime.datetime.now(datetime.UTC)
        _write(self.folder / _FETCHED, now.strftime("%Y-%m-%d %H:%M UTC").encode())

    def has_curve(self, record: MirroredRecord) -> bool:
        """Return whether the history is of the history that W&B has now."""
        return _read(self.folder / record.cell / _CURVE) == _mark(record)

    def keep_curve(self, record: MirroredRecord, lines: Sequence[str], *, whole: bool) -> None:
        """Write the history; no lines, no file. whole: there is nothing more to come."""
        folder = self.folder / record.cell
        if lines:
            _write(folder / HISTORY, "".join(lines).encode())
        if whole:
            _write(folder / _CURVE, _mark(record))

    def _plan_path(self, name: str) -> Path:
        return self.folder / SWEEPS / name / PLAN_FILE


def copy_of(host: str, entity: str, name: str) -> LocalCopy:
    """Return the copy of a project, in the folder that STRIVE_CACHE names, or the user's cache folder."""
    return LocalCopy(_server_folder(host).joinpath(_part(entity), _part(name)))


def last_fetched(host: str, entity: str, name: str) -> tuple[Path, str] | None:
    """Return the folder of a project's copy and when it was made. entity: "" for any."""
    found = _server_folder(host).glob(f"{_part(entity) or '*'}/{_part(name)}/{_FETCHED}")
    last = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return (last.parent, last.read_text()) if last else None


def _server_folder(host: str) -> Path:
    try:
        cache = Path(os.environ.get("STRIVE_CACHE") or user_cache_dir("strive")).expanduser().absolute()
    except RuntimeError:
        raise LoadError("there is no home folder to keep a copy in; STRIVE_CACHE=FOLDER names another") from None
    return cache / "wandb" / _part(host)


def _part(text: str) -> str:
    return quote(text, safe="")


def _state(record: MirroredRecord) -> UploadState:
    """Return the upload state that leads from the copy of a cell to its page."""
    run = record.run
    return UploadState(server="", entity=run.entity, project=run.project, id=run.id, url=run.url)


def _mark(record: MirroredRecord) -> bytes:
    """Return what changes whenever a cell's history has to be read again."""
    digest = hashlib.sha256(record.content).hexdigest()
    return f"{record.run.id} {record.run.historyLineCount} {digest}".encode()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, content: bytes) -> None:
    if _read(path) != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, durable=False)
