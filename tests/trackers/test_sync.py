"""`strive sync` with the genuine client, over records of real cells."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import wandb
from support import ROOT
from wandb_peer import Peer

from strive.cells.history import read_history
from strive.cells.lease import take_claim

LOCK = ".showing"  # folder, in the cell's, of the claim of the process that shows it
RESULTS = ROOT / "results" / "table3_small"
Sync = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two cells, a sweep's plan, and nothing of W&B."""
    return copied(tmp_path / "cells", 2)


def copied(runs: Path, count: int) -> Path:
    for path in sorted(RESULTS.glob("*/record.json"))[:count]:
        shutil.copytree(path.parent, runs / path.parent.name, ignore=shutil.ignore_patterns("*.npz"))
    return runs


@pytest.fixture
def sync(client: dict[str, str], tmp_path: Path) -> Sync:
    def finished(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "strive", "sync", *arguments],
            cwd=tmp_path,
            env=client | {"COLUMNS": "160"} | environ,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return finished


def cells(runs: Path) -> list[str]:
    return sorted(path.parent.name for path in runs.glob("*/record.json"))


def complete(peer: Peer, runs: Path) -> None:
    """Every cell is there, each epoch once, its record to the byte."""
    assert sorted(peer.runs) == cells(runs)
    for cell in cells(runs):
        shown = peer.runs[cell]
        assert shown.summary["record"].encode() == (runs / cell / "record.json").read_bytes()
        assert [row["epoch"] for row in shown.history] == [step["step"] for step in read_history(runs / cell)]
        assert shown.state == "finished"


def test_offline_cells_are_uploaded_once_however_often_it_is_started(peer: Peer, sync: Sync, tmp_path: Path):
    runs = copied(tmp_path / "cells", 12)
    first = sync("--runs", "cells")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "12 cells: 12 uploaded"
    complete(peer, runs)
    peer.operations.clear()
    second = sync("--runs", "cells")
    assert second.stdout == "12 cells: 12 there already\n"
    assert not {"UpsertBucket", "RunResumeStatus"} & peer.operations.keys()
    # Without upload states, as from a copy of the folder, W&B is asked, and nothing is there twice either.
    third = sync("--runs", "cells", "--again")
    assert third.stdout.splitlines()[-1] == "12 cells: 12 uploaded"
    complete(peer, runs)


@pytest.mark.parametrize("status", [429, 500, 502])
@pytest.mark.parametrize("where", ["graphql", "file_stream"])
def test_a_server_that_is_busy_for_a_moment_loses_nothing(peer: Peer, sync: Sync, runs: Path, where: str, status: int):
    peer.fail(where, status, times=2)
    done = sync("--runs", "cells")
    assert done.returncode == 0, done.stderr
    complete(peer, runs)


@pytest.mark.parametrize("where", ["UpsertBucket", "file_stream"])
def test_a_connection_that_breaks_in_the_middle_loses_nothing(peer: Peer, sync: Sync, runs: Path, where: str):
    peer.drop(where, times=2)
    done = sync("--runs", "cells")
    assert done.returncode == 0, done.stderr
    complete(peer, runs)


def test_what_the_server_refused_while_the_client_reported_success_is_not_taken_for_uploaded(
    peer: Peer, sync: Sync, runs: Path
):
    peer.fail("file_stream", 401, times=1000)
    done = sync("--runs", "cells")
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1] == "2 cells: 2 failed"
    assert not any("record" in shown.summary for shown in peer.runs.values())
    peer.forgive()
    assert sync("--runs", "cells").returncode == 0
    complete(peer, runs)


def test_a_refused_key_is_one_line_without_the_key(peer: Peer, sync: Sync, runs: Path):
    key = "wrong" + "9" * 40
    done = sync("--runs", "cells", WANDB_API_KEY=key)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{urlsplit(peer.url).netloc} refuses the key" in done.stderr
    assert key not in done.stdout + done.stderr
    assert not peer.runs


def test_a_server_that_is_gone_is_one_line_and_what_was_there_stays(peer: Peer, sync: Sync, runs: Path):
    peer.pause()
    done = sync("--runs", "cells")
    assert done.returncode == 2
    assert done.stdout == "2 cells: 2 not uploaded\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"W&B: {urlsplit(peer.url).netloc} does not answer: ")
    peer.resume()
    assert sync("--runs", "cells").returncode == 0
    complete(peer, runs)


def test_without_a_key_it_says_how_to_get_one(sync: Sync, runs: Path):
    done = sync("--runs", "cells", WANDB_API_KEY="")
    assert done.returncode == 2
    assert "wandb login" in done.stderr


