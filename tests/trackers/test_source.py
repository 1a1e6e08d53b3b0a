"""`--source` with the genuine client, against the peer: most of what that holds was put there by hand."""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import make_figures
import make_report
import make_tables
import pytest
import wandb
from golden import Golden
from support import ROOT
from wandb.apis.public import Run
from wandb_peer import Peer, PeerRun

from allcnn.result import history_line
from allcnn.training import EpochLine
from strive.cells.ledger import LEDGER
from strive.cli.main import guarded
from strive.errors import LoadError
from strive.results import load
from strive.trackers import local_copy, server
from strive.trackers.source import open_source
from strive.trackers.wandb_records import history_lines

SOURCE = "wandb:me/paper"


@pytest.fixture(autouse=True)
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """A server of this test's own, to which the client is led, and nobody's settings."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STRIVE_CACHE", str(tmp_path / "cache"))  # a peer may have the port of an earlier one
    monkeypatch.chdir(tmp_path)
    # How patient the client is does not matter here, and is seconds.
    for name in ("x_graphql_retry_max", "x_file_transfer_retry_max"):
        monkeypatch.setitem(server._LIMITS, name, 1)
    with Peer() as mine:
        for name, value in mine.environ.items():
            monkeypatch.setenv(name, value)
        yield mine


@pytest.fixture
def fresh() -> Iterator[None]:
    """A client that remembers no key and no server of another test."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def uploaded(peer: Peer, id: str, job_type: str = "train", **fields: Any) -> PeerRun:
    """Put a W&B run into the project."""
    name = fields.pop("project", "paper")
    number = len(peer.store.runs)
    run = PeerRun(id, "me", name, number, job_type=job_type, **{"state": "finished"} | fields)
    run.created += timedelta(seconds=number)
    run.heartbeat = run.created
    peer.store.runs[("me", name, id)] = run
    peer.store.projects.add(("me", name))
    return run


def upload_cell(peer: Peer, folder: Path, **fields: Any) -> PeerRun:
    """Put a cell into the project as training would: rows without nulls, the record's text in the summary."""
    rows = [json.loads(line) for line in _lines(folder / "history.jsonl")]
    history = [
        {"epoch" if key == "step" else key: value for key, value in row.items() if value is not None} | {"_step": step}
        for step, row in enumerate(rows)
    ]
    summary = {"status": "done", "record": (folder / "record.json").read_bytes().decode()}
    fields = {"group": "golden", "history": history, "summary": summary} | fields
    return uploaded(peer, fields.pop("id", folder.name), **fields)


def upload_plan(peer: Peer, folder: Path) -> PeerRun:
    content = (folder / "plan.json").read_bytes()
    summary = {"plan_sha256": hashlib.sha256(content).hexdigest()}
    files = {"plan.json": content}
    return uploaded(peer, f"plan-{folder.name}", "plan", group=folder.name, files=files, summary=summary)


def upload(peer: Peer, runs: Path) -> None:
    for path in sorted(runs.glob("*/record.json")):
        upload_cell(peer, path.parent)
    for path in sorted(runs.glob("sweeps/*")):
        upload_plan(peer, path)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def epochs(count: int, first: float = 0.9) -> list[dict[str, Any]]:
    """Return lines whose numbers are hard to carry: whole ones, long ones, tiny ones, none."""
    numbers = [
        {
            "step": epoch,
            "lr": 1.0 if epoch == 1 else 0.1 / (2 + epoch),
            "train_loss": None if epoch == 2 else 5e-324 * epoch,
            "train_error": first / epoch,
            "val_loss": 0.1 + 0.2,
            "val_error": 0.0,
        }
        for epoch in range(1, count + 1)
    ]
    return numbers


