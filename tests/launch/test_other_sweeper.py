"""Hydra's own sweeper, and one that proposes as Optuna's does, with a launcher of strive."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

LAUNCHER = ("hydra/launcher=strive_local", "hydra.launcher.sweeper.tracker.kind=none", "hydra.sweep.dir=multirun")
APP = """\
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    open("calls.txt", "a").write("x")
    if cfg.lr > 1:
        raise RuntimeError("too fast")
    return (cfg.lr - 0.3) ** 2

if __name__ == "__main__":
    main()
"""
# As Optuna's sweeper calls a launcher: one batch after the other, each made from what the last one returned.
SWEEPER = """\
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

class Halving(Sweeper):
    def __init__(self, trials):
        self.trials = trials

    def setup(self, *, hydra_context, task_function, config):
        self.folder = config.hydra.sweep.dir
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        low, high, index = 0.0, 1.0, 0
        for _ in range(self.trials):
            batch = [(f"+lr={low + (high - low) * share}",) for share in (0.25, 0.75)]
            left, right = [job.return_value for job in self.launcher.launch(batch, initial_job_idx=index)]
            middle, index = (low + high) / 2, index + 2
            low, high = (low, middle) if left < right else (middle, high)
        print("between", low, high, file=open(f"{self.folder}/found.txt", "w"))

ConfigStore.instance().store(
    group="hydra/sweeper", name="halving", node={"_target_": "hydra_plugins.search.Halving", "trials": 3}
)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(APP)
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "search.py").write_text(SWEEPER)
    return tmp_path


def run(folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    lean = {name: value for name, value in os.environ.items() if not name.startswith(("STRIVE_", "WANDB_"))}
    return subprocess.run(
        [sys.executable, "train.py", "-m", *LAUNCHER, *overrides],
        cwd=folder, env=lean | {"PYTHONPATH": f"{ROOT / 'src'}:{folder}", "COLUMNS": "160"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob("runs/*/record.json")]
    return sorted(found, key=lambda record: str(record["config"]))


def calls(folder: Path) -> int:
    return len((folder / "calls.txt").read_text())


def test_hydras_own_sweeper_trains_each_cell_once(project: Path):
    done = run(project, "hydra/sweeper=basic", "+lr=0.1,0.2")
    assert done.returncode == 0, done.stderr
    assert [record["config"] for record in records(project)] == [{"lr": 0.1}, {"lr": 0.2}]
    (plan,) = project.glob("runs/sweeps/*/plan.json")
    assert len(json.loads(plan.read_text())["cells"]) == 2
    more = run(project, "hydra/sweeper=basic", "+lr=0.1,0.2,0.4")
    assert more.returncode == 0, more.stderr
    assert calls(project) == 3
    # Its cells are those of strive's own sweeper.
    own = ("hydra/sweeper=strive", "hydra.sweeper.tracker.kind=none", "+lr=0.1,0.2,0.4")
    assert "3 done already, nothing to train" in run(project, *own).stderr


def test_a_sweeper_that_searches_gets_what_was_returned_and_repeats_nothing(project: Path):
    done = run(project, "hydra/sweeper=halving")
    assert done.returncode == 0, done.stderr
    assert (project / "multirun" / "found.txt").read_text() == "between 0.25 0.375\n"
    assert calls(project) == 6
    further = run(project, "hydra/sweeper=halving", "hydra.sweeper.trials=4")
    assert further.returncode == 0, further.stderr
    assert (project / "multirun" / "found.txt").read_text() == "between 0.25 0.3125\n"
    assert calls(project) == 8


def test_a_job_that_fails_fails_for_its_sweeper(project: Path):
    failed = run(project, "hydra/sweeper=basic", "+lr=0.1,2")
    assert failed.returncode == 1
    assert "RuntimeError: too fast" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert [record["status"] for record in records(project)] == ["done", "error"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("hydra.launcher.sweeper.run=x",), "hydra.launcher.sweeper.run='x' is no option here; legal: runs, retrain"),
        (("hydra.launcher.sweeper.retrain=some",), "hydra.sweeper.retrain must be one of none, failed, stale, all"),
    ],
)
def test_a_mistake_is_one_message(project: Path, overrides: tuple[str, ...], message: str):
    wrong = run(project, "hydra/sweeper=basic", "+lr=0.1,0.2", *overrides)
    assert wrong.returncode == 2
    assert message in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert not (project / "runs").exists()
