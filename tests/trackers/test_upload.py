"""What goes up of a cell, with a stand-in for the server and its W&B runs; test_sync.py has the genuine client."""

import dataclasses
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import ROOT

from strive.cells.records import Status
from strive.trackers import upload
from strive.trackers.cell_files import CellFiles, read_cell_files
from strive.trackers.client import PREEMPTED, Target
from strive.trackers.naming import Plans
from strive.trackers.upload import CellUpload, TargetOverrides

RECORD = next(iter(sorted(ROOT.glob("results/table3_small/*/record.json"))))


@dataclass
class Page:
    """What the server has of a W&B run."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    ended: tuple[int, bool] | None = None  # exit code, and whether it was preempted


class Run:
    """Stands for an OpenRun."""

    def __init__(self, page: Page, target: Target, name: str) -> None:
        self._page, self.id, self.url, self.rows = page, name, f"http://w/{name}", len(page.history)
        self.target = Target(entity=target.entity or "me", project=target.project)
        self.log, self.summarise = page.history.append, page.summary.update

    def contradicts(self, rows: Iterable[dict[str, Any]]) -> bool:
        return any(mine != theirs for mine, theirs in zip(rows, self._page.history, strict=False))

    def add_file(self, path: Path) -> None:
        self._page.files.append(path.name)

    def add_weights(self, path: Path, name: str) -> None:
        self._page.files.append(path.name)

    def close(self, *, exit_code: int, preempted: bool = False) -> None:
        self._page.ended = (exit_code, preempted)


class Server:
    """Stands for a Client, and for what it talks to."""

    server, entity = "http://w", "me"

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}

    def open(self, target: Target, run: str, **label: object) -> Run:
        return Run(self.pages.setdefault(run, Page()), target, run)

    def has(self, target: Target, run: str, summary: dict[str, str]) -> bool:
        return summary.items() <= self.pages[run].summary.items()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    mine = Server()
    monkeypatch.setattr(upload, "OpenRun", mine.open)
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


def upload_of(files: CellFiles, server: Server) -> CellUpload:
    return CellUpload(files.folder, server, Plans(files.folder.parent), TargetOverrides())  # type: ignore[arg-type]


def begun(files: CellFiles, epochs: int) -> CellFiles:
    """The same cell after so many epochs."""
    return dataclasses.replace(files, epochs=files.epochs[:epochs], record=None, record_text="")


def test_each_epoch_goes_up_once_in_however_many_looks_and_processes(server: Server, files: CellFiles):
    first, second = upload_of(files, server), upload_of(files, server)
    for count in (2, 2, 3):
        first.catch_up(begun(files, count))
    first.drop()
    for count in (3, 5):
        second.catch_up(begun(files, count))
    assert server.pages[files.cell].history == files.rows(0)[:5]


def test_each_training_with_other_numbers_gets_a_page_of_its_own(server: Server, files: CellFiles):
    losses = (3.0, 2.0, 1.0)
    for loss in losses:
        lines = [json.dumps(json.loads(line) | {"train_loss": loss}) for line in files.epochs]
        now = dataclasses.replace(files, epochs=lines)
        going_up = upload_of(now, server)
        assert not going_up.is_whole(dataclasses.replace(now, record=None))
        going_up.catch_up(now)
        going_up.close(now)
    assert list(server.pages) == [files.cell, f"{files.cell}-2", f"{files.cell}-3"]
    assert [page.history[-1]["train_loss"] for page in server.pages.values()] == list(losses)


def test_a_cell_is_whole_when_its_record_is_there_and_no_longer_when_it_has_another(server: Server, files: CellFiles):
    going_up = upload_of(files, server)
    assert not going_up.is_whole(files)
    going_up.catch_up(files)
    assert not upload_of(files, server).is_whole(files)  # its epochs are, its record is not
    going_up.close(files)
    assert upload_of(files, server).is_whole(files)
    assert not upload_of(files, server).is_whole(dataclasses.replace(files, record_text=files.record_text + " "))


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
    going_up = upload_of(files, server)
    going_up.catch_up(now or begun(files, 3))
    going_up.close(now or begun(files, 3))
    assert server.pages[files.cell].ended == ended


def test_weights_go_up_once_and_only_of_a_finished_cell(server: Server, files: CellFiles):
    (files.folder / "weights.pt").touch()
    asked = dataclasses.replace(files, config=files.config | {"tracker.weights": True})
    counts = []
    for now in (begun(asked, 3), files, asked, asked):
        going_up = upload_of(now, server)
        going_up.catch_up(now)
        going_up.close(now)
        counts.append(server.pages[files.cell].files.count("weights.pt"))
    assert counts == [0, 0, 1, 1]


def test_the_command_line_goes_before_the_cell_and_the_cell_before_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_ENTITY", "theirs")
    monkeypatch.setenv("WANDB_PROJECT", "environment")
    assert TargetOverrides(project="line").target("", "cell") == Target(entity="theirs", project="line")
    assert TargetOverrides(entity="mine").target("cells", "cell") == Target(entity="mine", project="cell")
    assert TargetOverrides().target("", "") == Target(entity="theirs", project="environment")
