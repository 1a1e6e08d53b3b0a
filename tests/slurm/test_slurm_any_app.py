"""A foreign app's cells as jobs: they run the program and the config that were submitted."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_jobs_run_the_program_and_the_config_that_were_submitted(lab: SlurmLab, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "conf").mkdir(parents=True)
    (project / "train.py").write_text(TRAIN)
    (project / "helper.py").write_text("factor = 10\n")
    (project / "conf" / "config.yaml").write_text("x: 1\ntwice: ${mul:2,${x}}\n")
    lab.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    command = [
        sys.executable, "train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_slurm", "x=1,2,3",
        "hydra.launcher.cells_per_job=2", "hydra.launcher.poll_seconds=0.5", "hydra.sweeper.tracker.kind=none",
    ]  # fmt: skip
    environment = {name: value for name, value in lab.env.items() if name != "STRIVE_APP"}
    launch = subprocess.Popen(
        command, cwd=project, env=environment | {"PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: list(project.glob("runs/sweeps/*/*/jobs.json")), 180, "a job in the queue")
        (project / "helper.py").write_text("raise RuntimeError('edited')\n")
        (project / "conf" / "config.yaml").write_text("this: [is no config\n")
        lab.run("scontrol", "update", "PartitionName=main", "State=UP")
        said, _ = launch.communicate(timeout=300)
    finally:
        launch.kill()
        lab.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert launch.returncode == 0, said
    records = [json.loads(path.read_text()) for path in project.glob("runs/*/record.json")]
    assert sorted(record["metrics"]["value"] for record in records) == [20, 40, 60]
    assert all(set(record["provenance"]["code_files"]) == {"train.py", "helper.py"} for record in records)
