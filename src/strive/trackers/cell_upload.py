"""One cell on its way to W&B: the W&B run that it has, and what is sent of it. Imports wandb."""

import json
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from wandb import Run

from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.cells.wandb_run import next_id
from strive.errors import DeletedError, NotUploadedError
from strive.trackers.cell_files import CellFiles, step_name
from strive.trackers.client import (
    PREEMPTED,
    Client,
    Target,
    finish,
    log_pictures,
    log_weights,
    open_run,
    set_tags,
    state_of,
)
from strive.trackers.naming import Label, summary_of
from strive.trackers.upload_state import UploadState, write_upload_state

LOCK = ".showing"  # folder, in the cell's, of the claim of the process that shows it on W&B
LEASE_SECONDS = 20.0  # without a heartbeat for so long it counts as dead
_TAKEN = 4  # W&B runs of one cell that somebody may have deleted, or filled with other numbers
_CHECKSUM = "history_checksum"  # in a W&B run's summary: of the epochs that it has


class CellUpload:
    """A cell whose W&B run is open here."""

    def __init__(
        self, files: CellFiles, label: Label, target: Target, before: UploadState | None, client: Client, fence: str
    ) -> None:
        """Open the W&B run, or go on with it.

        before: what is known to be there. fence: token of a dead process's claim on showing the cell. Raises
        LeasedError while another process shows it, DeletedError, SilentError, NotUploadedError.
        """
        self._folder, self._label, self._target, self._client = files.cell_folder, label, target, client
        self._run: Run
        self._sent, self._there = 0, ""  # rows, and the checksum of the epochs, that W&B has
        lock = self._folder / LOCK
        lock.mkdir(exist_ok=True)
        self._claim = take_claim(lock, LEASE_SECONDS, fence=fence).__enter__()
        try:
            self._open(files, agents_id() or (before.id if before else files.cell), before)
        except BaseException:
            self.release()
            raise

    def catch_up(self, files: CellFiles) -> None:
        """Send the epochs that W&B does not have yet, to another W&B run where they contradict those it has."""
        if self._contradicts(files):
            finish(self._run, PREEMPTED)
            self._open(files, next_id(files.cell, self._run.id), None)
        rows = files.rows(self._sent)
        for row in rows:
            self._run.log(row)
        if rows:
            self._sent += len(rows)
            self._there = _checksum(files.epochs)
            self._run.summary.update(summary_of(files) | {_CHECKSUM: self._there})

    def close(self, files: CellFiles, label: Label) -> None:
        """Send how the cell stands, and end the W&B run; the upload state says what the server has confirmed.

        label: as it is now. Raises NotUploadedError if not all of it has arrived.
        """
        run = self._run
        try:
            run.summary.update(summary_of(files))
            set_tags(run, label.tags)
            pictures, weights = _pictures(files), _weights(files)
            # What W&B has already stands in the summary.
            if not any(run.summary.get(path.stem) for path in pictures):
                log_pictures(run, pictures)
            if weights and not run.summary.get("weights"):
                log_weights(run, weights, files.cell)
                run.summary["weights"] = weights.name
            if (log := self._folder / "log.txt").exists():
                run.save(str(log), base_path=str(log.parent), policy="now")
            finish(run, _exit_code(files))
            if files.record is not None:
                self._client.confirm(run, {"record": files.record_text})
            state = state_of(run, self._client, self._label.group, content_of(files, label))
            write_upload_state(self._folder, state)
        finally:
            self.release()

    def leave(self) -> None:
        """End the W&B run without a word on how the cell ended; never raises."""
        with suppress(NotUploadedError):  # the next look finds out what arrived
            finish(self._run, PREEMPTED)
        self.release()

    def release(self) -> None:
        """Let other processes show the cell."""
        self._claim.release()
        with suppress(OSError):  # another process may have it by now
            (self._folder / LOCK).rmdir()

    def _open(self, files: CellFiles, name: str, before: UploadState | None) -> None:
        """Open the first W&B run from this name on that nobody has deleted, or filled with other numbers."""
        for _ in range(_TAKEN):
            try:
                self._run = self._opened(files, name, is_new=before is None or before.id != name)
            except DeletedError:
                if files.wandb_run is not None:
                    raise
            else:
                self._there = str(self._run.summary.get(_CHECKSUM, ""))
                if not self._contradicts(files):
                    break
                finish(self._run)
            name = next_id(files.cell, name)
        else:
            raise NotUploadedError(f"its W&B runs up to {name} were deleted, or have other numbers")
        # A row is an epoch, and after the last one pictures. Disk may have fewer: those since the last checkpoint
        # are trained again. Into a W&B run of its own the app writes the rows.
        self._sent = len(files.epochs) if files.wandb_run is not None else self._run.starting_step
        write_upload_state(self._folder, state_of(self._run, self._client, self._label.group))

    def _opened(self, files: CellFiles, name: str, *, is_new: bool) -> Run:
        label, owner = self._label, files.owner
        if files.wandb_run is not None:  # the app has begun it, and this adds how the cell ended
            config = {"sweep": label.group, "cell": label.config["cell"]}
            return open_run(self._target, files.wandb_run.id, tags=label.tags, config=config)
        return open_run(
            self._target,
            name,
            name=label.name if is_new else None,  # somebody may have given it another
            group=label.group or None,
            job_type="train",
            tags=label.tags,
            config=label.config,
            step=step_name(),
            trainer=owner.pid if owner is not None and owner.is_here() else None,
            weights=bool(files.config.get("tracker.weights")),
        )

    def _contradicts(self, files: CellFiles) -> bool:
        """Return whether W&B has another training's epochs, as far as the first and the last that it has can tell."""
        if files.wandb_run is not None or not self._there or not files.epochs:
            return False
        count = int(self._there.partition(" ")[0])
        mine, theirs = _checksum(files.epochs[:count]).split(" "), self._there.split(" ")
        return mine[1] != theirs[1] or (mine[0] == theirs[0] and mine != theirs)


def agents_id() -> str:
    """Return the id that `wandb agent` has given this process's one cell; "" without an agent."""
    return os.environ.get("WANDB_RUN_ID", "") if os.environ.get("WANDB_SWEEP_ID") else ""


def content_of(files: CellFiles, label: Label) -> str:
    """Return a hash of what there is to upload: the record, or the epochs of a cell that has not ended."""
    ended = files.record_text if files.record is not None else "\n".join(files.epochs)
    files_ = [path.name for path in (*_pictures(files), _weights(files)) if path]
    return sha256(json.dumps([ended, label.group, label.tags, files_]).encode()).hexdigest()


def _checksum(lines: Sequence[str]) -> str:
    """Return how many lines these are, and eight hex digits each for the first and for all."""
    first, whole = (zlib.crc32("\n".join(part).encode()) for part in (lines[:1], lines))
    return f"{len(lines)} {first:08x} {whole:08x}"


def _exit_code(files: CellFiles) -> int:
    if files.record is None or files.record.status is Status.preempted:
        return PREEMPTED
    return 0 if files.record.status.finished else 1


def _has_result(files: CellFiles) -> bool:
    return files.record is not None and files.record.status.finished


def _weights(files: CellFiles) -> Path | None:
    path = files.folder / "weights.pt"
    return path if files.config.get("tracker.weights") and _has_result(files) and path.exists() else None


def _pictures(files: CellFiles) -> list[Path]:
    # At the end alone: after a row of pictures there are no more epochs.
    if not files.config.get("tracker.images") or not _has_result(files):
        return []
    return [path for name in ("inputs.png", "mistakes.png") if (path := files.folder / name).exists()]
