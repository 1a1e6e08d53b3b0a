"""Tracker `wandb`: each cell is one W&B run, with each epoch once; each sweep's plan and table are another."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from strive.cells.lease import LeaseMonitor
from strive.cells.wandb_run import WandbRun
from strive.errors import LeasedError, ServiceGoneError
from strive.sweeps.plan import StoredPlan, runs_folder
from strive.trackers.cell_files import CellFiles
from strive.trackers.cell_upload import LEASE_SECONDS, LOCK, CellUpload, agents_id, content_of
from strive.trackers.client import Client, Target, client_errors, finish, forget_helper, log_table, open_run, state_of
from strive.trackers.naming import label_of
from strive.trackers.sweep_table import table_of_plan
from strive.trackers.tracker import CellTracker, Shown
from strive.trackers.upload_state import UploadState, read_upload_state, write_upload_state

_PROJECT = "strive"


class WandbTracker(CellTracker):
    """Cells on W&B."""

    def __init__(self, *, entity: str = "", project: str = "") -> None:
        """entity, project: where all cells go; "" leaves it to each cell's own config. Raises ServerError."""
        self._entity, self._project = entity, project
        self._client = Client()
        self._open: dict[Path, CellUpload] = {}
        self._leases, self._leased = LeaseMonitor(), dict[Path, float]()  # when another process was first seen

    def show(self, files: CellFiles, *, last: bool) -> Shown:
        """Send what W&B does not have. Raises ServerError, NotUploadedError."""
        folder = files.cell_folder
        try:
            return self._with_helper(lambda: self._show(files, folder, last=last))
        except LeasedError as error:
            # It is looked at again until it is free, at the end until its owner is known to live.
            waited = time.monotonic() - self._leased.setdefault(folder, time.monotonic())
            lives = error.owner.is_here() or waited > LEASE_SECONDS + 1
            return Shown.elsewhere if last and lives else Shown.waiting
        except Exception:
            if (upload := self._open.pop(folder, None)) is not None:
                upload.leave()
            self._client.check()  # raises ServerError where this is no matter of the one cell
            raise

    def show_plan(self, folder: Path, *, last: bool) -> Shown:
        """Send a plan, so that tables made from W&B know what is missing, and at last the sweep's table."""
        return self._with_helper(lambda: self._show_plan(folder, last=last))

    def close(self) -> None:
        """End every W&B run that is open."""
        for upload in self._open.values():
            upload.leave()
        self._open.clear()

    def _with_helper(self, show: Callable[[], Shown]) -> Shown:
        """Show something, once more where W&B's helper process has ended, as it does on SLURM's SIGTERM to a job."""
        try:
            with client_errors():
                return show()
        except ServiceGoneError:
            for upload in self._open.values():
                upload.release()
            self._open.clear()
            with client_errors():
                forget_helper()
                self._client = Client()
                return show()

    def _show(self, files: CellFiles, folder: Path, *, last: bool) -> Shown:
        if files.is_offline:
            return Shown.nothing  # `wandb sync` uploads it
        upload = self._open.get(folder)
        before, target = self._place(folder, files.config, files.wandb_run)
        label = label_of(files, folder.parent, group=before.group if before else "")
        if upload is None:
            if files.owner is None and before is not None and before.content == content_of(files, label):
                return Shown.already if last or files.record else Shown.nothing
            if not last and (files.state == "stopped" or (files.is_replacing and not files.epochs)):
                return Shown.nothing  # someone is about to go on with it, or to train other numbers
            fence = self._leases.fence(folder / LOCK) or ""
            upload = self._open[folder] = CellUpload(files, label, target, before, self._client, fence)
        upload.catch_up(files)
        if last or files.owner is None:
            del self._open[folder]
            upload.close(files, label)
        return Shown.whole if files.record is not None else Shown.partly

    def _show_plan(self, folder: Path, *, last: bool) -> Shown:
        try:
            plan = (folder / "plan.json").read_bytes()
        except FileNotFoundError:
            return Shown.nothing  # it was deleted, and with it what there was to show
        stored = StoredPlan.read(folder)
        before, target = self._place(folder, stored.common)
        hashes = [sha256(plan).hexdigest(), *([_records_hash(stored, runs_folder(folder))] if last else [])]
        if before is not None and before.content.split(" ")[: len(hashes)] == hashes:
            return Shown.already
        table = table_of_plan(folder) if last else None
        run = open_run(
            target,
            f"plan-{folder.name}",
            name=f"{folder.name}: plan and table",
            group=folder.name,
            job_type="plan",
            config={"sweep": folder.name},
            notes=table.answer if table else None,
        )
        confirmed = {"plan_sha256": hashes[0]} | ({"answer": table.answer} if table else {})
        try:
            run.save(str(folder / "plan.json"), base_path=str(folder), policy="now")
            run.summary.update(confirmed)
            if table is not None:
                log_table(run, table.columns, table.rows)
        finally:
            finish(run)
        self._client.confirm(run, confirmed)
        write_upload_state(folder, state_of(run, self._client, folder.name, content=" ".join(hashes)))
        return Shown.whole

    def _place(
        self, folder: Path, config: Mapping[str, Any], own: WandbRun | None = None
    ) -> tuple[UploadState | None, Target]:
        """Return what is known to be on W&B of a cell or plan where it goes, and where that is.

        own: the W&B run that the app has begun itself.
        """
        state = read_upload_state(folder)
        if state is not None and (state.server != self._client.server or agents_id() not in ("", state.id)):
            state = None
        if own is not None:
            return state if state and state.id == own.id else None, Target(entity=own.entity, project=own.project)
        target = target_of(config, state, entity=self._entity, project=self._project)
        there = (target.entity or self._client.entity, target.project)
        return state if state and (state.entity, state.project) == there else None, target


def target_of(config: Mapping[str, Any], before: UploadState | None, *, entity: str = "", project: str = "") -> Target:
    """Return where a cell or plan goes: as the command line says, its config, or the environment.

    before: where it was; it stays there where neither line nor config says otherwise.
    """
    first = (
        (before.entity, before.project) if before else (os.environ.get("WANDB_ENTITY"), os.environ.get("WANDB_PROJECT"))
    )
    return Target(
        entity=entity or str(config.get("tracker.entity") or "") or first[0] or "",
        project=project or str(config.get("tracker.project") or "") or first[1] or _PROJECT,
    )


def _records_hash(plan: StoredPlan, runs: Path) -> str:
    """Return a hash of what a sweep's table is made of besides its plan."""
    found = sha256()
    for cell in plan.cells:
        with suppress(OSError):
            found.update((runs / cell.cell / "record.json").read_bytes())
    return found.hexdigest()
