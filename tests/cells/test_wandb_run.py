"""The environment in which an app calls wandb.init, with a client that does nothing."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from strive.cells.wandb_run import WandbRun, read_wandb_run, wandb_run_of
from strive.errors import Stopped


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    module: Any = ModuleType("wandb")
    module.run, module.ended = None, []

    def init(**options: Any) -> Any:
        module.run = SimpleNamespace(
            id=options.get("id") or os.environ["WANDB_RUN_ID"], entity="me", project="p", url="http://there",
            mark_preempting=lambda: module.ended.append("preempting"), disabled=options.get("mode") == "disabled",
        )  # fmt: skip
        return module.run

    module.init, module.teardown = init, lambda exit_code: module.ended.append(exit_code)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def cell(folder: Path, inside: str = "") -> Any:
    (folder / inside).mkdir(parents=True, exist_ok=True)
    files = SimpleNamespace(publish=lambda name, make: (folder / inside / name).write_bytes(make()))
    return SimpleNamespace(cell="train-0a", path=folder / "record.json", folder=folder / inside, files=files)


def test_the_run_has_the_cells_id_and_is_noted(wandb: Any, tmp_path: Path):
    before = dict(os.environ)
    with wandb_run_of(cell(tmp_path), project="mine"):
        assert os.environ["WANDB_RESUME"] == "allow"
        assert os.environ["WANDB_PROJECT"] == "mine"
        assert os.environ["WANDB_DIR"] == str(tmp_path)
        wandb.init()
    assert read_wandb_run(tmp_path) == WandbRun(entity="me", project="p", id="train-0a", url="http://there")
    assert wandb.ended == [0]
    assert dict(os.environ) == before


def test_what_the_user_has_set_stays_but_the_id(wandb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("WANDB_NAME", "WANDB_DIR", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "mine")
    with wandb_run_of(cell(tmp_path)):
        assert [os.environ[f"WANDB_{name}"] for name in ("NAME", "DIR", "RUN_ID")] == ["mine", "mine", "train-0a"]


def test_a_training_that_replaces_a_result_has_a_run_of_its_own(wandb: Any, tmp_path: Path):
    with wandb_run_of(cell(tmp_path)):
        wandb.init()
    for _ in range(2):  # the second goes on with the first
        with wandb_run_of(cell(tmp_path, "retraining")):
            assert wandb.init().id == "train-0a-2"


def test_a_cell_that_is_stopped_is_preempted_and_one_that_fails_has_failed(wandb: Any, tmp_path: Path):
    def train(error: BaseException) -> None:
        with wandb_run_of(cell(tmp_path)):
            wandb.init()
            raise error

    for error in (Stopped("by a signal"), ValueError("bad")):
        with pytest.raises(type(error)):
            train(error)
    assert wandb.ended == ["preempting", 143, 1]


def test_a_run_that_is_disabled_is_none(wandb: Any, tmp_path: Path):
    with wandb_run_of(cell(tmp_path)):
        wandb.init(mode="disabled")
    assert read_wandb_run(tmp_path) is None
    assert wandb.ended == []


def test_under_an_agent_the_id_is_the_agents(wandb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    with wandb_run_of(cell(tmp_path)):
        assert os.environ["WANDB_RUN_ID"] == "theirs"
        assert "WANDB_RESUME" not in os.environ


def test_a_client_that_is_imported_later_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb.py").write_text(
        "import os, types\n"
        "run = None\n"
        "def init():\n"
        "    return types.SimpleNamespace(id=os.environ['WANDB_RUN_ID'], entity='', project='p', url=None)\n"
        "def teardown(exit_code): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    with wandb_run_of(cell(tmp_path / "cell")):
        import wandb

        wandb.init()  # type: ignore[call-arg]
    assert read_wandb_run(tmp_path / "cell") == WandbRun(entity="", project="p", id="train-0a", url="")
    assert sys.meta_path == finders
    monkeypatch.delitem(sys.modules, "wandb")
