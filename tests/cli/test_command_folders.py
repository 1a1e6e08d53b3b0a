import argparse
from pathlib import Path

import pytest

from strive.cli.folders import add_sweeps, asked_for, plan_names
from strive.errors import UsageError
from strive.sweeps.plan import plan_folders, plan_name, sweep_folder


def found(*arguments: str, runs: Path) -> list[str]:
    """Return the names of the plans that the arguments ask for."""
    parser = argparse.ArgumentParser()
    add_sweeps(parser, default="")
    asked = asked_for(parser.parse_intermixed_args([*arguments, "--runs", str(runs)]))
    return plan_names(asked, plan_folders(asked.folders))


def planned(runs: Path, sweep: str, *overrides: str) -> str:
    (folder := sweep_folder(runs, plan_name(overrides, sweep))).mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    return folder.name


def test_a_plan_is_found_whatever_the_line_says_of_trackers_trainers_and_hydra(tmp_path: Path):
    plan = planned(tmp_path, "table3", "data=digits")
    for more in (
        (),
        ("tracker=none",),
        ("trainer={threads:2}", "needs.mem_gb=8"),
        ("hydra/launcher=slurm", "hydra.x=1", "-m"),
    ):
        assert found("sweeps=table3", *more, "data=digits", runs=tmp_path) == [plan]
        assert found("table3", *more, "data=digits", runs=tmp_path) == [plan]
    with pytest.raises(UsageError, match="there is no plan"):
        found("table3", "data=digits", "seed=0", runs=tmp_path)


def test_a_sweeps_name_means_each_launch_of_it_and_a_plans_name_means_one(tmp_path: Path):
    table3, digits = planned(tmp_path, "table3"), planned(tmp_path, "table3", "data=digits")
    other, multirun = planned(tmp_path, "table3_small"), planned(tmp_path, "", "seed=0,1")
    assert found("table3", runs=tmp_path) == [table3, digits]
    assert found(digits, runs=tmp_path) == [digits]
    assert found("multirun", other, runs=tmp_path) == [multirun, other]
    assert found("seed=0,1", runs=tmp_path) == [multirun]
    assert set(found(runs=tmp_path)) == {table3, digits, other, multirun}


def test_of_several_folders_the_first_that_has_a_plan_counts(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    planned(one, "table3")
    planned(other, "table3")
    planned(other, "smoke")
    where = {name: folder.parent.parent for name, folder in plan_folders([one, other]).items()}
    assert where == {"table3": one, "smoke": other}


@pytest.mark.parametrize("text", ["runs='my folder'", 'runs="my folder"', "++runs='my folder'", "runs=my folder"])
def test_the_runs_folder_is_read_as_hydra_reads_it(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("my folder").mkdir()
    assert asked_for(argparse.Namespace(sweeps=[text], runs=None)).folders == [Path("my folder")]


@pytest.mark.parametrize("text", ["runs=a,b", "runs='${data.name}'", "runs=[a]"])
def test_more_than_one_runs_folder_is_refused(text: str):
    with pytest.raises(UsageError, match="names no one folder"):
        asked_for(argparse.Namespace(sweeps=[text], runs=None))


@pytest.mark.parametrize("text", ["runs='a", "runs=a\rb"])
def test_a_runs_folder_that_hydra_cannot_read_is_shown_as_typed(text: str):
    with pytest.raises(UsageError) as caught:
        asked_for(argparse.Namespace(sweeps=[text], runs=None))
    assert str(caught.value).startswith(f"{text!r} cannot be read: ")


def test_a_mapping_that_hydra_cannot_read_is_shown_as_typed(tmp_path: Path):
    planned(tmp_path, "table3")
    with pytest.raises(UsageError, match=r"'optimizer=\{lr:1' cannot be read: a \{ or \} has no partner"):
        found("optimizer={lr:1", runs=tmp_path)