def test_nothing_of_the_client_stays_behind(peer: Peer, sync: Sync, runs: Path, tmp_path: Path):
    (tmp_path / "scratch").mkdir()
    before = sorted((tmp_path / "home").rglob("*"))
    assert sync("--runs", "cells", TMPDIR=str(tmp_path / "scratch"), WANDB_DIR="/dev/null/nowhere").returncode == 0
    assert not list((tmp_path / "scratch").iterdir())
    assert sorted((tmp_path / "home").rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "home", "scratch"}
    complete(peer, runs)


def test_a_cell_whose_page_somebody_deleted_gets_another_on_request(peer: Peer, sync: Sync, runs: Path):
    cell, other = cells(runs)
    assert sync("--runs", "cells").returncode == 0
    wandb.Api().run(f"me/strive/{cell}").delete()
    assert sync("--runs", "cells").stdout == "2 cells: 2 there already\n"
    done = sync("--runs", "cells", "--again")
    assert done.returncode == 0, done.stderr
    assert set(peer.runs) == {f"{cell}-2", other}
    assert sync("--runs", "cells").stdout == "2 cells: 2 there already\n"


def test_a_record_that_cannot_be_read_is_named_and_costs_no_other_cell(peer: Peer, sync: Sync, runs: Path):
    damaged, whole = cells(runs)
    (runs / damaged / "record.json").write_text("{")
    done = sync("--runs", "cells")
    assert done.returncode == 1
    assert damaged in done.stderr
    assert "1 uploaded, 1 failed" in done.stdout
    assert list(peer.runs) == [whole]


def test_a_cell_that_another_process_shows_is_left_to_it(peer: Peer, sync: Sync, runs: Path):
    first, second = cells(runs)
    (runs / first / LOCK).mkdir()
    with take_claim(runs / first / LOCK, 60):
        done = sync("--runs", "cells")
    assert "1 uploaded, 1 shown by another process" in done.stdout
    assert list(peer.runs) == [second]
    assert sync("--runs", "cells").returncode == 0
    complete(peer, runs)


def test_a_cell_whose_process_died_on_another_machine_is_taken_over_when_its_lease_is_over(
    peer: Peer, sync: Sync, runs: Path
):
    cell = cells(runs)[0]
    with take_claim(runs / cell, 60) as claim:
        owner = dataclasses.asdict(claim.owner) | {"host": "elsewhere", "lease_seconds": 1.0}
    place = runs / cell / LOCK / "claim" / owner["token"]
    place.mkdir(parents=True)
    (place / "owner.json").write_text(json.dumps(owner))
    done = sync("--runs", "cells")
    assert done.returncode == 0, done.stdout
    complete(peer, runs)


def test_cells_that_cannot_be_uploaded_cost_no_other_cell(peer: Peer, sync: Sync, tmp_path: Path):
    runs = copied(tmp_path / "cells", 6)
    bad, good = cells(runs)[:4], cells(runs)[4:]
    for cell in bad:
        peer.fail(f"UpsertBucket.*{cell}", 403, times=100)
    done = sync("--runs", "cells")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "6 cells: 2 uploaded, 4 failed"
    assert sorted(peer.runs) == good
    assert len(done.stderr.splitlines()) == 4


def test_a_cell_stays_in_the_project_where_it_is_unless_another_is_named(peer: Peer, sync: Sync, runs: Path):
    assert sync("--runs", "cells", WANDB_PROJECT="first").returncode == 0
    assert sync("--runs", "cells").stdout == "2 cells: 2 there already\n"
    assert {shown.project for shown in peer.runs.values()} == {"first"}


def test_a_password_in_the_servers_address_is_written_nowhere(peer: Peer, sync: Sync, runs: Path, tmp_path: Path):
    done = sync("--runs", "cells", WANDB_BASE_URL=peer.url.replace("//", "//bob:sekret@"))
    assert "sekret" not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sekret" not in path.read_bytes(), path


def test_a_key_from_netrc_is_told_to_nobody(peer: Peer, sync: Sync, runs: Path, tmp_path: Path):
    key = "n" * 41
    host = urlsplit(peer.url).netloc
    (tmp_path / "home" / ".netrc").write_text(f"machine {host}\n  login user\n  password {key}\n")
    (tmp_path / "home" / ".netrc").chmod(0o600)
    done = sync("--runs", "cells", WANDB_API_KEY="")
    assert done.returncode == 2
    assert key not in done.stdout + done.stderr


def test_the_command_line_can_send_cells_elsewhere(peer: Peer, sync: Sync, runs: Path):
    assert sync("--runs", "cells", "--project", "elsewhere").returncode == 0
    assert {shown.project for shown in peer.runs.values()} == {"elsewhere"}


