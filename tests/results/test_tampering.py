"""Files of a sweep that were changed by hand: every command names what was changed, and shows no number of it."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from golden import Golden, handmade_epochs
from handmade import texts
from matplotlib.figure import Figure

from strive.cli.main import main
from strive.results import file_check, table_choice
from strive.sweeps.plan import StoredChoice

FILE = """
question: Which rate?
fixed: {budget.epochs: 2}
grid: {seed: "range(0,3)"}
arms:
  slow: {optimizer.lr: 0.01}
  fast: {optimizer.lr: 0.1}
table: {rows: [arm], columns: [], baseline: {arm: slow}, margin: 0.5}
"""
RATES = {"slow": 0.01, "fast": 0.1}
# Of 20 test images; the means of the errors are 11.67 and 18.33.
RIGHT = {"slow": (19, 18, 16), "fast": (17, 17, 15)}
BOTH = ("slow", "fast")


@dataclass
class Study:
    """A sweep of two arms with three seeds each."""

    folder: Path
    cells: dict[tuple[str, int], Path] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)  # more runs folders to read

    def edit_plan(self, change: Callable[[dict[str, Any]], object]) -> None:
        _edit(self.folder / "runs" / "sweeps" / "golden" / "plan.json", change)

    def planned(self, content: dict[str, Any], arm: str, seed: int) -> dict[str, Any]:
        return next(each for each in content["cells"] if each["cell"] == self.cells[arm, seed].name)


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    sweeps = tmp_path / "sweeps"
    sweeps.mkdir()
    (sweeps / "golden.yaml").write_text(FILE)
    monkeypatch.setattr("strive.tables.summary.file_check", partial(file_check.file_check, sweeps=sweeps))
    monkeypatch.setattr("strive.tables.summary.declared_table", partial(table_choice.declared_table, sweeps=sweeps))
    monkeypatch.setattr("strive.status.cell_status.sweep_files", lambda: sweeps)
    chosen = StoredChoice(
        key="optimizer.weight_decay", sweeps=["other"], per={}, by="val_error", value=0.001, why="it was best"
    )
    golden = Golden(Path("runs"), text=FILE, choices=[chosen])
    found = Study(tmp_path)
    for arm, counts in RIGHT.items():
        for seed, right in enumerate(counts):
            found.cells[arm, seed] = golden.cell(
                {"optimizer.lr": RATES[arm], "seed": seed, "budget.epochs": 2},
                1.0,
                arm=arm,
                correct=[1] * right + [0] * (20 - right),
                epochs=handmade_epochs(0.5, 0.4, val=None),
            )
    golden.write()
    return found


# Each returns what must be named.


def labels_swapped(study: Study) -> str:
    def swap(content: dict[str, Any]) -> None:
        for cell in content["cells"]:
            rate = cell["factors"]["optimizer.lr"]
            cell["factors"]["optimizer.lr"] = {0.01: 0.1, 0.1: 0.01}[rate]

    study.edit_plan(swap)
    return "plan.json says optimizer.lr=0.1, record.json 0.01"


def common_value_edited(study: Study) -> str:
    study.edit_plan(lambda content: content["common"].update({"optimizer.weight_decay": 0.0}))
    return "plan.json says optimizer.weight_decay=0.0, record.json 0.001"


def worst_seed_dropped(study: Study) -> str:
    study.edit_plan(lambda content: content["cells"].remove(study.planned(content, "fast", 2)))
    return f"1 finished cell of the same grid is in no plan: {study.cells['fast', 2].name}"


def arms_exchanged(study: Study) -> str:
    def exchange(content: dict[str, Any]) -> None:
        for cell in content["cells"]:
            cell["arm"] = {"slow": "fast", "fast": "slow"}[cell["arm"]]

    study.edit_plan(exchange)
    return "the sweep file in plan.json says optimizer.lr=0.01 of arm slow, plan.json 0.1 of 3 cells"


def arms_exchanged_in_the_plan_and_in_its_copy_of_the_file(study: Study) -> str:
    arms_exchanged(study)
    text = FILE.replace("slow: {", "x: {").replace("fast: {", "slow: {").replace("x: {", "fast: {")
    study.edit_plan(lambda content: content.update(text=text))
    return "arms: slow was {'optimizer.lr': 0.1}, is {'optimizer.lr': 0.01}"


def chosen_value_edited(study: Study) -> str:
    study.edit_plan(lambda content: content["choices"][0].update(value=0.0))
    return "plan.json chooses optimizer.weight_decay=0.0 for all cells, and has 0.001 in 6 cells of it"


def sweep_file_edited(study: Study) -> str:
    path = study.folder / "sweeps" / "golden.yaml"
    path.write_text(path.read_text().replace("optimizer.lr: 0.1", "optimizer.lr: 0.2"))
    return "sweeps/golden.yaml has changed since the plan: arms: fast was {'optimizer.lr': 0.1}"


def error_edited(study: Study) -> str:
    _edit(study.cells["fast", 2] / "record.json", lambda content: content["metrics"].update(test_error=0.1))
    return "record.json says test_error 0.1, predictions.npz beside it gives 0.25"


def record_copied_to_another_seed(study: Study) -> str:
    best, worst = study.cells["fast", 0], study.cells["fast", 2]
    for name in ("record.json", "predictions.npz", "history.jsonl"):
        shutil.copy(best / name, worst / name)
    _edit(worst / "record.json", lambda content: (content.update(cell=worst.name), content["config"].update(seed=2)))
    return f"its record and that of {best.name}, of another seed, have the same weights_sha256"


def predictions_exchanged(study: Study) -> str:
    one, other = study.cells["fast", 0] / "predictions.npz", study.cells["fast", 2] / "predictions.npz"
    content = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(content)
    return "predictions.npz does not hold the predictions that the record beside it speaks of"


def history_cut(study: Study) -> str:
    path = study.cells["fast", 0] / "history.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    return "record.json says 2 epochs, history.jsonl beside it has 1 lines and ends with epoch 1"


def two_plans(study: Study) -> str:
    folder = study.folder / "other" / "sweeps" / "golden"
    folder.mkdir(parents=True)
    shutil.copy(study.folder / "runs" / "sweeps" / "golden" / "plan.json", folder)
    _edit(folder / "plan.json", lambda content: content["cells"].remove(study.planned(content, "fast", 2)))
    study.runs = ["other"]
    return (
        "runs/sweeps/golden/plan.json and other/sweeps/golden/plan.json are different plans of one sweep: 1 cell only"
        " in runs/sweeps/golden/plan.json"
    )


def two_folders(study: Study) -> str:
    other = study.folder / "other" / study.cells["fast", 2].name
    shutil.copytree(study.cells["fast", 2], other)
    (other / "predictions.npz").unlink()
    _edit(other / "record.json", lambda content: content["metrics"].update(test_error=0.1))
    study.runs = ["other"]
    return f"other/{other.name}/record.json"


KINDS: dict[Callable[[Study], str], tuple[str, ...]] = {  # {kind: arms of which no number is believed}
    labels_swapped: BOTH,
    common_value_edited: BOTH,
    worst_seed_dropped: BOTH,
    arms_exchanged: BOTH,
    arms_exchanged_in_the_plan_and_in_its_copy_of_the_file: BOTH,
    chosen_value_edited: BOTH,
    sweep_file_edited: (),  # the plan has the file as it was
    error_edited: ("fast",),
    record_copied_to_another_seed: ("fast",),
    predictions_exchanged: ("fast",),
    history_cut: ("fast",),
    two_plans: BOTH,
    two_folders: BOTH,
}


def test_without_tampering_every_command_ends_well(study: Study, capsys: pytest.CaptureFixture[str]):
    for command, code in (("tables", 0), ("report", 0), ("status", 0), ("answer", 3)):
        assert main([command, "golden"]) == code, command
    assert "contradict" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_was_changed_by_hand_is_named_by_every_command_and_not_believed(
    kind: Callable[[Study], str], study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    named, lost = kind(study), KINDS[kind]
    drawn: list[str] = []

    def keep(out: Path, name: str, figure: Figure, title: str) -> None:
        drawn.extend(texts(figure))

    monkeypatch.setattr("strive.cli.figures._write", keep)
    asked = ["golden", "--runs", "runs", *study.runs]
    for command in ("tables", "figures", "report", "status", "answer"):
        code = main([command, *asked])
        shown = capsys.readouterr()
        assert code in (1, 2), command
        assert named in " ".join((shown.out + shown.err).split()), command
        if command == "answer":
            assert code == 1
            assert ("no answer" in shown.out.lower() or "contradict" in shown.out) or not lost
    if kind is two_folders:
        assert not Path("tables").exists()
        assert not Path("report.html").exists()
        return
    page = Path("report.html").read_text()
    assert named.replace("'", "&#39;") in " ".join(page.split())
    with Path("tables/golden.csv").open(newline="") as file:
        means = {row["label"]: row["mean"] for row in csv.DictReader(file)}
    assert {arm for arm, mean in means.items() if not mean} == set(lost)
    true = {"slow": "11.67", "fast": "18.33"}
    for arm in BOTH:
        assert any(true[arm] in text for text in drawn) == (arm not in lost)
        assert (f">{true[arm]}<" in page) == (arm not in lost)
    assert ("+6.67" in page) == (not lost)
