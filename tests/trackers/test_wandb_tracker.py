"""The uploads of one cell, with a stand-in for the server and its W&B runs; test_sync.py has the genuine client."""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import ROOT

from strive.cells.lease import Owner
from strive.cells.records import Status
from strive.trackers import cell_upload, wandb_tracker
from strive.trackers.cell_files import CellFiles, read_cell_files
from strive.trackers.client import PREEMPTED, Target
from strive.trackers.tracker import Shown
from strive.trackers.upload_state import UploadState
from strive.trackers.wandb_tracker import WandbTracker, target_of

RECORD = next(iter(sorted(ROOT.glob("results/table3_small/*/record.json"))))
OWNER = Owner(
    token="t", host="h", boot="", pid=1, pid_started="", job="", restart=0, lease_seconds=60.0, since="2026-11-30"
)


@dataclass
class Page:
    """What the server has of a W&B run."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    tags: tuple[str, ...] = ()
    ended: tuple[int, bool] | None = None  # exit code, and whether it was preempted


class Run:
    """Stands for wandb's Run."""

    def __init__(self, page: Page, target: Target, name: str, folder: Path) -> None:
        self.page, self.id, self.url, self.starting_step = page, name, f"http://w/{name}", len(page.history)
        self.entity, self.project = target.entity or "me", target.project
        self.log, self.summary, self.dir = page.history.append, page.summary, str(folder / "client" / "files")
        self._preempting, self.tags = False, page.tags

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "tags":
            self.page.tags = value

    def save(self, path: str, **options: object) -> None:
        self.page.files.append(Path(path).name)

    def mark_preempting(self) -> None:
        self._preempting = True

    def finish(self, exit_code: int) -> None:
        self.page.ended = (exit_code, self._preempting)


class Server:
    """Stands for a Client, and for what it talks to."""

    server, entity = "http://w", "me"

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, Page] = {}
        self._folder = folder

    def open(self, target: Target, run: str, **label: object) -> Run:
        return Run(self.pages.setdefault(run, Page()), target, run, self._folder)

    def confirm(self, run: Run, summary: dict[str, str]) -> None:
        assert summary.items() <= run.page.summary.items()

    def check(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    mine = Server(tmp_path)
    monkeypatch.setattr(cell_upload, "open_run", mine.open)
    monkeypatch.setattr(wandb_tracker, "Client", lambda: mine)
    monkeypatch.setattr(cell_upload, "log_weights", lambda run, path, name: run.save(str(path)))
    for name in ("WANDB_ENTITY", "WANDB_PROJECT", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return mine


@pytest.fixture
def files(tmp_path: Path) -> CellFiles:
    """A finished cell."""
    folder = tmp_path / RECORD.parent.name
    shutil.copytree(RECORD.parent, folder)
    found = read_cell_files(folder)
    assert found is not None
    return found


def begun(files: CellFiles, epochs: int) -> CellFiles:
    """The same cell in training, after so many epochs."""
    return dataclasses.replace(files, epochs=files.epochs[:epochs], record=None, record_text="", owner=OWNER)


def with_losses(files: CellFiles, losses: dict[int, float]) -> CellFiles:
    """The cell with other losses in some epochs, by their place."""
    lines = list(files.epochs)
    for place, loss in losses.items():
        lines[place] = json.dumps(json.loads(lines[place]) | {"train_loss": loss})
    return dataclasses.replace(files, epochs=lines)


def test_each_epoch_goes_up_once_in_however_many_looks_and_processes(server: Server, files: CellFiles):
    first, second = WandbTracker(), WandbTracker()
    for count in (2, 2, 3):
        first.show(begun(files, count), last=False)
    first.close()
    for count in (3, 5):
        second.show(begun(files, count), last=False)
    assert server.pages[files.cell].history == files.rows(0)[:5]


def test_each_training_with_other_numbers_gets_a_page_of_its_own(server: Server, files: CellFiles):
    losses = (3.0, 2.0, 1.0)
    for loss in losses:
        now = with_losses(files, dict.fromkeys(range(len(files.epochs)), loss))
        assert WandbTracker().show(dataclasses.replace(now, record_text=f"{loss}"), last=False) is Shown.whole
    assert list(server.pages) == [files.cell, f"{files.cell}-2", f"{files.cell}-3"]
    assert [page.history[-1]["train_loss"] for page in server.pages.values()] == list(losses)


def test_a_training_that_begins_with_another_number_is_seen_in_its_first_epoch(server: Server, files: CellFiles):
    tracker = WandbTracker()
    tracker.show(begun(files, 4), last=False)
    tracker.show(with_losses(begun(files, 1), {0: 3.0}), last=False)
    assert {name: len(page.history) for name, page in server.pages.items()} == {files.cell: 4, f"{files.cell}-2": 1}


def test_one_that_differs_after_its_checkpoint_is_seen_as_soon_as_it_has_as_many_epochs(
    server: Server, files: CellFiles
):
    WandbTracker().show(begun(files, 4), last=True)
    tracker = WandbTracker()
    for count in (2, 3, 4, 5):  # its first two epochs are the same
        now = begun(with_losses(files, {2: 3.0}), count)
        tracker.show(now, last=False)
    assert {name: len(page.history) for name, page in server.pages.items()} == {files.cell: 4, f"{files.cell}-2": 5}
    assert server.pages[files.cell].history == files.rows(0)[:4]


def test_a_cell_is_whole_when_its_record_is_there_and_no_longer_when_it_has_another(server: Server, files: CellFiles):
    tracker = WandbTracker()
    assert tracker.show(begun(files, 3), last=False) is Shown.partly
    assert tracker.show(files, last=False) is Shown.whole
    assert WandbTracker().show(files, last=False) is Shown.already
    other = dataclasses.replace(files, record_text=files.record_text + " ")
    assert WandbTracker().show(other, last=False) is Shown.whole


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        (Status.done, (0, False)),
        (Status.diverged, (0, False)),
        (Status.error, (1, False)),
        (Status.out_of_memory, (1, False)),
        (Status.preempted, (PREEMPTED, True)),
        (None, (PREEMPTED, True)),
    ],
)
def test_a_page_ends_as_its_cell_did(server: Server, files: CellFiles, status: Status | None, ended: tuple[int, bool]):
    assert files.record is not None
    now = dataclasses.replace(files, record=msgspec.structs.replace(files.record, status=status)) if status else None
    WandbTracker().show(now or begun(files, 3), last=True)
    assert server.pages[files.cell].ended == ended


