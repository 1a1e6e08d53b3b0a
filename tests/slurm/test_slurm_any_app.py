"""A foreign app's cells as jobs: they run the program and the config that were submitted, each with its own needs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slurm_lab import SlurmLab, wait_until
from support import ROOT

pytestmark = pytest.mark.slow

TRAIN = """\
import hydra
from omegaconf import OmegaConf
from helper import factor

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    print("factor", factor)
    return {"value": cfg.twice * factor}

if __name__ == "__main__":
    OmegaConf.register_new_resolver("mul", lambda a, b: a * b)
    main()
"""
MIXED = """\
question: Does one launch fill two partitions?
arms:
  small: {x: 1}
  middle: {x: 2}
  big: {x: 3, needs.partition: low, needs.gres: 'gpu:1', needs.cpus: 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "conf").mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "helper.py").write_text("factor = 10\n")
    (folder / "conf" / "config.yaml").write_text("x: 1\ntwice: ${mul:2,${x}}\n")
    return folder


def launch(lab: SlurmLab, project: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_slurm",
        "hydra.launcher.poll_seconds=0.5", "hydra.sweeper.tracker.kind=none", *overrides,
    ]  # fmt: skip
    environment = {name: value for name, value in lab.env.items() if name != "STRIVE_APP"}
    return subprocess.Popen(
        command, cwd=project, env=environment | {"PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def records(project: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in project.glob("runs/*/record.json")]
    return sorted(found, key=lambda record: int(record["config"]["x"]))


def test_jobs_run_the_program_and_the_config_that_were_submitted(lab: SlurmLab, project: Path) -> None:
    lab.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    process = launch(lab, project, "x=1,2,3", "hydra.launcher.cells_per_job=2")
    try:
        wait_until(lambda: list(project.glob("runs/sweeps/*/*/jobs.json")), 180, "a job in the queue")
        (project / "helper.py").write_text("raise RuntimeError('edited')\n")
        (project / "conf" / "config.yaml").write_text("this: [is no config\n")
        lab.run("scontrol", "update", "PartitionName=main", "State=UP")
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        lab.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert process.returncode == 0, said
    assert [record["metrics"]["value"] for record in records(project)] == [20, 40, 60]
    assert all(set(record["provenance"]["code_files"]) == {"train.py", "helper.py"} for record in records(project))


def test_one_launch_fills_mixed_partitions(lab: SlurmLab, project: Path) -> None:
    (project / "mixed.yaml").write_text(MIXED)
    process = launch(lab, project, "hydra.sweeper.sweep=mixed.yaml", "hydra.launcher.cells_per_job=2")
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert [record["config"] for record in records(project)] == [{"x": x, "twice": 2 * x} for x in (1, 2, 3)]
    (file,) = project.glob("runs/sweeps/*/*/jobs.json")
    asked = {
        tuple(numbers): lab.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%P %C %b").strip()
        for job, numbers in json.loads(file.read_text()).items()
    }
    assert asked == {(0, 1): "main 1 N/A", (2,): "low 2 gres:gpu:1"}
