import dataclasses
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from planned_runs import Runs
from rich.console import Console, Group
from study_records import study_record
from support import SMALL, CommandLine

from strive.cells import checked_record, records
from strive.cells.lease import owner_of, take_claim
from strive.cells.records import Failure, Record, Status
from strive.cells.state import CellState
from strive.slurm import live_jobs
from strive.slurm.job_log import JobLog
from strive.status import cell_status
from strive.status.cell_status import CellStatus, StatusReader
from strive.status.status_text import counts, overview, sweep_report
from strive.sweeps.plan import StoredPlan

BOOM = Failure(cause="RuntimeError: boom\nand more", traceback="Traceback:\n\tboom")


def squeue(folder: Path, *lines: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    folder.mkdir(exist_ok=True)
    script = folder / "squeue"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    script.chmod(0o755)


def older(path: Path, seconds: float = 100) -> None:
    before = path.stat().st_mtime - seconds
    os.utime(path, (before, before))


def shown(renderables: Any, width: int | None) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width or 100_000, force_terminal=width is not None, markup=False, emoji=False)
    console.print(Group(*renderables), soft_wrap=width is None)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())


# --- how a cell stands, from its folder


def test_each_cell_stands_as_its_folder_says(make_runs: Callable[..., Runs]):
    runs = make_runs(8)
    runs.ends(0)
    runs.ends(1, Status.diverged)
    runs.ends(2, Status.out_of_memory, BOOM)
    runs.ends(3).write_text('{"schema": 1, ')
    (runs.cell(4) / "checkpoint.pt").touch()
    (runs.cell(4) / "history.jsonl").write_text("{}\n{}\n")
    with take_claim(runs.cell(5), 60):
        runs.cell(6)  # made by a process that died before its first checkpoint
        found = runs.look()
    assert [each.state for each in found] == [
        CellState.done, CellState.diverged, CellState.failed, CellState.unreadable,
        CellState.stopped, CellState.running, CellState.missing, CellState.missing,
    ]  # fmt: skip
    assert (found[2].status, found[2].why) == (Status.out_of_memory, BOOM.cause)
    assert "not a whole JSON file" in found[3].why
    assert found[3].log.endswith(f"{runs.cells[3]}/record.json")
    assert found[4].epochs_done == 2
    assert counts(found) == (
        "8 cells: 1 done, 1 diverged, 1 running, 1 failed (1 out_of_memory), 1 unreadable, 1 stopped, 2 missing"
    )


