from pathlib import Path

import msgspec
import pytest

from strive.cli.folders import RUNS
from strive.cli.launch_command import launch_command
from strive.sweeps.plan import StoredPlan

PLAN = StoredPlan(
    sweep="multirun-1", file="", changes=[], question="", code="", common={}, cells=[], excluded=[], choices=[]
)  # fmt: skip


def test_a_sweep_that_was_given_by_its_path_is_proposed_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    plan = msgspec.structs.replace(PLAN, file="rate", program=["src/run.py"])
    assert launch_command(plan, RUNS) == ["python", "src/run.py", "-m", "sweeps=rate"]
    below = msgspec.structs.replace(plan, path=str(tmp_path / "mine" / "rate.yaml"))
    assert launch_command(below, RUNS)[3:] == ["hydra.sweeper.sweep=mine/rate.yaml"]
    apart = msgspec.structs.replace(plan, path=str(tmp_path.parent / "my rate.yaml"))
    assert launch_command(apart, RUNS)[3:] == [f"hydra.sweeper.sweep='{tmp_path.parent / 'my rate.yaml'}'"]


@pytest.mark.parametrize(
    ("typed", "more", "words"),
    [
        (["-m", "+lr=1,2", "+seed=0,1"], "seed=range(2,7)", ["-m", "+lr=1,2", "+seed=range(2,7)"]),
        (["-m", "lr=1,2", "seed=0,1"], "seed=range(2,7)", ["-m", "lr=1,2", "seed=range(2,7)"]),
        (["-m", "lr=1,2"], "seed=range(2,7)", ["-m", "lr=1,2", "seed=range(2,7)"]),
    ],
)
def test_a_proposed_override_stands_in_place_of_the_launchs_own(typed: list[str], more: str, words: list[str]):
    started = msgspec.structs.replace(PLAN, start={"module": "app.train", "argv": ["train.py", *typed]})
    assert launch_command(started, RUNS, more) == ["python", "-m", "app.train", *words]
    study = msgspec.structs.replace(PLAN, program=["src/run.py"], changes=typed[1:])
    assert launch_command(study, RUNS, more) == ["python", "src/run.py", *words]


@pytest.mark.parametrize("typed", [["-m", "lr=1,2"], ["-m", "lr=1,2", "hydra.sweeper.runs=old"]])
def test_a_copy_of_the_records_is_named_in_the_command_and_the_folder_of_the_launch_is_not(
    tmp_path, monkeypatch, typed
):
    monkeypatch.chdir(tmp_path)
    started = msgspec.structs.replace(PLAN, start={"module": "app.train", "argv": ["train.py", *typed]})
    assert launch_command(started, Path("copy"))[-1] == "hydra.sweeper.runs=copy"
    assert "hydra.sweeper.runs=old" not in launch_command(started, Path("copy"))
    usual = Path("old") if len(typed) == 3 else RUNS
    assert launch_command(started, tmp_path / usual) == ["python", "-m", "app.train", *typed]