def test_a_cell_that_diverges_while_it_is_shown_gets_its_tag_and_loses_it_with_a_result(
    server: Server, files: CellFiles
):
    assert files.record is not None
    diverged = dataclasses.replace(files, record=msgspec.structs.replace(files.record, status=Status.diverged))
    server.pages[files.cell] = Page(tags=("theirs",))
    tracker, tags = WandbTracker(), []
    for now in (begun(files, 3), diverged, files):
        tracker.show(now, last=False)
        tags.append([each for each in server.pages[files.cell].tags if each == "theirs" or "status" in each])
    assert tags == [["theirs"], ["theirs", "status:diverged"], ["theirs"]]
    assert WandbTracker().show(files, last=False) is Shown.already


def test_weights_go_up_once_and_only_of_a_finished_cell(server: Server, files: CellFiles):
    (files.folder / "weights.pt").touch()
    asked = dataclasses.replace(files, config=files.config | {"tracker.weights": True})
    again = dataclasses.replace(asked, record_text=files.record_text + " ")
    counts = []
    for now in (begun(asked, 3), files, asked, asked, again):
        WandbTracker().show(now, last=True)
        counts.append(server.pages[files.cell].files.count("weights.pt"))
    assert counts == [0, 0, 1, 1, 1]


def test_a_stopped_cell_waits_for_who_goes_on_with_it_and_goes_up_as_it_is_at_last(server: Server, files: CellFiles):
    stopped = dataclasses.replace(begun(files, 3), owner=None)
    tracker = WandbTracker()
    assert tracker.show(stopped, last=False) is Shown.nothing
    assert not server.pages
    assert tracker.show(stopped, last=True) is Shown.partly
    assert len(server.pages[files.cell].history) == 3


def test_the_command_line_goes_before_the_cell_and_the_cell_before_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_ENTITY", "theirs")
    monkeypatch.setenv("WANDB_PROJECT", "environment")
    cell = {"tracker.entity": "cells", "tracker.project": "cell"}
    before = UploadState(server="", entity="then", project="there", id="", url="")
    assert target_of({"tracker.project": "cell"}, None, project="line") == Target(entity="theirs", project="line")
    assert target_of(cell, before, entity="mine") == Target(entity="mine", project="cell")
    assert target_of({}, before) == Target(entity="then", project="there")
    assert target_of({}, None) == Target(entity="theirs", project="environment")
