import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from golden import Golden, MakeGolden
from study_records import METRICS, PROVENANCE

from allcnn.config import Config
from strive.app import in_use
from strive.errors import LoadError, RecordError
from strive.results.load import find_plans, load_sweep, read_cells
from strive.results.record_row import EMPTY
from strive.sweeps.plan import Action, StoredChoice, plan_name


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def _cells(*folders: Path) -> pd.DataFrame:
    return load_sweep("golden", folders).cells


def _edit_plan(runs: Path, **changes: object) -> None:
    path = runs / "sweeps" / "golden" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _with_arguments(golden: Golden, *arguments: dict[str, object]) -> Golden:
    for number, kwargs in enumerate(arguments):
        net = {"model.family": "custom", "model.builder": "nets:net", "model.kwargs": kwargs}
        golden.cell({**net, "seed": number % 2}, 10.0)
    return golden


# Plans


def test_a_plan_is_found_by_its_name_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    first, second = Golden(tmp_path / "first"), Golden(tmp_path / "second")
    other = Golden(tmp_path / "second", file="other")
    for each in (first, second, other):
        each.write()

    plans = find_plans([first.runs, second.runs])

    assert plans == {"golden": first.runs / "sweeps/golden", "other": second.runs / "sweeps/other"}


def test_a_folder_of_records_alone_has_no_plans(tmp_path: Path) -> None:
    assert find_plans([tmp_path]) == {}


def test_a_folder_that_is_not_there_is_named_as_typed(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"--runs .*/nowhere: there is no such folder; give one that records"):
        find_plans([tmp_path / "nowhere"])


def test_an_unknown_sweep_is_answered_with_those_that_are_there(golden: MakeGolden, runs: Path) -> None:
    golden().write()
    with pytest.raises(LoadError, match=r"table4 was not launched into .*/runs: .*there are: golden"):
        load_sweep("table4", [runs])


def test_a_folder_without_any_plan_is_answered_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"launch it with -m sweeps=table3"):
        load_sweep("table3", [tmp_path])


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 1},
        {"question": None},
        {"common": ["seed"]},
        {"cells": [{"cell": 1, "arm": "", "action": "train", "reason": "", "epochs": 1, "factors": {}}]},
        {"cells": [{"cell": "a", "arm": "", "action": "train", "reason": "", "epochs": "1", "factors": {}}]},
        {"cells": [{"cell": "a", "arm": "", "action": "train", "reason": "", "epochs": 1, "factors": []}]},
        {"choices": [{"key": "seed", "sweeps": [], "per": [], "by": "", "value": 1, "why": ""}]},
        {"excluded": [1]},
    ],
)
def test_a_plan_of_another_shape_is_refused(changes: dict[str, object], golden: MakeGolden, runs: Path) -> None:
    golden().write()
    _edit_plan(runs, **changes)
    with pytest.raises(LoadError, match=r"golden/plan.json: not a plan of this version.*; start the sweep again"):
        load_sweep("golden", [runs])