def steps(path: Path) -> list[dict[str, Any]]:
    """Return the numbers of a history; what is null in all of it is not on W&B."""
    rows = [json.loads(line) for line in _lines(path)]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def varied(runs: Path) -> Path:
    """A sweep with every fate that a cell can have."""
    sweep = Golden(runs, question="Ist 1 € ≥ \U0001f600?")
    for seed in range(3):
        sweep.cell({"model.variant": "base", "seed": seed}, 10.0 + seed, epochs=epochs(3), val_error=11.0)
        sweep.cell({"model.variant": "strided", "seed": seed}, 12.0 + seed / 7, epochs=epochs(3, 0.8), val_error=11.0)
    sweep.cell({"model.variant": "convpool", "seed": 0}, 90.0, status="diverged", epochs=epochs(2))
    sweep.cell({"model.variant": "convpool", "seed": 1}, cause="kein Speicher für \U0001f600 \udce4", status="error")
    sweep.cell({"model.variant": "convpool", "seed": 2}, status="timeout")
    sweep.cell({"model.variant": "all_cnn", "seed": 0}, 9.0, parameters=123456, host="nöde")
    sweep.cell({"model.variant": "all_cnn", "seed": 1})
    sweep.cell({"model.variant": "all_cnn", "seed": 2})
    return sweep.write()


def one_cell(runs: Path, error: float = 10.0, **more: Any) -> Path:
    sweep = Golden(runs)
    folder = sweep.cell({}, error, **more)
    sweep.write()
    return folder


def tables(*arguments: str, out: str = "tables") -> dict[str, bytes]:
    """Return the files that make_tables writes."""
    assert guarded(make_tables.main, [*arguments, "--out", out]) == 0
    return {path.name: path.read_bytes() for path in Path(out).iterdir()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which make_tables ends with 2."""
    assert guarded(make_tables.main, list(arguments or ("--source", SOURCE))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert os.environ.get("WANDB_API_KEY", Peer.key) not in err
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def statuses(copy: Path) -> list[str]:
    return list(load.load_sweep("golden", [copy]).cells["status"])


# What comes back


def test_tables_are_those_of_the_folder_that_was_uploaded(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(peer, varied(runs))
    wanted, printed = tables("--runs", str(runs)), capsys.readouterr().out

    found = tables("--source", SOURCE, out="from")

    assert without_checks(capsys.readouterr().out) == without_checks(printed)
    assert found.keys() == wanted.keys()
    assert "golden.tex" in found
    for name in found.keys() - {"golden.cells.csv", "golden.csv"}:
        assert without_checks(found[name].decode()) == without_checks(wanted[name].decode()), name
    assert rows_of(found["golden.csv"]) == rows_of(wanted["golden.csv"])
    # Where a record lies is the only thing in which the lists of cells differ.
    lists = [rows_of(each["golden.cells.csv"]) for each in (found, wanted)]
    places = [[row.pop("record") for row in rows] for rows in lists]
    assert lists[0] == lists[1]
    assert [bool(place) for place in places[0]] == [bool(place) for place in places[1]]
    assert places[0] != places[1]


def without_checks(text: str) -> str:
    """Leave out what of W&B's copy had nothing to be compared with: it has no learning curve until one is drawn."""
    return re.sub(r"(- |% )Not checked: .*? (?:its record|their records)\. ", "", " ".join(text.split()))


def rows_of(content: bytes) -> list[dict[str, str]]:
    """Return the lines of a CSV file, without what of them was checked."""
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    return [{name: value for name, value in row.items() if name != "not_checked"} for row in rows]


def test_records_and_plans_come_back_byte_for_byte(peer: Peer, runs: Path) -> None:
    upload(peer, varied(runs))
    copy = open_source(SOURCE).folder
    files = ["sweeps/golden/plan.json", *(str(path.relative_to(runs)) for path in runs.glob("*/record.json"))]
    assert len(files) == 11
    for name in files:
        assert (copy / name).read_bytes() == (runs / name).read_bytes()
    assert statuses(copy) == statuses(runs)
    assert (
        load.load_sweep("golden", [copy])
        .cells["record_sha256"]
        .equals(load.load_sweep("golden", [runs]).cells["record_sha256"])
    )


def test_a_record_that_is_not_ascii_keeps_its_bytes(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs, status="error", cause="für \U0001f600")
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), ensure_ascii=False, indent=3))
    upload(peer, runs)
    assert (open_source(SOURCE).folder / folder.name / "record.json").read_bytes() == path.read_bytes()


