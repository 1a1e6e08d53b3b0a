"""Sweep files of one's own, through the real command line."""

import json
from pathlib import Path

import pytest
from support import SMALL, CommandLine

LR = """
question: Which learning rate?
fixed: {data.val_images: 400}
grid: {optimizer.lr: [0.02, 0.3]}
"""
CHILD = """
question: Which seed?
grid: {seed: [0, 1]}
choose:
  optimizer.lr: {sweep: my_lr, by: val_error, per: [model.base]}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    folder = tmp_path / "mine" / "sweeps"
    folder.mkdir(parents=True)
    (folder / "my_lr.yaml").write_text(LR)
    (folder / "child.yaml").write_text(CHILD)
    return "--config-dir", "mine"


def test_a_missing_parent_is_an_error_that_names_the_command(strive: CommandLine, files, tmp_path: Path):
    done = strive(*files, "-m", "sweeps=child", *SMALL)
    assert done.returncode == 2
    assert "src/run.py -m sweeps=my_lr data=digits" in done.stderr
    assert "hydra.sweeper.parents=true" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_parents_are_trained_first_and_their_best_value_is_taken(strive: CommandLine, files, tmp_path: Path):
    done = strive(*files, "-m", "sweeps=child", "hydra.sweeper.parents=true", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "first my_lr: Which learning rate?" in done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/record.json")]
    parents = {
        r["config"]["optimizer.lr"]: r["metrics"]["val_error"] for r in records if r["config"]["data.val_images"]
    }
    children = [r["config"]["optimizer.lr"] for r in records if not r["config"]["data.val_images"]]
    assert set(parents) == {0.02, 0.3}
    assert children == [min(sorted(parents), key=lambda lr: parents[lr])] * 2
    again = strive(*files, "-m", "sweeps=child", *SMALL)
    assert "2 cells: 2 done already, nothing to train" in again.stderr
    dry = strive(*files, "sweeps=child", *SMALL, "hydra.sweeper.dry_run=true")
    # sweeps= means -m.
    assert dry.returncode == 0, dry.stderr
    assert f"chosen from my_lr: optimizer.lr={children[0]} for model.base=c: val error" in dry.stdout


def test_a_sweep_is_never_taken_for_a_single_cell(strive: CommandLine, files, tmp_path: Path):
    done = strive("--run", "sweeps=my_lr", *SMALL, *files)
    assert done.returncode == 2
    assert "sweeps=NAME is many cells: add -m" in done.stderr
    assert strive("--cfg", "job", "sweeps=my_lr", *SMALL, *files).returncode == 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sweeps=tabel3", "tabel3"),
        ("sweeps=smoke,grid", "one sweep at a time"),
        ("hydra.sweeper.retrain=some", "retrain"),
        ("hydra.sweeper.dryrun=true", "dryrun"),
        ("hydra.launcher.cpus_per_cell=-1", "hydra.launcher.cpus_per_cell must be 0 or more, got -1"),
        ("hydra.launcher.cells_per_device=2", "hydra.launcher.cells_per_device=2 is a key of an earlier version"),
        ("hydra.launcher.retries.error=-1", "hydra.launcher.retries.error must be 0 or more, got -1"),
        ("hydra/launcher=basic", "hydra/launcher=strive_local"),
        ("hydra.sweeper.max_gpu_hours=1", "cannot be checked: no cell with these nets was trained"),
    ],
)
def test_a_wrong_word_to_the_sweep_ends_with_one_message_and_no_file(
    strive: CommandLine, tmp_path: Path, argument: str, message: str
):
    done = strive("-m", *SMALL, argument)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_plan_over_its_hours_is_refused_and_one_within_trains(strive: CommandLine, tmp_path: Path):
    assert strive("-m", *SMALL, "seed=0").returncode == 0
    refused = strive("-m", *SMALL, "seed=0,1", "hydra.sweeper.max_gpu_hours=1e-9")
    assert refused.returncode == 2
    assert "but the plan takes" in refused.stderr
    assert strive("-m", *SMALL, "seed=0,1", "hydra.sweeper.max_gpu_hours=10").returncode == 0
    assert len(list((tmp_path / "runs").glob("*/record.json"))) == 2
