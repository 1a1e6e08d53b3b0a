"""A sweep over two baselines that adds seeds until it is decided, on digits, killed and started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_lab import wait_until
from support import ROOT

from strive.results.load import load_sweep
from strive.results.look_state import LookState

COMMAND = (
    sys.executable, "train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "sweeps=choices",
    "hydra.sweeper.until=decided", "hydra.sweeper.tracker.kind=none", "hydra.launcher.fresh_process=false", "epochs=2",
)  # fmt: skip
FEW = {
    "[16, 64]": "[4, 8]",
    "range(0,20)": "range(0,4)",
    "[5, 8, 12, 20]": "[2, 3, 4]",
    "  two_layers: {layers: 2}\n": "",
    "  unscaled: {scale: false}\n": "",
    "  small_rate: {lr: 0.001}\n": "",
}


pytestmark = pytest.mark.slow


def project(folder: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "looks", folder)
    file = folder / "conf" / "sweeps" / "choices.yaml"
    text = file.read_text()
    for before, after in FEW.items():
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STRIVE_")}
    return subprocess.Popen(
        COMMAND, cwd=folder, env=environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def ends(folder: Path) -> None:
    process = start(folder)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()


def cells(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("runs/*/record.json")}


def stands(folder: Path) -> list[str]:
    (plan,) = (folder / "runs" / "sweeps").iterdir()
    state = LookState.of(load_sweep(plan.name, [folder / "runs"]))
    assert state is not None
    return list(state.text())


def fixed(folder: Path) -> dict[str, object]:
    (path,) = (folder / "runs" / "sweeps").glob("*/looks.json")
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in ("time", "done_before")}


def test_a_sweep_that_is_killed_and_started_again_comes_to_the_same_verdicts(tmp_path: Path):
    whole, killed = project(tmp_path / "whole"), project(tmp_path / "killed")
    ends(whole)
    process = start(killed)
    wait_until(lambda: len(cells(killed)) >= 5 or process.poll() is not None, 120, lambda: "five cells")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 5 <= len(cells(killed)) < len(cells(whole))
    ends(killed)
    assert stands(killed) == stands(whole)
    assert cells(killed) == cells(whole)
    assert fixed(killed) == fixed(whole)
    # A silent, a decided or an undecided line: each has had a look.
    assert all("no look yet" not in line for line in stands(whole))
