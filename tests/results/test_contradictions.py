"""A plan or a record that was edited by hand is named in the tables, which print no number of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import Golden, handmade_epochs
from make_tables import main

from strive.cells import records
from strive.config import identity

VARIANTS = ("base", "strided")
Cells = dict[tuple[str, int], Path]  # {(variant, seed): folder}
Tamper = Callable[[Path, Cells], str]  # edits by hand; returns what must be named


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Cells]:
    """Two nets with three seeds each; of 20 test images they get 15, 14, 13 and 10, 9, 8 right."""
    monkeypatch.chdir(tmp_path)
    golden = Golden(Path("runs"))
    cells = {
        (variant, seed): golden.cell(
            {"model.variant": variant, "seed": seed, "budget.epochs": 2, "data.val_images": 100},
            1.0,
            correct=[1] * (right - seed) + [0] * (20 - right + seed),
            epochs=handmade_epochs(0.5, 0.4, val=0.3 + seed / 100),
        )
        for variant, right in zip(VARIANTS, (15, 10), strict=True)
        for seed in range(3)
    }
    golden.write()
    return Path("runs"), cells


def edit_plan(runs: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = runs / "sweeps" / "golden" / "plan.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "record.json").read_text())
    change(content)
    (folder / "record.json").write_text(json.dumps(content))


def in_plan(content: dict[str, Any], cell: Path) -> dict[str, Any]:
    return next(each for each in content["cells"] if each["cell"] == cell.name)


def labels_swapped(runs: Path, cells: Cells) -> str:
    def swap(content: dict[str, Any]) -> None:
        for cell in content["cells"]:
            cell["factors"]["model.variant"] = {"base": "strided", "strided": "base"}[cell["factors"]["model.variant"]]

    edit_plan(runs, swap)
    return "plan.json says model.variant='strided', record.json 'base'"


def common_edited(runs: Path, _: Cells) -> str:
    edit_plan(runs, lambda content: content["common"].update({"optimizer.weight_decay": 0.0}))
    return "plan.json says optimizer.weight_decay=0.0, record.json 0.001"


def seed_edited(runs: Path, cells: Cells) -> str:
    edit_plan(runs, lambda content: in_plan(content, cells["base", 2])["factors"].update(seed=7))
    return "plan.json says seed=7, record.json 2"


def epochs_edited(runs: Path, cells: Cells) -> str:
    edit_plan(runs, lambda content: in_plan(content, cells["base", 2]).update(epochs=350))
    return "plan.json says 350 epochs, and budget.epochs=2"


def worst_seed_dropped(runs: Path, cells: Cells) -> str:
    worst = cells["strided", 2]
    edit_plan(runs, lambda content: content["cells"].remove(in_plan(content, worst)))
    # 8 of 20 right.
    return f"1 finished cell of the same grid is in no plan: {worst.name} (done, test error 60.00%)"


def best_seed_twice(runs: Path, cells: Cells) -> str:
    def double(content: dict[str, Any]) -> None:
        content["cells"].remove(in_plan(content, cells["strided", 2]))
        content["cells"].append(in_plan(content, cells["strided", 0]))

    edit_plan(runs, double)
    return f"{cells['strided', 0].name}: plan.json has this cell twice"


def cell_added(runs: Path, cells: Cells) -> str:
    added = cells["base", 0].name[:-10] + "0123456789"

    def add(content: dict[str, Any]) -> None:
        content["cells"].append(in_plan(content, cells["base", 0]) | {"cell": added})

    edit_plan(runs, add)
    return f"{added}: plan.json says of it what an id that ends in {cells['base', 0].name[-10:]} would mean"


def no_number_in_plan(runs: Path, _: Cells) -> str:
    edit_plan(runs, lambda content: content["common"].update({"optimizer.lr": float("nan")}))
    return "optimizer.lr=nan, record.json 0.05"


def plan_renamed(runs: Path, _: Cells) -> str:
    edit_plan(runs, lambda content: content.update(changes=["seed=0,1,2"]))
    return "plan.json says it is of golden (golden seed=0,1,2), which is kept as golden-"


def error_of_a_record_edited(_: Path, cells: Cells) -> str:
    edit_record(cells["strided", 2], lambda content: content["metrics"].update(test_error=0.1))
    return f"{cells['strided', 2].name}: record.json says test_error 0.1, predictions.npz beside it gives 0.6"


def epochs_of_a_record_edited(_: Path, cells: Cells) -> str:
    edit_record(cells["strided", 2], lambda content: content["metrics"].update(epochs=350))
    return "record.json says 350 epochs, history.jsonl beside it has 2 lines and ends with epoch 2"


def config_edited(_: Path, cells: Cells) -> str:
    edit_record(cells["strided", 2], lambda content: content["config"].update({"optimizer.lr": 0.1}))
    return "its config belongs to a cell whose id ends in"


def moved(_: Path, cells: Cells) -> str:
    shutil.copy(cells["base", 0] / "record.json", cells["strided", 2] / "record.json")
    return f"is the record of {cells['base', 0].name}, but lies in {cells['strided', 2].name}"


def copied_with_another_seed(_: Path, cells: Cells) -> str:
    best, worst = cells["strided", 0], cells["strided", 2]
    for name in ("record.json", "predictions.npz", "history.jsonl"):
        shutil.copy(best / name, worst / name)
    edit_record(worst, lambda content: (content.update(cell=worst.name), content["config"].update(seed=2)))
    return f"{worst.name}: its record and that of {best.name}, of another seed, have the same weights_sha256"


def predictions_swapped(_: Path, cells: Cells) -> str:
    one, other = cells["base", 0] / "predictions.npz", cells["strided", 0] / "predictions.npz"
    content = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(content)
    return f"{cells['base', 0].name}/predictions.npz does not hold the predictions that the record beside it speaks of"


def curve_cut(_: Path, cells: Cells) -> str:
    path = cells["base", 0] / "history.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    return "record.json says 2 epochs, history.jsonl beside it has 1 lines and ends with epoch 1"


def labels_permuted(_: Path, cells: Cells) -> str:
    path = cells["base", 0] / "predictions.npz"
    with np.load(path) as arrays:
        labels, logits = arrays["labels"], arrays["logits"]
    # Two images whose guesses are wrong, and stay so: no number of the cell changes.
    labels[[17, 18]] = labels[[18, 17]]
    np.savez(path, labels=labels, logits=logits)
    return f"{cells['base', 0].name}: predictions.npz beside its record has other labels than that of"


def val_error_edited(_: Path, cells: Cells) -> str:
    edit_record(cells["base", 1], lambda content: content["metrics"].update(val_error=0.01))
    return "record.json says val_error 0.01, history.jsonl beside it 0.31"


@pytest.mark.parametrize(
    "tamper",
    [
        labels_swapped, common_edited, seed_edited, epochs_edited, worst_seed_dropped, best_seed_twice, cell_added,
        no_number_in_plan, plan_renamed, error_of_a_record_edited, epochs_of_a_record_edited, config_edited, moved,
        copied_with_another_seed, predictions_swapped, curve_cut, labels_permuted, val_error_edited,
    ],
)  # fmt: skip
def test_what_was_edited_is_named_and_strict_fails(
    tamper: Tamper, sweep: tuple[Path, Cells], capsys: pytest.CaptureFixture[str]
):
    runs, cells = sweep
    assert main(["golden", "--strict"]) == 0
    capsys.readouterr()
    named = tamper(runs, cells)
    assert main(["golden"]) == 1
    assert named in " ".join(capsys.readouterr().out.split())
    assert main(["golden", "--strict"]) == 1
    assert named in capsys.readouterr().err


def test_no_mean_is_taken_over_a_number_that_is_contradicted(
    sweep: tuple[Path, Cells], capsys: pytest.CaptureFixture[str]
):
    _, cells = sweep
    error_of_a_record_edited(*sweep)
    main(["golden"])
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("| variant Strided "))
    assert "2 of 3 done, 1 contradictory" in row
    written = Path("tables/golden.cells.csv").read_text().splitlines()
    (line,) = [line for line in written if cells["strided", 2].name in line]
    assert ",contradictory," in line
    assert "0.1," not in line.replace("test_error 0.1,", "")


def test_finished_seeds_of_another_plan_are_not_missed(sweep: tuple[Path, Cells], capsys: pytest.CaptureFixture[str]):
    more = Golden(Path("runs"), file="other")
    config = json.loads((sweep[1]["base", 0] / "record.json").read_text())["config"]
    keys = ("model.variant", "budget.epochs", "data.val_images")
    more.cell({key: config[key] for key in keys} | {"seed": 3}, 30.0)
    more.write()
    assert main(["golden", "--strict"]) == 0


def test_a_number_without_predictions_is_marked_as_not_checked(sweep: tuple[Path, Cells]):
    _, cells = sweep
    (cells["base", 0] / "predictions.npz").unlink()
    main(["golden"])
    text = " ".join(Path("tables/golden.md").read_text().split())
    assert "Not checked: the test errors of 1 of 6 cells, as predictions.npz is not beside its record." in text
    lines = Path("tables/golden.cells.csv").read_text().splitlines()
    assert [",test_error," in line for line in lines[1:]] == [cells["base", 0].name in line for line in lines[1:]]
    assert [line.rsplit(",", 1)[1] for line in Path("tables/golden.csv").read_text().splitlines()] == [
        "not_checked",
        "1",
        "0",
    ]


def test_the_committed_records_agree_with_what_lies_beside_them():
    root = Path(__file__).resolve().parents[2] / "results"
    without = 0
    for path in sorted(root.glob("*/*/record.json")):
        record = records.read_record(path)
        without += not path.with_name("predictions.npz").exists()
        assert path.parent.name.endswith(identity.hash_of(record.config))
    assert without == 38


def test_nets_that_never_left_chance_are_named_and_a_mean_that_contains_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    sweep = Golden(Path("runs"))
    # digits: 48 of its 400 test images are of the largest class.
    for seed, error in enumerate((89.5, 91.75, 91.75)):
        sweep.cell({"model.variant": "base", "seed": seed}, error, chance_error=352 / 400)
    # On the same images, with a record that does not say what chance gives; the last is at chance.
    for seed, error in enumerate((10.0, 11.0, 88.0)):
        sweep.cell({"model.variant": "strided", "seed": seed}, error)
    sweep.write()
    assert main(["golden"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    # (89.5 + 91.75 + 91.75) / 3 = 91.00
    assert "| 91.00, 3 of 3 dead |" in text
    assert "| 36.33, 1 of 3 dead |" in text
    assert (
        "variant base: 3 of 3 nets ended no better than chance, with a test error not below the 88.00% of always naming"
        " the largest class." in text
    )
    assert "variant Strided: 1 of 3 nets ended no better than chance" in text
    tidy = [line.split(",") for line in Path("tables/golden.csv").read_text().splitlines()]
    assert [row[tidy[0].index("dead")] for row in tidy[1:]] == ["3", "1"]
