"""Brings W&B up to what one cell, or one plan, has on disk. Imports wandb."""

import dataclasses
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strive.cells.lease import Claim, take_claim
from strive.cells.records import Status
from strive.trackers.cell_files import Trail
from strive.trackers.client import PREEMPTED, Client, DeletedError, NotUploadedError, OpenRun, Target
from strive.trackers.naming import Label, Plans, label_of, summary_of
from strive.trackers.upload_state import Receipt, checksum, read_receipt, sha256, write_receipt

LOCK = ".showing"  # folder, in the cell's, of the claim of the process that shows it on W&B
LEASE_SECONDS = 20.0  # without a heartbeat for so long it counts as dead
_PROJECT = "strive"
_TAKEN = 4  # W&B runs of one cell that somebody may have deleted, or filled with other numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """Where things shall go on W&B, as the command line says; "" leaves it to each cell's own config."""

    entity: str = ""
    project: str = ""

    def target(self, entity: str, project: str, before: Receipt | None = None) -> Target:
        """Return where a cell with these in its config goes; where nothing says so, it stays where it was before."""
        default = before or Target(
            entity=os.environ.get("WANDB_ENTITY", ""), project=os.environ.get("WANDB_PROJECT") or _PROJECT
        )
        return Target(
            entity=self.entity or entity or default.entity, project=self.project or project or default.project
        )


class CellUpload:
    """One cell on its way to W&B."""

    def __init__(self, folder: Path, client: Client, plans: Plans, wish: Wish) -> None:
        self.folder, self._client, self._plans, self._wish = folder, client, plans, wish
        self.url = ""
        self.fence = ""  # token of a dead process's claim on showing the cell
        self._run: OpenRun | None = None
        self._claim: Claim | None = None
        self._receipt: Receipt | None = None
        self._sent = 0  # epochs that were handed to the client

    @property
    def open(self) -> bool:
        """Whether a W&B run is open here."""
        return self._run is not None

    def is_whole(self, trail: Trail) -> bool:
        """Return whether W&B has all that there is of a cell that nobody trains."""
        receipt = self._before(trail)
        if receipt is None or trail.owner is not None:
            return False
        self.url = receipt.url
        label = label_of(trail, self._plans, group=receipt.group)
        return (
            receipt.sha256 == _content(trail)
            and receipt.group == label.group
            and set(label.tags) <= set(receipt.tags)
            and receipt.weights >= _wants_weights(trail)
            and receipt.images >= bool(_pictures(trail))
        )

    def catch_up(self, trail: Trail) -> None:
        """Send the epochs that W&B does not have yet; opens the W&B run where it is not open.

        Raises ClaimedError while another process shows the cell, NotUploadedError if W&B does not take it.
        """
        receipt = self._receipt
        if self._run is not None and receipt is not None and receipt.contradicts(trail.epochs):
            self.abandon()  # it is trained again, with other numbers
        if self._run is None:
            self._open(trail)
        assert self._run is not None
        for row in trail.rows(self._sent):
            self._run.log(row)
        if len(trail.epochs) > self._sent:
            self._run.summarise(summary_of(trail))
            self._sent = len(trail.epochs)
            self._note(epochs=[checksum(line) for line in trail.epochs])

    def close(self, trail: Trail) -> None:
        """Send how the cell stands, and end the W&B run; the receipt says what the server has confirmed.

        Raises NotUploadedError if not all of it has arrived.
        """
        assert self._run is not None
        run, record = self._run, trail.record
        summary = summary_of(trail)
        run.summarise(summary)
        pictures = [] if self._receipt is None or self._receipt.images else _pictures(trail)
        if pictures:
            run.log_images(pictures)
        weights = _wants_weights(trail) and not (self._receipt and self._receipt.weights)
        if weights:
            run.add_weights(trail.folder / "weights.pt", trail.cell)
        if (log := self.folder / "log.txt").exists():
            run.add_file(log)
        try:
            run.close(exit_code=_exit_code(trail), preempted=_preempted(trail))
            # The client reports success, too, where the server has refused the rows: only the server knows.
            if record is not None and not self._client.has(run.target, run.id, {"record": trail.record_text}):
                raise NotUploadedError("W&B took the cell, but does not show its record yet; the next sync looks again")
            self._note(sha256=_content(trail))
            if weights:
                self._note(weights=True)
            if pictures:
                self._note(images=True)
        finally:
            self._forget()

    def abandon(self) -> None:
        """End the W&B run here without a word on how the cell ended; never raises."""
        if self._run is None:
            return
        try:
            self._run.close(exit_code=PREEMPTED, preempted=True)
        except NotUploadedError:
            pass  # the next look finds out what arrived
        finally:
            self._forget()

    def drop(self) -> None:
        """Forget the W&B run that is open; the next look goes on with it."""
        self._forget()

    def _open(self, trail: Trail) -> None:
        before = self._before(trail)
        label = label_of(trail, self._plans, group=before.group if before else "")
        lock = self.folder / LOCK
        lock.mkdir(exist_ok=True)
        self._claim = take_claim(lock, LEASE_SECONDS, fence=self.fence).__enter__()
        try:
            self._run = self._opened(trail, label, before)
        except BaseException:
            self._forget()
            raise
        self.url = self._run.url
        # A row is an epoch, and after the last one pictures. Disk may have fewer: those since the last checkpoint
        # are trained again.
        self._sent = self._run.rows
        same = before is not None and before.id == self._run.id
        self._receipt = Receipt(
            server=self._client.server,
            entity=self._run.target.entity,
            project=self._run.target.project,
            id=self._run.id,
            url=self._run.url,
            group=label.group,
            tags=label.tags,
            epochs=before.epochs if same and before else [],
            weights=bool(same and before and before.weights),
            images=bool(same and before and before.images),
        )

    def _opened(self, trail: Trail, label: Label, before: Receipt | None) -> OpenRun:
        run = _run_id(trail, before)
        for _ in range(_TAKEN):
            known = before is not None and before.id == run
            try:
                opened = self._opened_as(run, trail, label, before, named=known)
            except DeletedError:
                run = _next_id(trail.cell, run)
                continue
            if known or not opened.contradicts(trail.rows(0)):
                return opened
            # Somebody else's training of this cell, or one whose receipt is lost.
            opened.close(exit_code=0)
            run = _next_id(trail.cell, run)
        raise NotUploadedError(f"its W&B runs up to {run} were deleted, or have other numbers")

    def _opened_as(self, run: str, trail: Trail, label: Label, before: Receipt | None, *, named: bool) -> OpenRun:
        config = trail.config
        target = self._wish.target(config.get("tracker.entity", ""), config.get("tracker.project", ""), before)
        owner = trail.owner
        return OpenRun(
            target,
            run,
            name=None if named else label.name,
            group=label.group,
            job_type="train",
            tags=label.tags,
            config=label.config,
            trainer=owner.pid if owner is not None and owner.is_here() else None,
            weights=bool(config.get("tracker.weights")),
        )

    def _before(self, trail: Trail) -> Receipt | None:
        """Return the receipt of the place where the cell goes, None if there is none."""
        receipt = read_receipt(self.folder)
        if receipt is None or receipt.server != self._client.server or _agents_id() not in ("", receipt.id):
            return None
        config = trail.config
        target = self._wish.target(config.get("tracker.entity", ""), config.get("tracker.project", ""), receipt)
        place = (target.entity or self._client.entity, target.project)
        return receipt if (receipt.entity, receipt.project) == place else None

    def _note(self, *, epochs: list[str] | None = None, **changes: object) -> None:
        assert self._receipt is not None
        if epochs is not None:
            # Those since the last checkpoint may come again, and must then be the same.
            changes["epochs"] = epochs + self._receipt.epochs[len(epochs) :]
        self._receipt = dataclasses.replace(self._receipt, **changes)  # type: ignore[arg-type]
        write_receipt(self.folder, self._receipt)

    def _forget(self) -> None:
        if self._claim is not None:
            self._claim.release()
            with suppress(OSError):  # another process may have it by now
                (self.folder / LOCK).rmdir()
        self._run = self._claim = self._receipt = None
        self._sent = 0


