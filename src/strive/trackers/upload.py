"""Brings W&B up to what one cell, or one plan, has on disk. Imports wandb."""

import dataclasses
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strive.cells.lease import Claim, take_claim
from strive.cells.records import Status
from strive.cells.wandb_run import WandbRun, next_id
from strive.errors import DeletedError, NotUploadedError
from strive.trackers.cell_files import CellFiles, step_name
from strive.trackers.client import PREEMPTED, Client, OpenRun, Target
from strive.trackers.naming import Label, Plans, label_of, summary_of
from strive.trackers.upload_state import UploadState, checksum, read_upload_state, sha256, write_upload_state

LOCK = ".showing"  # folder, in the cell's, of the claim of the process that shows it on W&B
LEASE_SECONDS = 20.0  # without a heartbeat for so long it counts as dead
_PROJECT = "strive"
_TAKEN = 4  # W&B runs of one cell that somebody may have deleted, or filled with other numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetOverrides:
    """Where things shall go on W&B, as the command line says; "" leaves it to each cell's own config."""

    entity: str = ""
    project: str = ""

    def target(self, entity: str, project: str, before: UploadState | None = None) -> Target:
        """Return where a cell with these in its config goes; where nothing says so, it stays where it was before."""
        default = before or Target(
            entity=os.environ.get("WANDB_ENTITY", ""), project=os.environ.get("WANDB_PROJECT") or _PROJECT
        )
        return Target(
            entity=self.entity or entity or default.entity, project=self.project or project or default.project
        )