def test_a_cell_whose_process_is_gone_has_stopped(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    code = "import sys; from pathlib import Path; from strive.cells.lease import take_claim"
    code += "; take_claim(Path(sys.argv[1]), 60)"
    subprocess.run([sys.executable, "-c", code, str(runs.cell(0))], check=True)
    (found,) = runs.look()
    assert found.state is CellState.stopped
    assert found.why.startswith("its process is gone (process ")


def test_a_claim_that_is_older_than_the_record_is_only_left_over(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    with take_claim(runs.cell(0), 60) as claim:
        path = runs.ends(0)
        older(claim.scratch / "owner.json")
        assert runs.states() == [CellState.done]
        older(path, 200)
        assert runs.states() == [CellState.running], "it is trained again"


def test_how_far_a_running_cell_is_comes_from_its_owners_note(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    folder = runs.cell(0)
    with take_claim(folder, 1) as claim:
        claim.note(step=30, steps=130, epoch=2, epochs=9, images_per_second=64.0)
        while not (owner_of(folder) or claim.owner).note:
            time.sleep(0.02)
        (found,) = runs.look()
    assert found.owner is not None
    assert found.seconds_left == 100 * 128 / 64
    text = shown(sweep_report(StoredPlan.read(runs.folder / "sweeps" / "table3"), [found]), None)
    assert re.search(rf"{runs.cells[0]} +2/9 +64 +3 min +{socket.gethostname()} process {os.getpid()}", text), text


def test_a_running_cell_that_counts_steps_alone_is_shown_by_its_step(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    folder = runs.cell(0)
    with take_claim(folder, 1) as claim:
        claim.note(step=30, steps=1300)
        while not (owner_of(folder) or claim.owner).note:
            time.sleep(0.02)
        (found,) = runs.look()
    text = shown(sweep_report(StoredPlan.read(runs.folder / "sweeps" / "table3"), [found]), None)
    head, row = (line.split() for line in text.splitlines()[4:6])
    assert head == ["cell", "step", "left", "worker"]
    assert row[1] == "30/1,300"


def test_a_record_is_read_again_only_if_it_has_changed(make_runs: Callable[..., Runs], monkeypatch: pytest.MonkeyPatch):
    runs, read = make_runs(3), list[str | Path]()

    def count(content: bytes, path: str | Path) -> Record:
        read.append(path)
        return records.parse_record(content, path)

    monkeypatch.setattr(checked_record, "parse_record", count)
    for number in range(3):
        runs.ends(number)
    watcher = StatusReader(runs.folder)
    assert runs.states(watcher) == runs.states(watcher) == [CellState.done] * 3
    assert len(read) == 3
    runs.ends(1, Status.error, BOOM)
    assert runs.states(watcher) == [CellState.done, CellState.failed, CellState.done]
    assert len(read) == 4


def test_a_moved_runs_folder_is_read_where_it_is_now(make_runs: Callable[..., Runs], tmp_path: Path):
    runs = make_runs(1)
    runs.ends(0)
    moved = runs.folder.rename(tmp_path / "elsewhere")
    (found,) = StatusReader(moved).look(StoredPlan.read(moved / "sweeps" / "table3"))
    assert found.state is CellState.done


# --- who will train it, from the launches


def test_what_nobody_has_begun_waits_as_long_as_its_launch_lives(make_runs: Callable[..., Runs], gone: int):
    runs = make_runs(3)
    runs.launched([0, 1], pid=gone)
    assert runs.states() == [CellState.missing] * 3
    runs.launched([1], pid=os.getpid())
    found = runs.look()
    assert [each.state for each in found] == [CellState.missing, CellState.waiting, CellState.missing]
    assert found[1].why == f"a worker of process {os.getpid()}"
    (runs.cell(1) / "checkpoint.pt").touch()
    assert runs.states()[1] is CellState.waiting, "it goes on from its checkpoint when a worker is free"


def test_a_later_process_with_the_launchs_number_is_another_one(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    runs.launched([0], pid=os.getpid(), started="1")
    assert runs.states() == [CellState.missing]


def test_nothing_is_said_about_a_launch_on_another_machine(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    runs.launched([0], pid=os.getpid(), host="far-away")
    assert runs.states() == [CellState.missing]
    launch = StatusReader(runs.folder).last_launch("table3")
    assert launch is not None
    assert launch.alive is None


def test_a_failure_of_an_earlier_launch_is_tried_again_and_one_of_this_launch_is_not(make_runs: Callable[..., Runs]):
    runs = make_runs(2)
    older(runs.ends(0, Status.error, BOOM))
    runs.launched([0, 1], pid=os.getpid())
    time.sleep(0.01)
    runs.ends(1, Status.error, BOOM)
    assert runs.states() == [CellState.waiting, CellState.failed]


# --- what SLURM says


def submitted(runs: Runs, jobs: dict[str, list[int]], gone: int) -> Path:
    numbers = sorted(number for found in jobs.values() for number in found)
    folder = runs.launched(numbers, pid=gone, launcher="slurm")
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (folder / "logs").mkdir()
    return folder


def test_a_queued_cell_waits_with_slurms_reason(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
):
    runs = make_runs(4)
    folder = submitted(runs, {"12_0": [0, 1], "12_1": [2], "12_2": [3]}, gone)
    script = f"{folder}/logs/job.sh"
    squeue(
        tmp_path / "bin",
        f"12_0|RUNNING|node1|None|{script}",
        f"12_1|PENDING||Resources|{script}",
        f"12_2|SUSPENDED|node2|None|{script}",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with take_claim(runs.cell(0), 60), take_claim(runs.cell(3), 60):
        found = runs.look()
    assert [each.state for each in found] == [
        CellState.running,
        CellState.waiting,
        CellState.waiting,
        CellState.running,
    ]
    assert found[1].why == "SLURM job 12_0, running on node1, behind other cells"
    assert found[2].why == "SLURM job 12, pending (Resources)"
    assert [each.suspended for each in found] == [False, False, False, True]


def test_a_job_with_the_same_number_but_of_other_people_is_not_ours(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
):
    runs = make_runs(1)
    submitted(runs, {"12_0": [0]}, gone)
    squeue(tmp_path / "bin", "12_0|PENDING||Resources|/home/other/job.sh")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert runs.states() == [CellState.missing]


def test_a_cell_that_its_job_has_given_up_is_failed_while_the_job_goes_on(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
):
    runs = make_runs(2)
    runs.ends(0, Status.error, BOOM)
    folder = submitted(runs, {"12": [0, 1]}, gone)
    squeue(tmp_path / "bin", f"12|RUNNING|node1|None|{folder}/logs/job.sh")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert runs.states() == [CellState.waiting, CellState.waiting]
    JobLog(folder / "logs", "12", 0).write("ended", cell=runs.cells[0], status="error", cause="", log="")
    assert runs.states() == [CellState.failed, CellState.waiting]


def test_a_job_that_died_without_a_record_says_why(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
):
    runs = make_runs(2)
    folder = submitted(runs, {"12": [0, 1]}, gone)
    log = JobLog(folder / "logs", "12", 0)
    log.write("start", job="12", restart=0, node="node1", host="node1", cells=2)
    log.running([runs.cells[0]])
    squeue(tmp_path / "bin", f"12|TIMEOUT|node1|None|{folder}/logs/job.sh")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    begun, other = runs.look()
    assert (begun.state, begun.status) == (CellState.failed, Status.timeout)
    assert begun.why == "SLURM job 12 on node1 reached its time limit"
    assert begun.log == str(folder / "logs" / "12_0_log.out")
    assert (other.state, other.why) == (CellState.missing, f"{begun.why}, before the cell began")


def test_without_squeue_a_line_says_so(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
):
    runs = make_runs(1)
    submitted(runs, {"12_0": [0]}, gone)
    monkeypatch.setenv("PATH", str(tmp_path))
    watcher = StatusReader(runs.folder)
    found = runs.look(watcher)
    assert [each.state for each in found] == [CellState.missing]
    text = shown(
        sweep_report(StoredPlan.read(runs.folder / "sweeps" / "table3"), found, queue_error=watcher.queue_error), None
    )
    assert "what SLURM has queued cannot be seen: there is no squeue on the PATH" in text


def test_the_queue_is_not_asked_at_every_look(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
):
    runs = make_runs(1)
    folder = submitted(runs, {"12_0": [0]}, gone)
    squeue(tmp_path / "bin", f"12_0|PENDING||Priority|{folder}/logs/job.sh")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(live_jobs, "_QUIET_SECONDS", 1e6)
    watcher = StatusReader(runs.folder)
    assert runs.states(watcher) == [CellState.waiting]
    squeue(tmp_path / "bin")
    assert runs.states(watcher) == [CellState.waiting]
    assert runs.states() == [CellState.failed], "a new watcher asks"


# --- what a person sees


def many_kinds(runs: Runs) -> list[CellStatus]:
    owner = dataclasses.replace(
        take_claim(runs.cell(0), 60).owner,
        host="a-node-with-a-long-name.cluster.example.org",
        job="1234567_890",
        note={"step": 5, "steps": 100000, "epoch": 1, "epochs": 350, "images_per_second": 123456.0},
    )
    nasty = "[bold]not \x1b[2Jtoday[/bold] :smile: <b>\r\n" + "x" * 200
    made: list[dict[str, Any]] = [
        {"state": CellState.running, "owner": owner, "batch_size": 128, "suspended": True},
        {"state": CellState.running, "owner": owner, "batch_size": 128},
        {"state": CellState.waiting, "why": "SLURM job 12, pending (Resources)"},
        {"state": CellState.failed, "status": Status.error, "why": nasty, "log": "/a" * 60, "traceback": nasty},
        {"state": CellState.unreadable, "why": "", "log": "x"},
        {"state": CellState.stopped, "why": f"its process is gone ({owner})"},
        {"state": CellState.missing},
    ]
    return [
        CellStatus(cell=cell, epochs=350, **each)
        for cell, each in zip(runs.cells, [*made, *[{"state": CellState.missing}] * 30], strict=True)
    ]


def test_a_report_fits_80_columns_and_shows_what_users_wrote_as_they_wrote_it(make_runs: Callable[..., Runs]):
    runs = make_runs(37)
    plan, statuses = StoredPlan.read(runs.folder / "sweeps" / "table3"), many_kinds(runs)
    silent = {runs.cells[1]: 100.0}
    text = shown(sweep_report(plan, statuses, tracebacks=True, silent=silent, width=80), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert r"[bold]not \x1b[2Jtoday[/bold] :smile: <b>" in text
    flat = " ".join(text.split())
    assert "no heartbeat seen for 2 min" in flat
    assert "suspended" in flat
    assert "1 for SLURM job 12, pending (Resources)" in flat
    assert "no reason was recorded" in flat
    assert "and 11 more" in flat


def test_what_is_not_for_a_terminal_is_plain_and_whole(make_runs: Callable[..., Runs]):
    runs = make_runs(37)
    plan, statuses = StoredPlan.read(runs.folder / "sweeps" / "table3"), many_kinds(runs)
    text = shown(sweep_report(plan, statuses), None)
    assert all(cell in text for cell in runs.cells[3:7])
    assert f"{runs.cells[1]}  " in text
    assert "/a" * 60 in text
    assert "x" * 200 not in text, "only the first line of why, and no traceback"


def test_the_overview_has_one_line_for_each_sweep_and_fits_80_columns(make_runs: Callable[..., Runs]):
    runs = make_runs(37)
    plan, statuses = StoredPlan.read(runs.folder / "sweeps" / "table3"), many_kinds(runs)
    long = structs.replace(plan, sweep="table3_augmented_lr-12345678")
    text = shown([overview([(plan, statuses), (long, statuses)], width=80)], 80)
    _, first, second = text.splitlines()
    assert first.split() == ["table3", "37", "0", "2", "1", "2", "32", "vari…"]
    assert second.startswith("table3_augmented_lr-12345678 ")
    assert len(second) <= 80


# --- what is contradicted, diverged or dead


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_record_that_its_learning_curve_contradicts_is_no_result(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    runs.ends(0)
    (runs.cell(0) / "history.jsonl").write_text('{"train_loss": 1}\n')
    (found,) = runs.look()
    assert found.state is CellState.contradictory
    assert found.why == "history.jsonl beside it cannot be read (its last line is no step)"
    assert not found.state.finished
    assert found.state.ended


def test_a_cell_of_which_the_plan_says_something_else_is_no_result(make_runs: Callable[..., Runs]):
    runs = make_runs(2)
    for number in range(2):
        runs.ends(number)
    plan = runs.folder / "sweeps" / "table3" / "plan.json"
    edit(plan, lambda content: content["common"].update({"optimizer.lr": 0.5}))
    watcher = StatusReader(runs.folder)
    found = runs.look(watcher)
    assert [each.state for each in found] == [CellState.contradictory] * 2
    assert found[0].why == "plan.json says optimizer.lr=0.5, record.json 0.05"
    (problem,) = watcher.problems(StoredPlan.read(plan.parent))
    text = shown(sweep_report(StoredPlan.read(plan.parent), found, problems=[problem]), None)
    assert f"the plan is contradicted\n{runs.cells[0]}, {runs.cells[1]}: {found[0].why}" in text
    assert "2 cells: 2 contradictory" in text


def test_the_worst_seed_that_was_dropped_from_a_plan_is_named(make_runs: Callable[..., Runs]):
    runs = make_runs(3)
    for number in range(3):
        runs.ends(number)
    plan = runs.folder / "sweeps" / "table3" / "plan.json"
    edit(plan, lambda content: content["cells"].pop())
    (problem,) = StatusReader(runs.folder).problems(StoredPlan.read(plan.parent))
    assert f"1 finished cell of the same grid is in no plan: {runs.cells[2]} (done, test error 90.00%)" in problem


def test_a_sweep_file_that_was_edited_after_the_plan_is_named(
    make_runs: Callable[..., Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs = make_runs(1)
    edit(
        runs.folder / "sweeps" / "table3" / "plan.json",
        lambda content: content.update(text="question: Why?\ngrid: {seed: [0]}\n"),
    )
    plan = StoredPlan.read(runs.folder / "sweeps" / "table3")
    monkeypatch.setattr(cell_status, "sweep_files", lambda: tmp_path)
    (tmp_path / "table3.yaml").write_text("# Better words.\nquestion: Who?\ngrid: {seed: [0]}\n")
    assert StatusReader(runs.folder).problems(plan) == []
    (tmp_path / "table3.yaml").write_text("question: Why?\ngrid: {seed: [0, 1], augment: [none]}\n")
    assert StatusReader(runs.folder).problems(plan) == [
        "sweeps/table3.yaml has changed since the plan: grid: seed was [0], is [0, 1]; grid: augment was not there,"
        " is ['none']"
    ]


def test_diverged_and_dead_cells_are_counted_apart_with_their_cause(make_runs: Callable[..., Runs]):
    runs = make_runs(3)
    runs.ends(0)
    edit(runs.ends(1, Status.diverged), lambda content: content.update(cause="the loss became nan in epoch 350"))
    # Ten classes of which the largest has a tenth of the images.
    edit(runs.ends(2), lambda content: content["chance"].update(test_error=0.9))
    plan, statuses = StoredPlan.read(runs.folder / "sweeps" / "table3"), runs.look()
    text = shown(sweep_report(plan, statuses), None)
    assert "3 cells: 2 done (1 of them dead), 1 diverged" in text
    assert f"diverged\n{runs.cells[1]}\n  the loss became nan in epoch 350" in text
    dead = f"{runs.cells[2]}\n  test error 90.00%, not below the 90.00% of always naming the largest class"
    assert f"dead, although done\n{dead}" in text
    head, row = shown([overview([(plan, statuses)])], None).splitlines()
    assert head.split()[:5] == ["sweep", "cells", "done", "diverged", "dead"]
    assert row.split()[:5] == ["table3", "3", "2", "1", "1"]


# --- the command


def status(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "strive", "status", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_the_exit_code_says_whether_everything_has_a_result(make_runs: Callable[..., Runs], tmp_path: Path):
    runs = make_runs(2)
    runs.ends(0)
    done = status("sweeps=table3", "--failed", "hydra/launcher=slurm", "-m", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "2 cells: 1 done, 1 missing" in done.stdout
    assert "-m sweeps=table3 hydra/launcher=slurm" in done.stdout
    runs.ends(1, Status.diverged)
    done = status("table3", cwd=tmp_path)
    assert done.returncode == 0
    assert "2 cells: 1 done, 1 diverged" in done.stdout
    assert "run.py" not in done.stdout


def test_a_sweep_that_was_not_launched_is_an_error_that_names_those_that_were(
    make_runs: Callable[..., Runs], tmp_path: Path
):
    make_runs(1)
    make_runs(1, "grid")
    for arguments, message in (
        (["tabel3"], "tabel3 was not launched into runs; launched there: grid, table3"),
        (["table3", "seed=0"], "table3 with seed=0 was not launched into runs (there is no plan table3-"),
        (["table3", "grid", "seed=0"], "seed=0: of which sweep? table3 and grid are given"),
        (["--runs", "nowhere"], "--runs nowhere: there is no such folder"),
        (["runs=nowhere"], "--runs nowhere: there is no such folder"),
        (["runs=runs", "--runs", "runs"], "--runs runs and runs=runs: give one of them"),
    ):
        done = status(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_without_arguments_every_sweep_has_a_line_and_a_damaged_plan_is_named(
    make_runs: Callable[..., Runs], tmp_path: Path
):
    make_runs(1).ends(0)
    make_runs(3, "grid")
    broken = tmp_path / "runs" / "sweeps" / "broken" / "plan.json"
    broken.parent.mkdir()
    broken.write_text("{")
    done = status(cwd=tmp_path)
    assert done.returncode == 1
    assert "sweeps/broken/plan.json: not a plan of this version" in done.stdout
    lines = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["table3", "1", "1"] in lines
    assert ["grid", "3", "1"] in lines


def test_several_folders_are_read_as_one_and_two_results_of_a_cell_are_an_error(
    make_runs: Callable[..., Runs], tmp_path: Path
):
    runs, other = make_runs(2), tmp_path / "other"
    runs.ends(0)
    records.write_record(other, study_record(runs.configs[1]))
    done = status("table3", "--runs", "runs", "other", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "2 cells: 2 done"), done.stderr
    path = records.write_record(other, study_record(runs.configs[0], test_error=0.5))
    done = status("table3", "--runs", "runs", "other", cwd=tmp_path)
    assert done.returncode == 2
    cell = path.parent.name
    assert f"error: runs/{cell}/record.json and other/{cell}/record.json are different results" in done.stderr


def test_failed_shows_the_stack_traces(make_runs: Callable[..., Runs], tmp_path: Path):
    make_runs(1).ends(0, Status.error, BOOM)
    for arguments in (["table3"], []):
        text = status(*arguments, "--failed", cwd=tmp_path).stdout
        assert "RuntimeError: boom\n" in text
        assert "    Traceback:\n            boom\n" in text
    assert "Traceback" not in status("table3", cwd=tmp_path).stdout


def test_watch_goes_on_until_every_cell_has_ended(make_runs: Callable[..., Runs], tmp_path: Path):
    runs = make_runs(2)
    runs.ends(0, Status.error, BOOM)
    command = [sys.executable, "-u", "-m", "strive", "status", "table3", "--watch"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "2 cells: 1 failed (1 error), 1 missing\n"
            runs.ends(1)
            rest, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "2 cells: 1 done, 1 failed (1 error)" in rest


def test_it_starts_without_torch_and_hydra(make_runs: Callable[..., Runs], tmp_path: Path):
    make_runs(1).ends(0)
    code = (
        "import runpy, sys\n"
        "sys.argv = ['strive', 'status', 'table3']\n"
        "try:\n"
        "    runpy.run_module('strive', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print('heavy:', *({'torch', 'hydra', 'numpy', 'pandas', 'submitit'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "heavy:"


def test_a_plan_is_found_with_the_overrides_of_its_launch(strive: CommandLine, tmp_path: Path):
    grid = [*SMALL, "seed=0,1", "budget.epochs=1"]
    assert strive("-m", *grid, "runs=here", "trainer.progress=false").returncode == 0
    done = status(*reversed(grid), "runs=here", cwd=tmp_path)
    assert "2 cells: 2 done" in done.stdout, done.stderr
    assert done.returncode == 0
    assert "last launch: local" in done.stdout


def test_two_versions_of_a_data_sets_images_are_named(make_runs: Callable[..., Runs]):
    runs = make_runs(4)
    runs.ends(0)
    runs.ends(1)
    runs.ends(3, Status.error, BOOM, images="")
    plan = StoredPlan.read(runs.folder / "sweeps" / "table3")
    assert "versions" not in shown(sweep_report(plan, runs.look()), None)
    runs.ends(2, images="cd")
    line = "finished cells have seen 2 versions of the images of cifar10: 2 of ab, 1 of cd"
    assert line in shown(sweep_report(plan, runs.look()), None).splitlines()
