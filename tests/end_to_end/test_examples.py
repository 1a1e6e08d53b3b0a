"""The example projects, copied out of the checkout, with strive installed from its wheel and nothing else of it."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from wheel_environment import build_wheel, clean_environ, install

SWEEP = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
LAUNCH = ("python", "train.py", *SWEEP)
FEW = ("sweeps=models", "model=logistic,neighbours", "scale=true,false", "seed=0,1")
ONE_CELL = ("sweeps=heads", "model.heads=4", "model.positions=none", "seed=0")
TINY = ("steps=300", "batch_size=2", "context=8", "characters=2000", "val_batches=1", "log_every=50", "model.width=8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


class Project:
    """A copy of an example, with an environment of its own."""

    def __init__(self, name: str, folder: Path, wheel: Path, *packages: str) -> None:
        self.folder = Path(shutil.copytree(ROOT / "examples" / name, folder / "project"))
        self._programs = install(wheel, folder / "environment", *packages)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._words(command), cwd=self.folder, env=clean_environ(), capture_output=True, text=True, timeout=300
        )

    def run_and_kill(self, *command: str, when: Callable[[], bool]) -> None:
        """Start a command, and kill it with everything that it started in its session as soon as this holds."""
        killed = subprocess.Popen(
            self._words(command), cwd=self.folder, env=clean_environ(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not when():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.folder.glob("runs/*/record.json")]

    def history(self) -> list[dict[str, Any]]:
        """Return the steps of the one cell that has any."""
        lines = [line for path in self.folder.glob("runs/*/history.jsonl") for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def _words(self, command: tuple[str, ...]) -> list[str]:
        return [str(self._programs / command[0]), *command[1:]]


def test_an_unchanged_app_goes_from_the_wheel_to_its_table(wheel: Path, tmp_path: Path):
    project = Project("table_sklearn", tmp_path, wheel, "scikit-learn")
    dry = project.run(*LAUNCH, *FEW, "hydra.sweeper.dry_run=true")
    assert "8 cells: 0 done already, 8 to train" in dry.stdout
    project.run_and_kill(*LAUNCH, *FEW, when=lambda: bool(project.records()))
    done = project.run(*LAUNCH, *FEW)
    assert done.returncode == 0, done.stderr
    assert "8 cells: 8 done already, nothing to train" in project.run(*LAUNCH, *FEW).stderr
    failed = project.run(*LAUNCH, "columns=0,30", "model=logistic")
    assert failed.returncode == 1
    statuses = [record["status"] for record in project.records()]
    assert sorted(statuses) == ["done"] * 8 + ["error"], "columns=30 is a cell of the sweep"
    (plan,) = project.folder.glob("runs/sweeps/models-*")
    tables = project.run("strive", "tables", plan.name)
    assert tables.returncode == 0, tables.stderr
    assert "|   2 |" in tables.stdout
    assert project.run("strive", "report", plan.name).returncode == 0
    assert "accuracy" in (project.folder / "report.html").read_text()


def test_an_app_with_checkpoints_goes_on_from_them_after_it_was_killed(wheel: Path, tmp_path: Path):
    project = Project("char_lm", tmp_path, wheel, "torch")
    one = (*ONE_CELL, *TINY, "hydra.launcher.checkpoint_minutes=0")
    project.run_and_kill(*LAUNCH, *one, when=lambda: bool(list(project.folder.glob("runs/*/strive-checkpoint"))))
    done = project.run(*LAUNCH, *one)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert (record["status"], record["provenance"]["resumes"]) == ("done", 1)
    assert [line["step"] for line in project.history()] == list(range(50, 301, 50))
    assert "1 done already, nothing to train" in project.run(*LAUNCH, *one).stderr
    tables = project.run("strive", "tables")
    assert tables.returncode == 0, tables.stderr
    assert f"{record['metrics']['val_loss']:.3f}" in tables.stdout


def test_a_lightning_app_is_made_a_study_by_overrides_alone(wheel: Path, tmp_path: Path):
    """Killed after two epochs; its model, trainer, scheduler and callbacks then go on."""
    project = Project("lightning_template", tmp_path, wheel, "scikit-learn", "torch", "lightning")
    command = [
        *("python", "src/train.py", *SWEEP, "+callbacks.strive._target_=strive.lightning.StriveCallback"),
        *("hydra.launcher.resume_overrides=['ckpt_path={checkpoint}']", "hydra.launcher.checkpoint_minutes=0"),
        *("hydra.sweeper.logistics=[callbacks.strive,logger]", "hydra.sweeper.sweep=sweeps/width.yaml"),
        *("model.net.hidden=8", "model.net.dropout=0.3", "seed=0"),
    ]
    histories = project.folder.glob
    project.run_and_kill(
        *command, when=lambda: any(path.read_text().count("\n") >= 2 for path in histories("runs/*/history.jsonl"))
    )
    done = project.run(*command)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert (record["status"], record["provenance"]["resumes"]) == ("done", 1)
    steps = project.history()
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert {"train/loss", "val/acc"} <= steps[-1].keys()
    assert list(project.folder.glob("runs/train-*/csv")), "the app's own logger writes into the cell's folder"
    assert not (project.folder / "logs").exists()


def test_a_loop_on_two_processes_is_one_cell(wheel: Path, tmp_path: Path):
    project = Project("ddp", tmp_path, wheel, "scikit-learn", "torch")
    few = ("hydra.launcher.processes_per_cell=2", "lr=0.1", "steps=40", "log_every=10", "width=8")
    done = project.run(*LAUNCH, *few)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert record["metrics"]["test_acc"] > 0.1, "better than guessing one of ten digits"
    assert record["provenance"]["given"]["processes"] == 2
    assert [line["step"] for line in project.history()] == [10, 20, 30, 40]
