"""The example projects, copied out of the checkout, with strive installed from its wheel and nothing else of it."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT
from wheel_environment import build_wheel, clean_environ, install

LAUNCH = ("train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
FEW = ("sweeps=models", "model=logistic,neighbours", "scale=true,false", "seed=0,1")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    return install(build_wheel(folder), folder / "environment", "scikit-learn")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "examples" / "table_sklearn", tmp_path / "project"))


def test_an_unchanged_app_goes_from_the_wheel_to_its_table(programs: Path, project: Path):
    def run(*command: object) -> subprocess.CompletedProcess[str]:
        words = [str(programs / str(command[0])), *map(str, command[1:])]
        return subprocess.run(words, cwd=project, env=clean_environ(), capture_output=True, text=True, timeout=300)

    assert "8 cells: 0 done already, 8 to train" in run("python", *LAUNCH, *FEW, "hydra.sweeper.dry_run=true").stdout
    killed = subprocess.Popen(
        [programs / "python", *LAUNCH, *FEW], cwd=project, env=clean_environ(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(project.glob("runs/*/record.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    done = run("python", *LAUNCH, *FEW)
    assert done.returncode == 0, done.stderr
    assert "8 cells: 8 done already, nothing to train" in run("python", *LAUNCH, *FEW).stderr
    failed = run("python", *LAUNCH, "columns=0,30", "model=logistic")
    assert failed.returncode == 1
    statuses = [json.loads(path.read_text())["status"] for path in project.glob("runs/*/record.json")]
    assert sorted(statuses) == ["done"] * 8 + ["error"], "columns=30 is a cell of the sweep"
    (plan,) = project.glob("runs/sweeps/models-*")
    tables = run("strive", "tables", plan.name)
    assert tables.returncode == 0, tables.stderr
    assert "n = 2" in tables.stdout
    assert run("strive", "report", plan.name).returncode == 0
    assert "accuracy" in (project / "report.html").read_text()


def test_a_lightning_app_is_made_a_study_by_overrides_alone(tmp_path: Path):
    """Killed after two epochs; its model, trainer, scheduler and callbacks then go on."""
    programs = install(build_wheel(tmp_path), tmp_path / "environment", "scikit-learn", "torch", "lightning")
    project = Path(shutil.copytree(ROOT / "examples" / "lightning_template", tmp_path / "project"))
    command = [
        *(str(programs / "python"), "src/train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local"),
        *("hydra.sweeper.tracker.kind=none", "+callbacks.strive._target_=strive.lightning.StriveCallback"),
        *("hydra.launcher.resume_overrides=['ckpt_path={checkpoint}']", "hydra.launcher.checkpoint_minutes=0"),
        *("hydra.sweeper.logistics=[callbacks.strive,logger]", "hydra.sweeper.sweep=sweeps/width.yaml"),
        *("model.net.hidden=8", "model.net.dropout=0.3", "seed=0"),
    ]
    killed = subprocess.Popen(
        command, cwd=project, env=clean_environ(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not any(path.read_text().count("\n") >= 2 for path in project.glob("runs/*/history.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    done = subprocess.run(command, cwd=project, env=clean_environ(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = project.glob("runs/train-*/record.json")
    record = json.loads(path.read_text())
    assert (record["status"], record["provenance"]["resumes"]) == ("done", 1)
    lines = [json.loads(line) for line in path.with_name("history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert {"train/loss", "val/acc"} <= lines[-1].keys()
    assert path.with_name("csv").is_dir(), "the app's own logger writes into the cell's folder"
    assert not (project / "logs").exists()
