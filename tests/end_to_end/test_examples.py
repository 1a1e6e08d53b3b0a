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
