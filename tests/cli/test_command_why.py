from pathlib import Path

import pytest
from golden import Golden
from study_records import study_record

from allcnn.config import Config, checked
from strive.cells import records
from strive.cli import why
from strive.cli.main import guarded, parse

LAPTOP, CLUSTER = Path("laptop"), Path("cluster")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert guarded(lambda given: why.run(parse(why, "strive why", given)), arguments) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_the_keys_that_decide_numbers_and_differ_are_listed_with_both_values(capsys: pytest.CaptureFixture[str]):
    sweep = Golden(Path("runs"))
    one = sweep.cell({"seed": 1, "trainer.threads": 1}, 10.0).name
    other = sweep.cell({"seed": 2, "optimizer.lr": 0.25, "trainer.threads": 2}).name  # planned, not trained
    sweep.write()
    assert said(capsys, one, other[-10:]).splitlines() == [
        one, other, "differ in 2 keys that decide numbers:", "  optimizer.lr  0.05  0.25", "  seed          1     2",
    ]  # fmt: skip


def test_the_arguments_of_a_net_are_compared_one_by_one_and_types_count(capsys: pytest.CaptureFixture[str]):
    sweep = Golden(Path("runs"))
    net = {"model.family": "custom", "model.builder": "nets:mine"}
    one = sweep.cell(net | {"model.kwargs": {"width": 1, "norm": {"eps": 0.1}}}, 10.0).name
    other = sweep.cell(net | {"model.kwargs": {"width": 1.0, "norm": {"eps": 0.1}, "skip": True}}, 10.0).name
    lines = said(capsys, one, other).splitlines()
    assert [line.split(maxsplit=1) for line in lines[3:]] == [
        ["model.kwargs.width", "1              1.0"],
        ["model.kwargs.skip", "(no such key)  true"],
    ]


def test_one_cell_is_named_as_one_and_an_unknown_one_is_a_mistake(capsys: pytest.CaptureFixture[str]):
    cell = Golden(Path("runs")).cell({}, 10.0)
    assert said(capsys, cell.name, str(cell)) == f"{cell.name} is one cell\n"
    assert "there is no cell nothing in runs; it has 1:" in said(capsys, cell.name, "nothing", code=2)


def test_two_results_of_a_cell_in_two_folders_are_an_error_that_names_both(capsys: pytest.CaptureFixture[str]):
    one, other = (checked(Config(seed=seed)) for seed in (0, 1))
    cell = records.write_record(LAPTOP, study_record(one)).parent.name
    second = records.write_record(CLUSTER, study_record(other)).parent.name
    records.write_record(CLUSTER, study_record(one, provenance={"host": "node1"}))
    both = ("--runs", str(LAPTOP), str(CLUSTER))
    assert "differ in 1 key that decides numbers" in said(capsys, cell, second, *both)  # equal numbers are one result
    records.write_record(CLUSTER, study_record(one, test_error=0.5))
    text = said(capsys, cell, second, *both, code=2)
    assert f"error: {LAPTOP}/{cell}/record.json and {CLUSTER}/{cell}/record.json are different results" in text
