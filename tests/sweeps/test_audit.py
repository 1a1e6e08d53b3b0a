from pathlib import Path

import pytest
from golden import Golden

from strive import app
from strive.results.load import load_sweep
from strive.sweeps.audit import changed_file, sweep_files

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
