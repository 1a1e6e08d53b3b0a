import msgspec
import pytest

from strive.cli.folders import RUNS
from strive.cli.launch_command import launch_command
from strive.sweeps.plan import StoredPlan

PLAN = StoredPlan(
    sweep="multirun-1", file="", changes=[], question="", code="", common={}, cells=[], excluded=[], choices=[]
)  # fmt: skip


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