def _run_id(trail: Trail, before: Receipt | None) -> str:
    """Return the id of the cell's W&B run: the cell's own, or the next one where W&B has other numbers of it."""
    if assigned := _agents_id():
        return assigned
    if before is None:
        return trail.cell
    if not before.contradicts(trail.epochs):
        return before.id
    return _next_id(trail.cell, before.id)


def _next_id(cell: str, last: str) -> str:
    number = re.fullmatch(re.escape(cell) + r"-(\d+)", last)
    return f"{cell}-{int(number[1]) + 1 if number else 2}"


def _agents_id() -> str:
    """Return the id that `wandb agent` has given this process's one cell; "" without an agent."""
    return os.environ.get("WANDB_RUN_ID", "") if os.environ.get("WANDB_SWEEP_ID") else ""


def _content(trail: Trail) -> str:
    """Return a hash of what there is to upload: the record, or the epochs of a cell that has not ended."""
    return sha256(trail.record_text if trail.record is not None else "\n".join(trail.epochs))


def _exit_code(trail: Trail) -> int:
    if trail.record is None or _preempted(trail):
        return PREEMPTED
    return 0 if trail.record.status.finished else 1


def _preempted(trail: Trail) -> bool:
    return trail.record is None or trail.record.status is Status.preempted


def _has_result(trail: Trail) -> bool:
    return trail.record is not None and trail.record.status.finished


def _wants_weights(trail: Trail) -> bool:
    return bool(trail.config.get("tracker.weights")) and _has_result(trail) and (trail.folder / "weights.pt").exists()


def _pictures(trail: Trail) -> list[Path]:
    # At the end alone: after a row of pictures there are no more epochs.
    if not trail.config.get("tracker.images") or not _has_result(trail):
        return []
    return [path for name in ("inputs.png", "mistakes.png") if (path := trail.folder / name).exists()]


def upload_plan(folder: Path, client: Client, target: Target) -> str:
    """Bring W&B's copy of a plan up to date, so that tables made from W&B know what is missing; return its URL.

    Raises NotUploadedError, OSError.
    """
    path = folder / "plan.json"
    text = path.read_text(encoding="utf-8")
    before = read_receipt(folder)
    place = (client.server, target.entity or client.entity, target.project)
    if before and (before.server, before.entity, before.project) == place and before.sha256 == sha256(text):
        return before.url
    run = OpenRun(
        target,
        f"plan-{folder.name}",
        name=f"{folder.name} (plan)",
        group=folder.name,
        job_type="plan",
        tags=[],
        config={"sweep": folder.name},
    )
    try:
        run.add_file(path)
        run.summarise({"plan_sha256": sha256(text)})
    finally:
        run.close(exit_code=0)
    if not client.has(run.target, run.id, {"plan_sha256": sha256(text)}):
        raise NotUploadedError("W&B took the plan, but does not show it yet; the next sync looks again")
    write_receipt(
        folder,
        Receipt(
            server=client.server,
            entity=run.target.entity,
            project=run.target.project,
            id=run.id,
            url=run.url,
            group=folder.name,
            sha256=sha256(text),
        ),
    )
    return run.url