def test_cells_with_different_factors_are_no_plan(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    for seed in (0, 1):
        sweep.cell({"seed": seed})
    sweep.write()
    content = json.loads((runs / "sweeps/golden/plan.json").read_text())
    del content["cells"][1]["factors"]["seed"]
    _edit_plan(runs, cells=content["cells"])
    with pytest.raises(LoadError, match="not a plan of this version"):
        load_sweep("golden", [runs])


def test_a_sweep_says_what_its_plan_says(golden: MakeGolden, runs: Path) -> None:
    chosen = StoredChoice(
        key="optimizer.lr", sweeps=["lr"], per={"model.base": "a"}, by="val_error", value=0.05, why="least"
    )
    name = plan_name(["seed=0,1"], "golden")
    sweep = golden(name=name, changes=["seed=0,1"], choices=[chosen], excluded=[("seed=2", "too many")])
    for seed in (0, 1):
        sweep.cell({"seed": seed, "model.base": "a"}, arm="small")
    sweep.write()

    loaded = load_sweep(name, [runs])

    assert (loaded.name, loaded.file, loaded.changes) == (name, "golden", ["seed=0,1"])
    assert (loaded.question, loaded.warnings) == ("Which net is best?", [])
    assert (loaded.choices, loaded.excluded) == ([chosen], [["seed=2", "too many"]])
    assert loaded.factors == ["seed"]
    assert loaded.common["model.base"] == "a"
    assert list(loaded.cells["arm"]) == ["small", "small"]


def test_a_plan_without_cells_has_every_column(golden: MakeGolden, runs: Path) -> None:
    golden().write()
    loaded = load_sweep("golden", [runs])
    assert (len(loaded.cells), loaded.factors) == (0, [])
    assert {"cell", "status", "host", "dead"} <= set(loaded.cells)


# Columns


def test_every_planned_cell_has_a_row_in_the_plans_order(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    folders = [sweep.cell({"seed": seed}, error) for seed, error in ((2, 5.0), (0, None), (1, 7.0))]
    sweep.write()

    cells = _cells(runs)

    assert list(cells["cell"]) == [folder.name for folder in folders]
    assert list(cells["seed"]) == [2, 0, 1]
    assert list(cells["status"]) == ["done", "missing", "done"]
    assert list(cells["folder"]) == [str(folders[0]), "", str(folders[2])]
    assert list(cells["record"]) == [f"{folders[0]}/record.json", "", f"{folders[2]}/record.json"]
    assert cells["test_error"].tolist() == [0.05, pytest.approx(np.nan, nan_ok=True), 0.07]
    assert list(cells["epochs_planned"]) == [350, 350, 350]


def test_no_two_parts_of_a_row_share_a_name(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({}, 5.0)
    sweep.write()
    names = list(_cells(runs))
    assert len(names) == len(set(names))
    own = {*METRICS, "predictions_sha256", "weights_sha256", "torch", *PROVENANCE.details}
    assert {*in_use().flat(Config()), *EMPTY, *own} <= set(names)


def test_numbers_are_floats_and_all_else_is_as_it_came(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({"model.base": "a", "model.variant": "base", "seed": 3}, 5.0, inexact=["another torch", "more threads"])
    sweep.cell({"seed": 4})
    sweep.write()

    cells = _cells(runs)

    numbers = {"epochs", "steps", "parameters", "train_loss", "train_error", "val_loss", "val_error", "test_loss"}
    numbers |= {
        "test_error",
        "num_tested",
        "threads",
        "packed",
        "train_seconds",
        "images_per_second",
        "peak_memory_bytes",
        "resumes",
    }
    assert set(cells.select_dtypes("float64")) == numbers
    assert set(cells.select_dtypes("int64")) == {"epochs_planned"}
    assert {str(dtype) for name, dtype in cells.dtypes.items() if name not in numbers} == {"object", "int64"}
    first, hole = cells.iloc[0], cells.iloc[1]
    assert (first["seed"], first["optimizer.lr"], first["model.pool_norm"]) == (3, 0.05, "inf")
    assert (first["optimizer.drop_at"], first["model.kwargs"]) == ('["4/7","5/7","6/7"]', "{}")
    assert (first["inexact"], first["compiled"]) == ("another torch; more threads", False)
    assert (hole["inexact"], hole["host"], hole["compiled"]) == ("", "", None)
    assert np.isnan(first["val_error"])
    assert np.isnan(hole["parameters"])


def test_arguments_in_another_order_are_the_same_text(golden: MakeGolden, runs: Path) -> None:
    custom = {"model.family": "custom", "model.builder": "nets:net"}
    sweep = golden()
    sweep.cell(custom | {"model.kwargs": {"a": 1, "b": [2]}})
    sweep.cell(custom | {"model.kwargs": {"b": [2], "a": 1}, "seed": 1})
    sweep.cell(custom | {"model.kwargs": {}})
    sweep.write()
    assert list(_cells(runs)["model.kwargs"]) == ['{"a":1,"b":[2]}', '{"a":1,"b":[2]}', "{}"]


def test_a_knob_that_the_plan_lacks_has_no_column(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({})
    sweep.write()
    common = load_sweep("golden", [runs]).common
    del common["trainer.workers"]
    _edit_plan(runs, common=common | {"trainer.of_tomorrow": 1})
    assert "trainer.workers" not in _cells(runs)
    assert list(_cells(runs)["trainer.of_tomorrow"]) == [1]


def test_an_action_says_nothing_about_the_record(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({}, 5.0)
    sweep.write()
    assert Action.train.value in (runs / "sweeps/golden/plan.json").read_text()
    assert list(_cells(runs)["status"]) == ["done"]


# How a cell ended


def test_a_failed_cell_says_why_and_where_but_has_no_numbers(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({}, status="out_of_memory", cause="no memory\n  left")
    sweep.write()
    (row,) = _cells(runs).to_dict("records")
    assert (row["status"], row["cause"], row["traceback"]) == ("out_of_memory", "no memory left", "Traceback\n")
    assert (row["host"], row["threads"], row["compiled"]) == ("laptop", 1.0, False)
    assert "test_error" not in row
    assert "predictions_sha256" not in row


def test_a_diverged_cell_has_its_error(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({}, 90.0, status="diverged")
    sweep.write()
    (row,) = _cells(runs).to_dict("records")
    assert (row["status"], row["test_error"], row["cause"]) == (
        "diverged",
        0.9,
        "all class outputs were zero on every training image of epoch 350 of 350",
    )


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "not a whole JSON file"),
        ('{"schema": 1', "not a whole JSON file"),
        ('{"schema": 9}', "schema 9, this version reads schemas 1 and 2"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_damaged_record_is_unreadable_and_says_why(content: str, cause: str, golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    folder = sweep.cell({}, 5.0)
    sweep.write()
    (folder / "record.json").write_text(content)
    (row,) = _cells(runs).to_dict("records")
    assert row["status"] == "unreadable"
    assert cause in row["cause"]
    assert "test_error" not in row
    assert (row["folder"], row["record_sha256"], row["host"]) == (str(folder), "", "")


def test_a_number_beyond_every_float_is_unreadable(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    sweep.cell({}, 5.0, parameters=10**400)
    sweep.write()
    assert list(_cells(runs)["status"]) == ["unreadable"]


def test_a_record_in_another_cells_folder_is_unreadable(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    first, second = sweep.cell({"seed": 0}, 5.0), sweep.cell({"seed": 1}, 7.0)
    sweep.write()
    (first / "record.json").write_bytes((second / "record.json").read_bytes())
    (row, _) = _cells(runs).to_dict("records")
    assert row["status"] == "unreadable"
    assert f"is the record of {second.name}, but lies in {first.name}" in row["cause"]


def test_a_folder_without_a_record_is_missing(golden: MakeGolden, runs: Path) -> None:
    sweep = golden()
    folder = sweep.cell({}, 5.0)
    sweep.write()
    (folder / "record.json").unlink()
    assert list(_cells(runs)["status"]) == ["missing"]


def test_nothing_outside_the_runs_folder_is_read(golden: MakeGolden, runs: Path, tmp_path: Path) -> None:
    sweep = golden()
    folder = sweep.cell({}, 5.0)
    folder.rename(tmp_path / folder.name)
    columns = read_cells([runs], [f"../{folder.name}", str(tmp_path / folder.name), ".", ""]).columns
    assert columns["status"].tolist() == ["missing"] * 4


def test_half_a_character_does_not_keep_a_row_from_being_written(golden: MakeGolden, runs: Path) -> None:
    sweep = golden(question="Why \ud800?")
    sweep.cell({"data.root": "r\udce4nder"}, status="error", cause="no file r\udce4nder, nor ränder")
    sweep.write()
    loaded = load_sweep("golden", [runs])
    assert loaded.question == "Why ??"
    assert loaded.common["data.root"] == "r?nder"
    (row,) = loaded.cells.to_dict("records")
    assert (row["data.root"], row["cause"]) == ("r?nder", "no file r?nder, nor ränder")


# Several folders


def _two(tmp_path: Path) -> tuple[Golden, Golden]:
    return Golden(tmp_path / "runs"), Golden(tmp_path / "results")


def test_a_finished_record_counts_before_a_failed_one(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    first.cell({}, status="timeout")
    folder = second.cell({}, 5.0)
    (row,) = _cells(first.write(), second.write()).to_dict("records")
    assert (row["status"], row["cause"], row["traceback"], row["test_error"]) == ("done", "", "", 0.05)
    assert row["folder"] == str(folder)


def test_of_two_failures_the_earlier_folders_counts(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    first.cell({}, status="timeout")
    second.cell({}, status="killed")
    assert list(_cells(first.write(), second.write())["status"]) == ["timeout"]


def test_a_cell_may_lie_in_a_later_folder_alone(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    first.cell({"seed": 0}, 5.0)
    first.cell({"seed": 1})
    second.cell({"seed": 1}, 7.0)
    cells = _cells(first.write(), second.runs)
    assert cells["test_error"].tolist() == [0.05, 0.07]


def test_two_different_results_of_one_cell_are_an_error_that_names_both(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    mine, theirs = first.cell({}, 5.0), second.cell({}, 6.0)
    with pytest.raises(RecordError, match="are different results of one cell") as caught:
        load_sweep("golden", [first.write(), second.write()])
    assert str(caught.value).startswith(f"{mine}/record.json and {theirs}/record.json are")


def test_two_equal_results_of_one_cell_are_no_news(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    first.cell({}, 5.0, host="here")
    second.cell({}, 5.0, host="there")
    loaded = load_sweep("golden", [first.write(), second.write()])
    assert loaded.warnings == []
    assert list(loaded.cells["host"]) == ["here"]


def test_a_damaged_record_before_a_finished_one_is_told(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    damaged, whole = first.cell({}, 5.0), second.cell({}, 6.0)
    (damaged / "record.json").write_text("{")
    loaded = load_sweep("golden", [first.write(), second.write()])
    assert loaded.cells["test_error"].tolist() == [0.06]
    (warning,) = loaded.warnings
    assert warning.startswith(f"{damaged.name}: {damaged / 'record.json'}: not a whole JSON file")
    assert warning.endswith(f"; {whole} counts.")


def test_a_folder_given_twice_counts_once_in_its_first_place(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    folder = first.cell({}, 5.0)
    second.cell({}, 5.0)
    (tmp_path / "link").symlink_to(first.write())
    loaded = load_sweep("golden", [first.runs, second.write(), tmp_path / "link", first.runs])
    assert list(loaded.cells["folder"]) == [str(folder)]
    assert loaded.warnings == []


def test_a_relative_folder_stays_relative(golden: MakeGolden, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = golden()
    folder = sweep.cell({}, 5.0)
    sweep.write()
    monkeypatch.chdir(runs.parent)
    assert list(_cells(Path("runs"))["record"]) == [f"runs/{folder.name}/record.json"]


def test_a_file_is_no_folder_of_records(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(LoadError, match=r"/runs: no folder of records \(Not a directory\)"):
        read_cells([tmp_path / "runs"], ["a"])


def test_without_a_folder_everything_is_missing() -> None:
    columns = read_cells([], ["a"]).columns
    assert [columns[name].tolist() for name in ("status", "folder", "record")] == [["missing"], [""], [""]]


# Arguments of a builder


def test_each_argument_of_a_builder_is_a_column_and_those_that_vary_are_factors(golden: MakeGolden, runs: Path) -> None:
    arguments = [{"channels": 4, "norm": {"eps": eps}, "sizes": [1, 2], "p": "inf"} for eps in (0.1, 0.2, 0.1)]
    _with_arguments(golden(), *arguments, {"channels": 4, "deep": True, "sizes": [1, 2], "p": "inf"}).write()
    found = load_sweep("golden", [runs])
    assert found.factors == ["model.kwargs.norm.eps", "model.kwargs.deep", "seed"]
    assert list(found.cells["model.kwargs.norm.eps"]) == [0.1, 0.2, 0.1, None]
    assert list(found.cells["model.kwargs.deep"]) == [None, None, None, True]
    assert list(found.cells["model.kwargs.sizes"]) == ["[1,2]"] * 4


def test_arguments_that_all_cells_share_are_columns_too(golden: MakeGolden, runs: Path) -> None:
    _with_arguments(golden(), {"channels": 4}, {"channels": 4}).write()
    found = load_sweep("golden", [runs])
    assert (found.factors, found.common["model.kwargs.channels"]) == (["seed"], 4)
    assert list(found.cells["model.kwargs.channels"]) == [4, 4]


def test_a_cells_predictions_give_its_calibration_and_its_worst_class(golden: MakeGolden) -> None:
    sweep = golden()
    # Labels 3, 3, 4, 3, 3, 4: wrong are one of four and one of two.
    correct = [False, True, False, True, True, True]
    sweep.cell({"seed": 0}, 100 * 2 / 6, correct=correct)
    sweep.cell({"seed": 1}, 10.0)
    loaded = load_sweep("golden", [sweep.write()])
    worst, without = loaded.cells["test_worst_class_error"]
    assert (worst, np.isnan(without)) == (0.5, True)
    sure = np.e / (np.e + 9)  # of the one logit of 1 among nine of 0
    assert loaded.cells["test_calibration_error"][0] == pytest.approx(4 / 6 - sure)
    assert {"test_worst_class_error", "test_calibration_error"} <= {*loaded.numbers} - {*loaded.metrics}