def test_the_copy_is_a_runs_folder(peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upload(peer, varied(runs))
    found = tables("--source", SOURCE, out="from")
    copy = Path(capsys.readouterr().err.splitlines()[0].rpartition("copied to ")[2])
    assert tables("--runs", str(copy), out="copy") == found
    assert copy == Path(os.environ["STRIVE_CACHE"]) / "wandb" / f"127.0.0.1%3A{peer.url[17:]}" / "me" / "paper"
    assert guarded(make_tables.main, ["--source", SOURCE, "--check", "--out", "from"]) == 0
    assert "stale" not in capsys.readouterr().err


def test_a_cell_that_still_trains_is_missing_as_it_is_on_disk(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs)
    run = upload_cell(peer, folder, state="running", summary={"status": "training", "train_loss": 1.0})
    upload_plan(peer, runs / "sweeps/golden")
    assert statuses(open_source(SOURCE).folder) == ["missing"]
    run.summary["record"] = (folder / "record.json").read_text()
    assert statuses(open_source(SOURCE).folder) == ["done"]


def test_what_no_cell_has_written_is_not_looked_at(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs)
    upload_plan(peer, runs / "sweeps/golden")
    upload_cell(peer, folder, job_type="eval")
    upload_cell(peer, folder, project="other")
    uploaded(peer, "theirs", summary={"accuracy": 1.0}, history=[{"_step": 0}])
    copy = open_source(SOURCE).folder
    assert statuses(copy) == ["missing"]
    assert sorted(path.name for path in copy.iterdir()) == [".fetched", "sweeps"]


def test_a_project_without_an_entity_is_one_of_the_keys_own(
    peer: Peer, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_cell(runs)
    upload(peer, runs)
    folder = open_source("wandb:paper").folder
    assert folder == open_source("wandb:me/paper").folder
    peer.store.runs = {("team", *key[1:]): run for key, run in peer.store.runs.items()}
    peer.store.projects.add(("team", "paper"))
    for run in peer.store.runs.values():
        run.entity = "team"
    monkeypatch.setenv("WANDB_ENTITY", "team")
    assert open_source("wandb:paper").folder == folder.parent.parent / "team/paper"


@pytest.mark.usefixtures("fresh")
def test_what_the_genuine_client_logged_comes_back(peer: Peer, runs: Path, tmp_path: Path) -> None:
    lines = epochs(4)
    folder = one_cell(runs, epochs=lines)
    with wandb.init(
        project="paper", id=folder.name, group="golden", job_type="train", resume="allow", dir=str(tmp_path)
    ) as run:
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        for line in lines:
            numbers = {"epoch" if key == "step" else key: value for key, value in line.items()}
            run.log({key: value for key, value in numbers.items() if value is not None})
        run.log({"mistakes": {"_type": "a-picture"}})  # after the last epoch
        run.summary["record"] = (folder / "record.json").read_text()
    plan = runs / "sweeps/golden/plan.json"
    with wandb.init(project="paper", id="plan-golden", group="golden", job_type="plan", dir=str(tmp_path)) as run:
        run.save(str(plan), base_path=str(plan.parent), policy="now")
        run.summary["plan_sha256"] = hashlib.sha256(plan.read_bytes()).hexdigest()

    source = open_source(SOURCE)
    source.fetch_curves([folder.name])

    for name in ("sweeps/golden/plan.json", f"{folder.name}/record.json"):
        assert (source.folder / name).read_bytes() == (runs / name).read_bytes()
    assert steps(source.folder / folder.name / "history.jsonl") == steps(folder / "history.jsonl")


# Learning curves


def test_learning_curves_are_those_on_disk(peer: Peer, runs: Path) -> None:
    upload(peer, varied(runs))
    assert guarded(make_report.main, ["--source", SOURCE, "--out", "page.html"]) == 0
    copy = open_source(SOURCE).folder
    names = {path.parent.name for path in runs.glob("*/history.jsonl")}
    assert {path.parent.name for path in copy.glob("*/history.jsonl")} == names
    assert len(names) == 7
    for name in names:
        assert steps(copy / name / "history.jsonl") == steps(runs / name / "history.jsonl")
    assert guarded(make_report.main, ["--runs", str(copy), "--out", "copy.html"]) == 0
    assert Path("page.html").read_bytes() == Path("copy.html").read_bytes()


def test_figures_are_those_of_the_folder_that_was_uploaded(peer: Peer, runs: Path) -> None:
    sweep = Golden(runs)
    for seed in range(2):
        sweep.cell({"seed": seed}, 10.0 + seed, epochs=epochs(3))
    upload(peer, sweep.write())
    for out, where in (("own", ["--runs", str(runs)]), ("from", ["--source", SOURCE])):
        assert guarded(make_figures.main, [*where, "--out", out]) == 0
    names = sorted(path.name for path in Path("own").iterdir())
    assert "golden-curves.svg" in names
    for name in names:
        assert Path("from", name).read_bytes() == Path("own", name).read_bytes(), name


def test_a_line_is_what_training_wrote() -> None:
    line = EpochLine(epoch=2, lr=1.0, train_loss=float("nan"), train_error=1 / 3, val_loss=None, val_error=0.0)
    row = {"epoch": 2, "lr": 1, "train_loss": "NaN", "train_error": 1 / 3, "val_error": 0, "_step": 1, "_runtime": 3.5}
    (mine,), own = map(json.loads, history_lines([row])), json.loads(history_line(line))
    # What is null in all rows is not on W&B.
    assert mine == {name: value for name, value in own.items() if value is not None}


def test_rows_that_are_no_epochs_are_no_lines() -> None:
    whole = {"epoch": 1, "lr": 0.5, "train_error": 0.5}
    pictures = {"epoch": 1, "inputs": {"_type": "image-file"}}
    odd = [{}, {"epoch": None}, whole | {"epoch": -1}, whole | {"epoch": "2"}, whole | {"epoch": True}]
    assert history_lines([whole, pictures, *odd]) == history_lines([whole])
    assert len(history_lines([whole])) == 1


def test_of_an_epoch_that_was_logged_twice_the_later_row_counts() -> None:
    rows = [{"epoch": epoch, "lr": lr, "train_error": 0.5} for epoch, lr in ((1, 0.5), (2, 0.4), (2, 0.3), (3, 0.2))]
    assert [json.loads(line)["lr"] for line in history_lines(rows)] == [0.5, 0.3, 0.2]


def test_tables_ask_for_no_history(peer: Peer, runs: Path) -> None:
    upload(peer, varied(runs))
    tables("--source", SOURCE)
    assert not [name for name in peer.operations if "History" in name]


def test_only_the_curves_of_the_sweeps_asked_for_are_fetched(peer: Peer, runs: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        sweep = Golden(runs, file=name)
        sweep.cell({"seed": seed}, 10.0, epochs=epochs(2))
        sweep.write()
    upload(peer, runs)
    assert guarded(make_report.main, ["one", "--source", SOURCE, "--out", "page.html"]) == 0
    assert peer.operations["RunFullHistory"] == 1


def test_a_history_is_fetched_once_and_again_when_its_cell_was_trained_again(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs, epochs=epochs(3))
    upload(peer, runs)
    for _ in range(2):
        open_source(SOURCE).fetch_curves([folder.name])
    assert peer.operations["RunFullHistory"] == 1

    one_cell(runs, 9.0, epochs=epochs(3, 0.7))
    upload_cell(peer, folder)
    source = open_source(SOURCE)
    copied = source.folder / folder.name / "history.jsonl"
    assert not copied.exists()  # the curve of another training
    source.fetch_curves([folder.name])
    assert steps(copied) == steps(folder / "history.jsonl")


def test_a_history_with_a_gap_is_told_and_asked_for_again(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_cell(runs, epochs=epochs(3))
    upload(peer, runs)
    lost = peer.runs[folder.name].history.pop(1)
    source = open_source(SOURCE)
    source.fetch_curves([folder.name])
    assert f"W&B run {folder.name} has 2 of 3 epochs; strive sync --again" in capsys.readouterr().err
    assert len(_lines(source.folder / folder.name / "history.jsonl")) == 2

    peer.runs[folder.name].history.append(lost)
    source = open_source(SOURCE)
    source.fetch_curves([folder.name])
    assert steps(source.folder / folder.name / "history.jsonl") == steps(folder / "history.jsonl")


def test_a_failed_cells_history_is_fetched_again_when_it_grew(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs, status="timeout", epochs=epochs(2))
    upload(peer, runs)
    open_source(SOURCE).fetch_curves([folder.name])
    longer = epochs(3)
    one_cell(runs, status="timeout", epochs=longer)
    peer.runs[folder.name].history.append(
        {"epoch" if key == "step" else key: value for key, value in longer[2].items()} | {"_step": 2}
    )
    source = open_source(SOURCE)
    source.fetch_curves([folder.name])
    assert steps(source.folder / folder.name / "history.jsonl") == steps(folder / "history.jsonl")


def test_a_history_of_which_the_server_gives_a_sample_is_scanned(
    peer: Peer, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = one_cell(runs, epochs=epochs(7))
    upload(peer, runs)
    whole = Run.history
    monkeypatch.setattr(Run, "history", lambda self, **options: whole(self, **options)[::2])
    source = open_source(SOURCE)
    source.fetch_curves([folder.name])
    assert steps(source.folder / folder.name / "history.jsonl") == steps(folder / "history.jsonl")
    assert peer.operations["HistoryPage"] == 1


def test_a_history_of_more_rows_than_a_sample_has_comes_whole(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs, epochs=epochs(1234))
    upload(peer, runs)
    source = open_source(SOURCE)
    source.fetch_curves([folder.name])
    assert steps(source.folder / folder.name / "history.jsonl") == steps(folder / "history.jsonl")
    assert not peer.operations["HistoryPage"]


# The second time


def test_a_page_of_fifty_takes_one_request(peer: Peer, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    runs_of = wandb.Api.runs
    monkeypatch.setattr(wandb.Api, "runs", lambda self, path, **how: asked.append(how) or runs_of(self, path, **how))
    sweep = Golden(runs)
    for seed in range(120):
        sweep.cell({"seed": seed}, 10.0)
    upload(peer, sweep.write())
    peer.operations.clear()
    assert statuses(open_source(SOURCE).folder) == ["done"] * 120
    assert peer.operations["Runs"] == 3  # 120 cells and a plan
    assert peer.operations.total() <= 3 + 3  # who am I, and where is the plan
    assert asked[0]["lazy"] is False  # W&B would leave the summary out, and the peer does not


def test_what_has_not_changed_is_not_written_and_no_plan_asked_for(peer: Peer, runs: Path) -> None:
    upload(peer, varied(runs))
    copy = open_source(SOURCE).folder
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.json")}
    peer.operations.clear()
    open_source(SOURCE)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.json")} == before
    assert not peer.operations["RunFiles"]


def test_what_changed_on_wandb_changes_here(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs)
    upload(peer, runs)
    copy = open_source(SOURCE).folder
    sweep = Golden(runs)
    sweep.cell({}, 5.0)
    sweep.cell({"seed": 1})
    sweep.write()
    upload(peer, runs)
    open_source(SOURCE)
    for name in (f"{folder.name}/record.json", "sweeps/golden/plan.json"):
        assert (copy / name).read_bytes() == (runs / name).read_bytes()


def test_what_was_deleted_on_wandb_is_gone_here_and_what_was_looked_at_stays(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs, epochs=epochs(2))
    Golden(runs, file="other").write()
    upload(peer, runs)
    source = open_source(SOURCE)
    source.fetch_curves([folder.name])
    (source.folder / LEDGER).write_text("{}\n")
    api = wandb.Api()
    for name in (folder.name, "plan-other"):
        api.run(f"me/paper/{name}").delete()
    assert open_source(SOURCE).folder == source.folder
    assert sorted(str(path.relative_to(source.folder)) for path in source.folder.rglob("*")) == [
        ".fetched",
        LEDGER,
        "sweeps",
        "sweeps/golden",
        "sweeps/golden/plan.json",
    ]


def test_a_plan_that_changed_while_it_was_read_is_read_again(peer: Peer, runs: Path) -> None:
    one_cell(runs)
    upload(peer, runs)
    run = peer.runs["plan-golden"]
    whole, run.files["plan.json"] = run.files["plan.json"], b"{"  # the summary is ahead of the file
    copy = open_source(SOURCE).folder
    run.files["plan.json"] = whole
    open_source(SOURCE)
    assert (copy / "sweeps/golden/plan.json").read_bytes() == whole


# Two W&B runs of one cell or plan


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_records_of_a_cell_that_which_finished_last_counts(peer: Peer, runs: Path, order: int) -> None:
    folder = one_cell(runs)
    upload_plan(peer, runs / "sweeps/golden")
    texts = {}
    for name, day in (("-2", 21), ("", 20)):
        one_cell(runs, float(day), finished=f"2026-11-{day}T10:00:00+00:00")
        texts[folder.name + name] = (folder / "record.json").read_text()
    for name in list(texts)[::order]:
        upload_cell(peer, folder, id=name, summary={"record": texts[name]})
    cells = load.load_sweep("golden", [open_source(SOURCE).folder]).cells
    assert cells["test_error"].tolist() == [0.21]


def test_of_two_plans_with_a_name_that_which_changed_last_counts(peer: Peer, runs: Path) -> None:
    folder = one_cell(runs)
    upload(peer, runs)
    other = Golden(runs, question="What else?").write() / "sweeps/golden/plan.json"
    files = {"plan.json": other.read_bytes()}
    uploaded(peer, "plan-golden-2", "plan", group="golden", files=files)
    peer.runs["plan-golden"].heartbeat += timedelta(days=1)
    cells = load.load_sweep("golden", [open_source(SOURCE).folder]).cells["cell"]
    assert list(cells) == [folder.name]
    peer.runs["plan-golden-2"].heartbeat += timedelta(days=2)
    assert load.load_sweep("golden", [open_source(SOURCE).folder]).question == "What else?"


def test_a_damaged_record_does_not_displace_a_whole_one(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_cell(runs)
    upload(peer, runs)
    content = json.loads((folder / "record.json").read_bytes())
    content["provenance"]["finished"] = "2030-01-01T00:00:00+00:00"
    content["config"]["seed"] = 7
    upload_cell(peer, folder, id="forged", summary={"record": json.dumps(content)})
    assert statuses(open_source(SOURCE).folder) == ["done"]
    first, _ = capsys.readouterr().err.splitlines()
    assert first == f"left out: W&B run forged has a record of {folder.name} that cannot be read"


# What somebody has edited


def _edited(text: str, **changes: Any) -> str:
    return json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    ("edit", "cause"),
    [
        (lambda text: text[:-20], "not a whole JSON file"),
        (lambda text: "", "not a whole JSON file"),
        (lambda text: "\ud800", "not a whole JSON file"),
        (lambda text: "[" * 100_000, "recursion"),
        (lambda text: 12.5, "not a record"),
        (lambda text: ["a", None], "not a record"),
        (lambda text: {"_type": "table-file"}, "not a record"),
        (lambda text: _edited(text, schema=9), "schema 9, this version reads schemas 1 and 2"),
        (lambda text: _edited(text, status="splendid"), "must be one of"),
        (lambda text: _edited(text, status="error"), "does not fit its failure"),
        (lambda text: _edited(text, config={}), "its config belongs to a cell whose id ends in"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "its config belongs to a cell whose id ends in"),
    ],
)
def test_a_record_that_was_edited_is_unreadable_and_its_wandb_run_named(
    edit: Any, cause: str, peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_cell(runs)
    upload(peer, runs)
    summary = peer.runs[folder.name].summary
    summary["record"] = edit(summary["record"])
    assert statuses(open_source(SOURCE).folder) == ["unreadable"]
    first, _ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"W&B run {folder.name}: ")
    assert cause in first


def beside_caches(folder: Path) -> set[Path]:
    """Return what lies there but for the copy, and for what the first client of a process leaves in its home."""
    return {path for path in folder.rglob("*") if not {"cache", "home"} & {*path.relative_to(folder).parts}}


@pytest.mark.parametrize(
    "name", ["../evil", "..", ".", "/tmp/evil", "a/b", "a\\b", "", "sweeps", ".fetched", "a\0b", "\ud800", "x" * 300]
)
def test_nothing_is_written_elsewhere(
    name: str, peer: Peer, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_cell(runs)
    upload(peer, runs)
    text = (folder / "record.json").read_text()
    uploaded(peer, "evil", summary={"record": _edited(text, cell=name)})
    uploaded(peer, "plan-evil", "plan", group=name if name != "sweeps" else "..", files={"plan.json": b"{}"})
    before = beside_caches(tmp_path)

    copy = open_source(SOURCE).folder

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert re.fullmatch(r"left out: W&B run evil has a record of .*, which is no name of a cell", told[0])
    if name:  # a plan without a group has its name from its id
        assert re.fullmatch(r"left out: W&B run plan-evil has a plan of .*, which is no name of a sweep", told[1])
    assert beside_caches(tmp_path) == before
    assert sorted(path.name for path in copy.iterdir()) == sorted([".fetched", folder.name, "sweeps"])
    assert statuses(copy) == ["done"]


def test_a_damaged_plan_is_left_out_as_it_is_on_disk(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_cell(runs)
    Golden(runs, file="other").write()
    (runs / "sweeps/other/plan.json").write_text("{")
    upload(peer, runs)
    assert guarded(make_tables.main, ["--source", SOURCE]) == 1
    assert re.search(r"left out: .*/other/plan.json: not a plan of this version", capsys.readouterr().err)


def test_a_plan_whose_file_has_not_come_is_told(peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_cell(runs)
    upload(peer, runs)
    uploaded(peer, "plan-other", "plan", group="other")
    tables("--source", SOURCE)
    assert "left out: W&B run plan-other has no plan.json: strive sync" in capsys.readouterr().err


# What a user got wrong, and servers that fail


@pytest.mark.parametrize(
    "source", ["me/paper", "wandb:", "wandb:/paper", "wandb:me/", "wandb:a/b/c", "wandb:../x", "wandb:..", "csv:x", ""]
)
def test_a_source_that_is_none_is_answered_with_what_is_legal(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--source", source)
    assert said == f"--source {source}: must be wandb:ENTITY/PROJECT, or wandb:PROJECT for the key's own entity"


def test_a_source_and_folders_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--source", SOURCE, "--runs", "runs")
    assert said.startswith(f"--source {SOURCE} and --runs runs: give one of them; --source says where its copy lies")


@pytest.mark.usefixtures("fresh")
def test_without_a_key_it_is_said_how_to_get_one(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    assert re.fullmatch(
        r"no key for 127\.0\.0\.1:\d+: `wandb login` asks for one, or set WANDB_API_KEY", refused(capsys)
    )


def test_a_key_of_another_shape_is_told_from_no_key(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hunter-two")
    assert "no usable key for 127.0.0.1" in (said := refused(capsys))
    assert ": WANDB_API_KEY invalid: API key must have 40+ characters" in said


def test_a_wrong_key_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "wrong" * 8)
    assert re.fullmatch(r"127\.0\.0\.1:\d+ refuses the key: .*; `wandb login --relogin` asks for one", refused(capsys))


def test_an_unknown_project_is_answered_with_those_that_there_are(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("strive", "other"):
        uploaded(peer, f"run-{name}", project=name)
    said = refused(capsys)
    assert re.fullmatch(r"there is no project wandb:me/paper on 127\.0\.0\.1:\d+; me has other, strive", said)


def test_a_project_without_a_plan_is_answered_with_the_command_that_uploads_one(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload_cell(peer, one_cell(runs))
    said = refused(capsys)
    assert said == "wandb:me/paper has 1 record, but no plan of a sweep: strive sync uploads both"


def test_a_project_in_which_nothing_has_ended_says_so(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_cell(runs)
    upload_plan(peer, runs / "sweeps/golden")
    assert guarded(make_tables.main, ["--source", SOURCE]) == 2
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "error: no sweep has a record in wandb:me/paper; --runs FOLDER reads another folder"
    )


def test_a_server_that_is_down_is_told(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    peer.pause()
    said = refused(capsys)
    assert re.fullmatch(r"127\.0\.0\.1:\d+ does not answer: .*connection refused", said)
    assert said.count("refused") == 1


@pytest.mark.parametrize(("entity", "default"), [("me/", ""), ("", ""), ("", "me")])
def test_of_a_server_that_is_down_the_copy_is_named(
    entity: str,
    default: str,
    peer: Peer,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_cell(runs)
    upload(peer, runs)
    copy = open_source(SOURCE).folder
    if default:
        monkeypatch.setenv("WANDB_ENTITY", default)
        newer = copy.parent.parent / "other/paper/.fetched"
        newer.parent.mkdir(parents=True)
        newer.touch()
        os.utime(newer, (2**32, 2**32))
    peer.pause()
    capsys.readouterr()
    said = refused(capsys, "--source", f"wandb:{entity}paper")
    assert re.search(rf"; --runs {re.escape(str(copy))} reads what was fetched at 20..-..-.. ..:.. UTC$", said)
    assert tables("--runs", str(copy))
    peer.resume()
    assert tables("--source", SOURCE)


def test_a_server_that_is_silent_is_not_waited_for(
    peer: Peer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    peer.hang("/graphql", seconds=60)
    said = "does not answer: nothing came within 1 s; WANDB_HTTP_TIMEOUT=60 waits longer"
    assert re.fullmatch(rf"127\.0\.0\.1:\d+ {said}", refused(capsys))


@pytest.mark.parametrize("what", ["Runs", "RunFiles", "/files/me/paper/plan-golden"])
def test_a_server_that_fails_on_the_way_leaves_the_copy_as_it_was(
    what: str, peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_cell(runs)
    upload(peer, runs)
    copy = open_source(SOURCE).folder
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    one_cell(runs, 5.0)
    Golden(runs, file="other").write()
    upload(peer, runs)
    upload_plan(peer, runs / "sweeps/golden").summary.clear()
    capsys.readouterr()
    peer.fail(what, 503, times=9)
    assert "does not answer as it should: " in (said := refused(capsys))
    assert said.endswith(" UTC")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_histories_that_came_before_the_server_failed_are_kept(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Golden(runs)
    folders = [sweep.cell({"seed": seed}, 10.0, epochs=epochs(2)) for seed in range(40)]
    upload(peer, sweep.write())
    peer.fail(f"RunFullHistory.*{folders[-1].name}", 503, times=2)  # all that the client tries
    source = open_source(SOURCE)
    with pytest.raises(LoadError, match="the same command again goes on from there"):
        source.fetch_curves([folder.name for folder in folders])
    kept = len(list(source.folder.glob("*/history.jsonl")))
    assert 0 < kept < 40
    peer.operations.clear()
    source.fetch_curves([folder.name for folder in folders])
    assert len(list(source.folder.glob("*/history.jsonl"))) == 40
    assert peer.operations["RunFullHistory"] == 40 - kept


# Manners


def test_without_a_source_nothing_of_wandb_is_imported(runs: Path, tmp_path: Path) -> None:
    one_cell(runs)
    code = (
        "import sys\n"
        "sys.modules['wandb'] = None  # an import of it fails\n"
        f"sys.path[:0] = [{str(ROOT / 'analysis')!r}, {str(ROOT / 'src')!r}]\n"
        "import make_tables\n"
        "from strive.cli.main import guarded\n"
        "assert guarded(make_tables.main, ['--runs', 'runs']) == 0\n"
        "sys.exit(guarded(make_tables.main, ['--source', 'wandb:me/paper']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == "error: W&B's client is not installed: pip install wandb"


def test_the_client_leaves_no_folders_behind(
    peer: Peer, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_cell(runs)
    upload(peer, runs)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "theirs"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    open_source(SOURCE)
    assert os.environ["WANDB_DIR"] == str(tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_how_far_it_is_is_shown_where_somebody_looks(
    peer: Peer, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_cell(runs, epochs=epochs(2))
    upload(peer, runs)
    uploaded(peer, "odd", summary={"record": _edited("{}", cell="a/b")})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    open_source(SOURCE).fetch_curves([folder.name])
    shown = capsys.readouterr().err
    assert "\r\x1b[Kwandb:me/paper: 3 of 3 W&B runs\r\x1b[Kleft out: " in shown
    assert "\r\x1b[Kwandb:me/paper: learning curve 1 of 1\r\x1b[K" in shown


def test_without_a_home_it_is_said_where_a_copy_could_lie(
    peer: Peer, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_cell(runs)
    upload(peer, runs)
    monkeypatch.setenv("STRIVE_CACHE", "~nobody-of-this-name/cache")
    assert refused(capsys) == "there is no home folder to keep a copy in; STRIVE_CACHE=FOLDER names another"


def test_the_newest_copy_is_the_one_that_is_named(tmp_path: Path) -> None:
    for number, entity in enumerate(("b", "a")):
        stamp = local_copy.copy_of("host", entity, "p").folder / ".fetched"
        stamp.parent.mkdir(parents=True, exist_ok=True)  # from an earlier run of this test
        stamp.write_text(entity)
        os.utime(stamp, (number, number))
    found = local_copy.last_fetched("host", "", "p")
    assert found is not None
    assert found[1] == "a"
    assert local_copy.last_fetched("host", "c", "p") is None