class CellUpload:
    """One cell on its way to W&B."""

    def __init__(self, folder: Path, client: Client, plans: Plans, overrides: TargetOverrides) -> None:
        self.folder, self._client, self._plans, self._overrides = folder, client, plans, overrides
        self.url = ""
        self.fence = ""  # token of a dead process's claim on showing the cell
        self._run: OpenRun | None = None
        self._claim: Claim | None = None
        self._state: UploadState | None = None
        self._sent = 0  # epochs that were handed to the client

    @property
    def open(self) -> bool:
        """Whether a W&B run is open here."""
        return self._run is not None

    def is_whole(self, files: CellFiles) -> bool:
        """Return whether no process trains the cell and W&B has all of it."""
        state = self._before(files)
        if state is None or files.owner is not None:
            return False
        self.url = state.url
        label = label_of(files, self._plans, group=state.group)
        return (
            state.sha256 == _content(files)
            and state.group == label.group
            and set(label.tags) <= set(state.tags)
            and state.weights >= _wants_weights(files)
            and state.images >= bool(_pictures(files))
        )

    def catch_up(self, files: CellFiles) -> None:
        """Send the epochs that W&B does not have yet; opens the W&B run where it is not open.

        Raises LeasedError while another process shows the cell, NotUploadedError if W&B does not take it.
        """
        state = self._state
        if self._run is not None and state is not None and state.contradicts(files.epochs):
            self.abandon()  # it is trained again, with other numbers
        if self._run is None:
            self._open(files)
        assert self._run is not None
        for row in files.rows(self._sent):
            self._run.log(row)
        if len(files.epochs) > self._sent:
            self._run.summarise(summary_of(files))
            self._sent = len(files.epochs)
            self._note(epochs=[checksum(line) for line in files.epochs])

    def close(self, files: CellFiles) -> None:
        """Send how the cell stands, and end the W&B run; the upload state says what the server has confirmed.

        Raises NotUploadedError if not all of it has arrived.
        """
        assert self._run is not None
        run, record = self._run, files.record
        summary = summary_of(files)
        run.summarise(summary)
        pictures = [] if self._state is None or self._state.images else _pictures(files)
        if pictures:
            run.log_images(pictures)
        weights = _wants_weights(files) and not (self._state and self._state.weights)
        if weights:
            run.add_weights(files.folder / "weights.pt", files.cell)
        if (log := self.folder / "log.txt").exists():
            run.add_file(log)
        try:
            run.close(exit_code=_exit_code(files), preempted=_preempted(files))
            # The client reports success, too, where the server has refused the rows: only the server knows.
            if record is not None and not self._client.has(run.target, run.id, {"record": files.record_text}):
                raise NotUploadedError("W&B took the cell, but does not show its record yet; the next sync looks again")
            self._note(sha256=_content(files))
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

    def _open(self, files: CellFiles) -> None:
        before = self._before(files)
        label = label_of(files, self._plans, group=before.group if before else "")
        lock = self.folder / LOCK
        lock.mkdir(exist_ok=True)
        self._claim = take_claim(lock, LEASE_SECONDS, fence=self.fence).__enter__()
        try:
            self._run = self._opened(files, label, before)
        except BaseException:
            self._forget()
            raise
        self.url = self._run.url
        # A row is an epoch, and after the last one pictures. Disk may have fewer: those since the last checkpoint
        # are trained again. Into a W&B run of its own the app writes the rows.
        self._sent = len(files.epochs) if files.wandb_run is not None else self._run.rows
        same = before is not None and before.id == self._run.id
        self._state = UploadState(
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

    def _opened(self, files: CellFiles, label: Label, before: UploadState | None) -> OpenRun:
        if files.wandb_run is not None:
            return self._opened_own(files.wandb_run, files, label)
        run = _run_id(files, before)
        for _ in range(_TAKEN):
            known = before is not None and before.id == run
            try:
                opened = self._opened_as(run, files, label, before, named=known)
            except DeletedError:
                run = next_id(files.cell, run)
                continue
            if known or not opened.contradicts(files.rows(0)):
                return opened
            # Somebody else's training of this cell, or one whose upload state is lost.
            opened.close(exit_code=0)
            run = next_id(files.cell, run)
        raise NotUploadedError(f"its W&B runs up to {run} were deleted, or have other numbers")

    def _opened_as(
        self, run: str, files: CellFiles, label: Label, before: UploadState | None, *, named: bool
    ) -> OpenRun:
        config = files.config
        target = self._overrides.target(config.get("tracker.entity", ""), config.get("tracker.project", ""), before)
        owner = files.owner
        return OpenRun(
            target,
            run,
            name=None if named else label.name,
            group=label.group,
            job_type="train",
            tags=label.tags,
            config=label.config,
            step=step_name(),
            trainer=owner.pid if owner is not None and owner.is_here() else None,
            weights=bool(config.get("tracker.weights")),
        )

    def _opened_own(self, own: WandbRun, files: CellFiles, label: Label) -> OpenRun:
        """Open the W&B run that the app has begun itself, to add how the cell ended."""
        try:
            return OpenRun(
                Target(entity=own.entity, project=own.project),
                own.id,
                name=None,
                group="",
                job_type=None,
                tags=label.tags,
                config={"sweep": label.group, "cell": label.config["cell"]},
                step=None,
            )
        except DeletedError as error:
            raise NotUploadedError(str(error)) from None

    def _before(self, files: CellFiles) -> UploadState | None:
        """Return the upload state of the place where the cell goes, None if there is none."""
        state = read_upload_state(self.folder)
        if state is None or state.server != self._client.server or _agents_id() not in ("", state.id):
            return None
        if (own := files.wandb_run) is not None:
            return state if (state.entity, state.project, state.id) == (own.entity, own.project, own.id) else None
        config = files.config
        target = self._overrides.target(config.get("tracker.entity", ""), config.get("tracker.project", ""), state)
        place = (target.entity or self._client.entity, target.project)
        return state if (state.entity, state.project) == place else None

    def _note(self, *, epochs: list[str] | None = None, **changes: object) -> None:
        assert self._state is not None
        if epochs is not None:
            # Those since the last checkpoint may come again, and must then be the same.
            changes["epochs"] = epochs + self._state.epochs[len(epochs) :]
        self._state = dataclasses.replace(self._state, **changes)  # type: ignore[arg-type]
        write_upload_state(self.folder, self._state)

    def _forget(self) -> None:
        if self._claim is not None:
            self._claim.release()
            with suppress(OSError):  # another process may have it by now
                (self.folder / LOCK).rmdir()
        self._run = self._claim = self._state = None
        self._sent = 0


def _run_id(files: CellFiles, before: UploadState | None) -> str:
    """Return the id of the cell's W&B run: the cell's own, or the next one where W&B has other numbers of it."""
    if assigned := _agents_id():
        return assigned
    if before is None:
        return files.cell
    if not before.contradicts(files.epochs):
        return before.id
    return next_id(files.cell, before.id)


def _agents_id() -> str:
    """Return the id that `wandb agent` has given this process's one cell; "" without an agent."""
    return os.environ.get("WANDB_RUN_ID", "") if os.environ.get("WANDB_SWEEP_ID") else ""


def _content(files: CellFiles) -> str:
    """Return a hash of what there is to upload: the record, or the epochs of a cell that has not ended."""
    return sha256(files.record_text if files.record is not None else "\n".join(files.epochs))


def _exit_code(files: CellFiles) -> int:
    if files.record is None or _preempted(files):
        return PREEMPTED
    return 0 if files.record.status.finished else 1


def _preempted(files: CellFiles) -> bool:
    return files.record is None or files.record.status is Status.preempted


def _has_result(files: CellFiles) -> bool:
    return files.record is not None and files.record.status.finished


def _wants_weights(files: CellFiles) -> bool:
    return bool(files.config.get("tracker.weights")) and _has_result(files) and (files.folder / "weights.pt").exists()


def _pictures(files: CellFiles) -> list[Path]:
    # At the end alone: after a row of pictures there are no more epochs.
    if not files.config.get("tracker.images") or not _has_result(files):
        return []
    return [path for name in ("inputs.png", "mistakes.png") if (path := files.folder / name).exists()]


def upload_plan(folder: Path, client: Client, target: Target) -> str:
    """Bring W&B's copy of a plan up to date, so that tables made from W&B know what is missing; return its URL.

    Raises NotUploadedError, OSError.
    """
    path = folder / "plan.json"
    text = path.read_text(encoding="utf-8")
    before = read_upload_state(folder)
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
    write_upload_state(
        folder,
        UploadState(
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