def test_a_sweeps_cells_and_plan_go_up_and_other_cells_stay(peer: Peer, sync: Sync, tmp_path: Path):
    runs = copied(tmp_path / "cells", 72)
    (name,) = [path.parent.name for path in RESULTS.glob("sweeps/table3_small/plan.json")]
    shutil.copytree(RESULTS / "sweeps", runs / "sweeps")
    plan = json.loads((runs / "sweeps" / name / "plan.json").read_text())
    wanted = {cell["cell"] for cell in plan["cells"]}
    for cell in sorted(wanted)[3:]:
        shutil.rmtree(runs / cell)
    done = sync(name, "--runs", "cells")
    assert done.returncode == 0, done.stderr
    assert set(peer.runs) == {*sorted(wanted)[:3], f"plan-{name}"}
    assert peer.runs[f"plan-{name}"].files["plan.json"] == (runs / "sweeps" / name / "plan.json").read_bytes()
    assert {shown.group for shown in peer.runs.values()} == {name}


def table_of(peer: Peer, run: str) -> list[dict[str, Any]]:
    """Return the rows of the table that W&B shows."""
    shown = peer.runs[run]
    table = json.loads(shown.files[shown.summary["table"]["path"]])
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_a_sweeps_table_and_answer_are_those_of_strive_tables_and_another_only_after_another_record(
    peer: Peer, sync: Sync, tmp_path: Path
):
    runs, name, run = tmp_path / "cells", "table3_small", "plan-table3_small"
    shutil.copytree(RESULTS / "sweeps", runs / "sweeps")
    wanted = [cell["cell"] for cell in json.loads((runs / "sweeps" / name / "plan.json").read_text())["cells"]]
    means = {
        row["label"]: row["mean"]
        for row in csv.DictReader((RESULTS / "tables" / f"{name}.csv").read_text().splitlines())
    }
    for done in (3, 4):
        for cell in wanted[:done]:
            shutil.copytree(RESULTS / cell, runs / cell, dirs_exist_ok=True)
        for _ in range(2):
            synced = sync(name, "--runs", "cells")
            assert synced.returncode == 0, synced.stderr
        assert len(peer.runs[run].history) == done - 2
        rows = {row["label"]: row for row in table_of(peer, run)}
        whole = [label for label, row in rows.items() if row.get("mean") is not None]
        assert len(whole) == 1
        assert rows[whole[0]]["mean"] == pytest.approx(float(means[whole[0]]))
        assert len(rows) == len(means)
        assert peer.runs[run].summary["answer"]
    assert (peer.runs[run].job_type, peer.runs[run].state) == ("plan", "finished")


def test_a_cell_that_was_uploaded_before_joins_a_later_sweep_without_losing_its_place(
    peer: Peer, sync: Sync, tmp_path: Path
):
    plan = json.loads((RESULTS / "sweeps" / "table3_small" / "plan.json").read_text())
    cell = plan["cells"][0]["cell"]
    runs = tmp_path / "cells"
    shutil.copytree(RESULTS / cell, runs / cell)
    assert sync("--runs", "cells").returncode == 0
    for name in ("first", "second"):
        (runs / "sweeps" / name).mkdir(parents=True)
        (runs / "sweeps" / name / "plan.json").write_text(
            json.dumps(plan | {"sweep": name, "cells": plan["cells"][:1]})
        )
        done = sync("--runs", "cells")
        assert "1 cell: 1 uploaded" in done.stdout
        assert f"sweep:{name}" in peer.runs[cell].tags
        assert peer.runs[cell].group == "first"
        assert len(peer.runs[cell].history) == len(read_history(runs / cell))
    assert "1 there already" in sync("--runs", "cells").stdout


def test_a_folder_without_cells_is_no_mistake(sync: Sync, tmp_path: Path):
    (tmp_path / "cells").mkdir()
    done = sync("--runs", "cells")
    assert (done.returncode, done.stdout) == (0, "there is no cell in cells\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runs", "nowhere"], "--runs nowhere: there is no such folder"),
        (["none", "--runs", "cells"], "no sweep was launched into cells"),
        (["--runs", "cells", "--project", "a/b"], "--project must be"),
        (["tracker.project=a", "--runs", "cells"], "tracker.project=a: give it as --project a"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(sync: Sync, runs: Path, arguments: list[str], words: str):
    done = sync(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_key_is_in_nothing_that_is_written(peer: Peer, sync: Sync, runs: Path, tmp_path: Path):
    peer.fail("file_stream", 401, times=3)
    done = sync("--runs", "cells")
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert peer.key.encode() not in path.read_bytes(), path
    assert peer.key not in done.stdout + done.stderr
    assert os.environ["WANDB_API_KEY"] == peer.key
