"""`strive work` and `strive cancel`: the cells of a stored launch, trained and stopped by any number of processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ROOT

CELLS = 12
TRAIN = """\
import os, pathlib, time
import hydra, strive

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    start = int(path.read_text()) if (path := strive.load()) else 0
    for step in range(start, cfg.steps):
        time.sleep(0.05)
        strive.log(step + 1, seen=step)
        strive.save(lambda path: path.write_text(str(step + 1)))
    if cfg.x == cfg.bad:
        raise RuntimeError("bad luck")
    with open("ended.txt", "a") as file:
        file.write(f"{cfg.x}\\n")
    return cfg.x

if __name__ == "__main__":
    main()
"""
LAUNCH = (
    "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none",
    f"hydra.launcher.cpus_per_cell={len(os.sched_getaffinity(0))}", "hydra.launcher.checkpoint_minutes=0",
)  # fmt: skip
Run = Callable[..., subprocess.CompletedProcess[str]]
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    def run(*arguments: str, folder: Path = project) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def begin(project: Path) -> Iterator[Begin]:
    """Start commands that are ended, with all that they started, when the test is over."""
    started = list[subprocess.Popen[str]]()

    def begin(*arguments: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments], cwd=project, env=_environment(), start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _environment() -> dict[str, str]:
    lean = {name: value for name, value in os.environ.items() if not name.startswith(("STRIVE_", "WANDB_"))}
    return lean | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "160"}


def _store(run: Run, *overrides: str) -> str:
    """Store the cells of a multirun without training; return the name of its plan."""
    stored = run("train.py", *LAUNCH, "hydra.launcher.detach=true", *overrides)
    assert stored.returncode == 0, stored.stderr
    name = stored.stderr.split("strive work ")[1].split()[0]
    return name


def _statuses(project: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in project.glob("runs/*/record.json")]


def _wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_four_processes_train_each_cell_once_though_two_are_killed(run: Run, begin: Begin, project: Path) -> None:
    name = _store(run, f"+x=range({CELLS})", "+steps=10", "+bad=-1")
    assert not list(project.glob("runs/train-*"))
    workers = [begin("-m", "strive", "work", name) for _ in range(4)]
    _wait_until(lambda: len(list(project.glob("runs/train-*/claim/*"))) >= 3)
    for process in workers[:2]:
        os.killpg(process.pid, signal.SIGKILL)
    for process in workers[2:]:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert _statuses(project) == ["done"] * CELLS
    ended = [int(line) for line in (project / "ended.txt").read_text().split()]
    # A process may be killed between the last line of the app and the record.
    assert set(ended) == set(range(CELLS))
    assert len(ended) <= CELLS + 2
    again = run("-m", "strive", "work", name)
    assert again.returncode == 0, again.stderr
    assert len((project / "ended.txt").read_text().split()) == len(ended), "nothing was left"


def test_once_is_one_cell_and_the_exit_code_says_what_is_left(run: Run, project: Path) -> None:
    name = _store(run, "+x=0,1", "+steps=1", "+bad=1")
    command = ("-m", "strive", "work", name, "--once", "--runs", str(project / "runs"))
    codes = [run(*command, folder=project.parent).returncode for _ in range(3)]
    # Of a cell that is left, of one that has failed; and that is not tried again.
    assert codes in ([3, 1, 1], [1, 1, 1])
    assert sorted(_statuses(project)) == ["done", "error"]
    _store(run, "+x=0,1", "+steps=1", "+bad=1")
    assert run("-m", "strive", "work", name, "--once").returncode == 1
    assert len(list(project.glob("runs/train-*/record-1.json"))) == 1, "a launch stores anew what has failed"


def test_cancel_stops_a_launch_and_its_helpers_with_checkpoints(run: Run, begin: Begin, project: Path) -> None:
    overrides = ("+x=range(4)", "+steps=2000", "+bad=-1")
    launch = begin("train.py", *LAUNCH, *overrides)
    _wait_until(lambda: list(project.glob("runs/train-*/claim/*")))
    (plan,) = project.glob("runs/sweeps/*/plan.json")
    helper = begin("-m", "strive", "work", plan.parent.name)
    _wait_until(lambda: len({path.parent for path in project.glob("runs/train-*/strive-checkpoint*")}) == 2)
    stopped = run("-m", "strive", "cancel", plan.parent.name)
    assert stopped.returncode == 0, stopped.stderr
    assert "0 cells of its launches with a result, 2 with a checkpoint, 2 without" in stopped.stderr
    for process in (launch, helper):
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 130, said
        assert "strive cancel" in said
    assert not list(project.glob("runs/train-*/claim/*"))
    refused = run("-m", "strive", "work", plan.parent.name)
    assert refused.returncode == 2
    assert "was cancelled" in refused.stderr


def test_a_sweep_that_is_not_there_is_named_with_those_that_are(run: Run, project: Path) -> None:
    name = _store(run, "+x=0", "+steps=1", "+bad=1")
    for command in ("work", "cancel"):
        wrong = run("-m", "strive", command, "heads")
        assert wrong.returncode == 2
        assert "heads" in wrong.stderr
        assert name in wrong.stderr
    moved = project / "moved"
    (project / "runs").rename(moved)
    wrong = run("-m", "strive", "work", name, "--runs", "moved")
    assert wrong.returncode == 2
    assert "same paths" in wrong.stderr
