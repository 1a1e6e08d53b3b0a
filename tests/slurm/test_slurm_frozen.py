"""A queued cell trains as it was submitted, whatever is edited while it waits."""

import shutil
from pathlib import Path

import pytest
from slurm_lab import SlurmLab, wait_until
from study import Study
from support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def copied(study: Study, tmp_path: Path) -> Study:
    """A study with a checkout of the project of its own, to be edited."""
    project = tmp_path / "project"
    for name in ("src", "conf", "sweeps"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copyfile(ROOT / "pyproject.toml", project / "pyproject.toml")
    study.project = project
    return study


def queue_is(lab: SlurmLab, state: str) -> None:
    lab.run("scontrol", "update", "PartitionName=main", f"State={state}")


def test_queued_cells_train_with_the_config_and_the_code_that_were_submitted(copied: Study) -> None:
    study = copied
    queue_is(study.lab, "DOWN")
    try:
        launch = study.launch("+model.kwargs.name=a,b", "hydra.launcher.cells_per_job=2")
        wait_until(study.jobs, 180, "a job in the queue")
        edited = {
            study.project / "conf" / "config.yaml": "this: [is no config",
            study.project / "src" / "allcnn" / "training" / "train.py": "raise RuntimeError('edited')",
            study.project / "src" / "strive" / "slurm" / "job.py": "raise RuntimeError('edited')",
            study.folder / "nets.py": "raise RuntimeError('edited')",
        }
        before = {path: path.read_text() for path in edited}
        for path, text in edited.items():
            path.write_text(text)
    finally:
        queue_is(study.lab, "UP")
    assert launch.ends() == 0, study.told()
    study.is_complete("a", "b")
    for path, text in before.items():
        path.write_text(text)
    again = study.launch("+model.kwargs.name=a,b", "hydra.launcher.cells_per_job=2", "hydra.sweeper.retrain=stale")
    assert again.ends() == 0
    assert "2 done already, nothing to train" in again.said(), "the records have the code hash of what was submitted"
