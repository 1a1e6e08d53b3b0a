"""An app that calls wandb.init itself, with the genuine client: each cell is one W&B run, however often it starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from wandb_peer import Peer

from strive.processes import usable_cores

APP = """\
import os, time
import hydra, strive

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    import wandb
    run = wandb.init(project="theirs", config={"lr": cfg.lr})
    start = int(path.read_text()) if (path := strive.load()) else 0
    for step in range(start, 6):
        run.log({"loss": cfg.lr / (step + 1)}, step=step)
        strive.log(step + 1, loss=cfg.lr / (step + 1))
        while step == 3 and cfg.get("held") and not os.path.exists("go"):
            time.sleep(0.02)
        strive.save(lambda path: path.write_text(str(step + 1)))
    if cfg.get("ends"):
        run.finish()
    return {"loss": cfg.lr / 6}

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(APP)
    return folder


def sweep(project: Path, client: dict[str, str], *overrides: str) -> "subprocess.Popen[str]":
    given = ("hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.launcher.checkpoint_minutes=0")
    return subprocess.Popen(
        [sys.executable, "train.py", "-m", *given, *overrides],
        cwd=project, env=client | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "160"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def worker_of(launcher: int) -> int:
    """Return the process that trains."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if b"strive.launch.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("there is none")


def trained(peer: Peer) -> list[Any]:
    return [shown for shown in peer.runs.values() if shown.job_type == "train"]


def losses(shown: Any) -> list[float]:
    return [row["loss"] for row in shown.history if "loss" in row]


def test_a_cell_that_was_killed_stays_one_w_and_b_run(peer: Peer, client: dict[str, str], project: Path):
    launcher = sweep(project, client, "+lr=1", "+held=true")
    deadline = time.monotonic() + 120
    # A row is complete, and sent, when the next one begins; what has not been sent is lost with the client.
    while not trained(peer) or len(losses(trained(peer)[0])) < 3:
        if time.monotonic() > deadline:
            launcher.kill()
        assert launcher.poll() is None
        time.sleep(0.05)
    os.kill(worker_of(launcher.pid), signal.SIGKILL)
    (project / "go").touch()
    _, text = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, text
    assert "W&B has all of 1 cell" in text
    (path,) = project.glob("runs/train-*/record.json")
    (plan,) = project.glob("runs/sweeps/*/plan.json")
    (shown,) = trained(peer)
    assert (shown.id, shown.project, shown.group) == (path.parent.name, "theirs", plan.parent.name)
    assert losses(shown) == [1 / (step + 1) for step in range(6)]
    assert shown.state == "finished"
    # What the app says of it is as it was; how the cell ended is added.
    assert shown.config["lr"] == 1
    assert shown.config["cell"] == {"lr": 1, "held": True}
    assert (shown.summary["status"], shown.summary["record"]) == ("done", path.read_text())
    assert json.loads(path.read_text())["provenance"]["resumes"] == 1


def test_cells_of_one_process_have_a_w_and_b_run_each(peer: Peer, client: dict[str, str], project: Path):
    one = f"hydra.launcher.cpus_per_cell={usable_cores()}"
    launcher = sweep(project, client, "+lr=1,2", "+ends=true", "hydra.launcher.fresh_process=false", one)
    _, text = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, text
    cells = {path.parent.name for path in project.glob("runs/train-*/record.json")}
    assert {shown.id for shown in trained(peer)} == cells
    assert {(shown.config["lr"], tuple(losses(shown))) for shown in trained(peer)} == {
        (lr, tuple(lr / (step + 1) for step in range(6))) for lr in (1, 2)
    }
