"""W&B's own sweeps over this command line: the genuine `wandb sweep` and `wandb agent`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml
from support import ROOT, SMALL
from wandb_peer import Peer

from allcnn.config import Config
from strive.app import in_use

WANDB = [sys.executable, "-m", "wandb"]


def ran(command: list[str], client: dict[str, str]) -> str:
    # The id that it prints is wanted.
    done = subprocess.run(command, env=client | {"WANDB_SILENT": "false"}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def sweep(client: dict[str, str], folder: Path, **changes: object) -> str:
    """Create the documented sweep, with a net that trains in seconds, and return its path for the agent."""
    content = yaml.safe_load((ROOT / "docs" / "wandb_random.yaml").read_text())
    small = {key: {"value": value} for key, value in (text.split("=") for text in (*SMALL, "runs=cells"))}
    content["parameters"] |= small | {"data.val_images": {"value": 200}} | changes
    content["program"] = str(ROOT / "src" / "run.py")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    said = ran([*WANDB, "sweep", "--project", "random", str(folder / "sweep.yaml")], client)
    return re.findall(r"wandb agent (\S+)", said)[0]


def test_each_of_an_agents_w_and_b_runs_is_a_cell_with_its_whole_config(
    peer: Peer, client: dict[str, str], tmp_path: Path
):
    path = sweep(client, tmp_path)
    said = ran([*WANDB, "agent", "--count", "2", path], client | {"OMP_NUM_THREADS": "1"})
    shown = [each for each in peer.runs.values() if each.sweep]
    assert [(each.state, each.project) for each in shown] == [("finished", "random")] * 2, said
    for each in shown:
        # The parameter's own name is locked to what the agent chose, and the net's knobs are still there.
        assert each.config["model"] == each.config["net"]
        assert each.config["cell"]["model"]["variant"] == each.config["variant"]
        assert each.config["optimizer.lr"] == each.config["cell"]["optimizer"]["lr"] == each.config["lr"]
        assert 0.003 <= each.config["lr"] <= 0.3
        assert "val_error" in each.summary
    assert len(list((tmp_path / "cells").glob("*/record.json"))) == 2


def test_a_cell_that_an_agent_proposes_again_is_shown_again_and_not_trained_again(
    peer: Peer, client: dict[str, str], tmp_path: Path
):
    one = {"model": {"value": "all_cnn_c"}, "augment": {"value": "none"}, "optimizer.lr": {"value": 0.05}}
    path = sweep(client, tmp_path, **one)
    ran([*WANDB, "agent", "--count", "2", path], client | {"OMP_NUM_THREADS": "1"})
    (record,) = (tmp_path / "cells").glob("*/record.json")
    first, second = [each for each in peer.runs.values() if each.sweep]
    assert first.id != second.id
    assert first.summary["record"] == second.summary["record"] == record.read_text()
    assert [row["train_loss"] for row in first.history] == [row["train_loss"] for row in second.history]


def test_the_parameters_of_the_documented_sweep_are_groups_and_knobs_of_the_command_line():
    content = yaml.safe_load((ROOT / "docs" / "wandb_random.yaml").read_text())
    knobs = in_use().flat(Config())
    for key, parameter in content["parameters"].items():
        if (ROOT / "conf" / key).is_dir():
            assert all((ROOT / "conf" / key / f"{value}.yaml").exists() for value in parameter["values"])
        else:
            assert key in knobs
    assert os.access(ROOT / content["program"], os.R_OK)
