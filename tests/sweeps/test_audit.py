from pathlib import Path

import pytest
from golden import Golden
from msgspec.structs import replace

from strive import app
from strive.results.load import load_sweep
from strive.sweeps.audit import audit_plan, changed_file, sweep_files
from strive.sweeps.plan import StoredPlan

BEFORE, NOW = "question: Why?\ngrid: {seed: [0]}\n", "question: Why?\ngrid: {seed: [0, 1]}\n"


@pytest.fixture
def other_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an app that knows no keys the one in use; return the folder of its project."""
    for name in ("src", "sweeps"):
        (tmp_path / "project" / name).mkdir(parents=True)
    (tmp_path / "project" / "src" / "knows_no_keys.py").write_text("from strive.app import App\n\nAPP = App()\n")
    monkeypatch.syspath_prepend(tmp_path / "project" / "src")
    monkeypatch.setenv(app.APP, "knows_no_keys")
    return tmp_path / "project"


def test_the_sweep_files_are_beside_the_code_of_the_app_in_use(other_app: Path):
    assert sweep_files() == other_app / "sweeps"


def test_an_installed_app_has_its_sweep_files_below_the_current_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "sources", list)
    assert sweep_files() == Path("sweeps")


BY_WORDS = """
question: Which weights?
grid: {seed: [0, 1]}
arms: {first: {model.init: he}, second: {model.init: gaussian}}
"""


@pytest.mark.parametrize("exchanged", [False, True])
def test_exchanged_arms_are_seen_by_values_that_are_words(tmp_path: Path, exchanged: bool):
    sweep = Golden(tmp_path / "runs", text=BY_WORDS)
    names = ("second", "first") if exchanged else ("first", "second")
    for arm, init in zip(names, ("he", "gaussian"), strict=True):
        for seed in (0, 1):
            sweep.cell({"model.init": init, "seed": seed}, 10.0, arm=arm)
    folder = sweep.write() / "sweeps" / "golden"
    found = audit_plan(StoredPlan.read(folder), "golden", [tmp_path / "runs"])
    said = "says model.init=he of arm first, plan.json gaussian of 2 cells"
    assert any(said in text for text in found.whole) == exchanged
    assert bool(found.problems) == exchanged


def test_a_sweep_that_was_given_by_its_path_is_compared_with_that_file(tmp_path: Path, request: pytest.FixtureRequest):
    sweep = Golden(tmp_path / "runs", text=BEFORE)
    sweep.cell({"seed": 0}, 10.0)
    plan = replace(StoredPlan.read(sweep.write() / "sweeps" / "golden"), path=str(tmp_path / "elsewhere.yaml"))
    (tmp_path / "golden.yaml").write_text(NOW)
    assert changed_file(plan, tmp_path) == []
    (tmp_path / "elsewhere.yaml").write_text(NOW)
    assert "elsewhere.yaml has changed since the plan: grid: seed was [0], is [0, 1]" in changed_file(plan, tmp_path)[0]
    # Where it lies is known, whatever app it is of.
    request.getfixturevalue("other_app")
    assert len(changed_file(plan, tmp_path)) == 1


def test_a_file_of_the_same_name_says_nothing_of_another_apps_plan(tmp_path: Path, request: pytest.FixtureRequest):
    sweep = Golden(tmp_path / "runs", text=BEFORE)
    sweep.cell({"seed": 0}, 10.0)
    plan = load_sweep("golden", [sweep.write()]).plan
    (tmp_path / "golden.yaml").write_text(NOW)
    assert changed_file(plan, tmp_path) == [
        "sweeps/golden.yaml has changed since the plan: grid: seed was [0], is [0, 1]"
    ]
    request.getfixturevalue("other_app")
    assert changed_file(plan, tmp_path) == []
