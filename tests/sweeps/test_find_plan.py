from pathlib import Path

import pytest

from strive.errors import UsageError
from strive.sweeps.find_plan import split, wanted
from strive.sweeps.plan import plan_name, sweep_folder


def test_a_plan_is_found_whatever_the_line_says_of_trackers_trainers_and_hydra(tmp_path: Path):
    (folder := sweep_folder(tmp_path, plan_name(("data=digits",), "table3"))).mkdir(parents=True)
    (folder / "plan.json").touch()
    for more in (
        (),
        ("tracker=none",),
        ("trainer={threads:2}", "needs.mem_gb=8"),
        ("hydra/launcher=slurm", "hydra.x=1"),
    ):
        runs, arguments = split((f"runs={tmp_path}", "sweeps=table3", *more, "data=digits"))
        assert wanted(runs, arguments) == folder.name
    with pytest.raises(UsageError, match="there is no plan"):
        wanted(tmp_path, ("sweeps=table3", "data=digits", "seed=0"))


@pytest.mark.parametrize("text", ["runs='my folder'", 'runs="my folder"', "++runs='my folder'", "runs=my folder"])
def test_the_runs_folder_is_read_as_hydra_reads_it(text: str):
    assert split((text, "seed=0")) == (Path("my folder"), ["seed=0"])


@pytest.mark.parametrize("text", ["runs=a,b", "runs='${data.name}'", "runs=[a]"])
def test_more_than_one_runs_folder_is_refused(text: str):
    with pytest.raises(UsageError, match="names no one folder"):
        split((text,))


@pytest.mark.parametrize("text", ["runs='a", "runs=a\rb"])
def test_a_runs_folder_that_hydra_cannot_read_is_shown_as_typed(text: str):
    with pytest.raises(UsageError) as caught:
        split((text,))
    assert str(caught.value).startswith(f"{text!r} cannot be read: ")


def test_a_mapping_that_hydra_cannot_read_is_shown_as_typed(tmp_path: Path):
    with pytest.raises(UsageError, match=r"'optimizer=\{lr:1' cannot be read: a \{ or \} has no partner"):
        wanted(tmp_path, ("optimizer={lr:1",))
