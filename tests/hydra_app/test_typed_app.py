"""A small app with a config class, written with what docs/contract.md says is public."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

import strive

FILES = {
    "tiny/__init__.py": 'from strive import app\n\napp.use("tiny.app")\n',
    "tiny/app.py": """
from dataclasses import dataclass, field
from typing import Any

import strive
from strive.app import Trainer
from strive.cells.settings import Settings
from strive.config.keys import logistics, science
from strive.hydra_app.typed import TypedApp


@dataclass
class Model:
    width: int = science(4, "units", "1 or more", check=lambda width: width >= 1)
    more: dict[str, Any] = science({}, "keys of the user's own")


@dataclass
class Config:
    model: Model = field(default_factory=Model)
    seed: int = science(0, "of the weights")
    runs: str = logistics("runs", "folder of records")


class Tiny(TypedApp):
    config_class = Config

    def cell_name(self, config):
        return "tiny"

    def settings(self, config):
        return Settings(runs=config.runs)

    def trainer(self):
        return TinyTrainer()


class TinyTrainer(Trainer):
    def train(self, config):
        strive.log(1, loss=1 / config.model.width)
        return {"test_acc": config.model.width / 10, "more": len(config.model.more)}


APP = Tiny()
""",
    "train.py": """
from hydra.core.config_store import ConfigStore

import strive
from tiny.app import APP, Config

ConfigStore.instance().store(name="config", node=Config)


@strive.main(version_base="1.3", config_path=None, config_name="config")
def main(config):
    assert isinstance(config, Config)
    return APP.trainer().run_when_free(config)


if __name__ == "__main__":
    main()
""",
}
SWEEP = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    for name, text in FILES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    return place


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "STRIVE_APP"}
    environ["PYTHONPATH"] = f"{ROOT / 'src'}:{folder}"
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)


def test_an_app_with_a_config_class_trains_one_cell_and_a_sweep_with_the_same_ids(folder: Path) -> None:
    alone = run(folder, "model.width=3")
    assert alone.returncode == 0, alone.stderr
    sweep = run(folder, *SWEEP, "model.width=2,3", "seed=0,1")
    assert "4 cells: 1 done already, 3 to train" in sweep.stderr
    assert sweep.returncode == 0, sweep.stderr
    found = strive.read_records(folder / "runs")
    assert alone.stdout.strip() in [f"runs/{record.cell}/record.json" for record in found]
    assert {(each.config["model.width"], each.config["seed"]): each.metrics["test_acc"] for each in found} == {
        (width, seed): width / 10 for width in (2, 3) for seed in (0, 1)
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.width=0", "model.width must be 1 or more, got 0"),
        ("model.widht=2", "did you mean model.width"),
        ("seed=a", "seed is: of the weights. Legal: a whole number"),
    ],
)
def test_its_keys_say_what_is_legal(folder: Path, override: str, message: str) -> None:
    for mode in ((), SWEEP):
        done = run(folder, *mode, override)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_key_that_holds_a_mapping_takes_keys_of_the_users_own(folder: Path) -> None:
    plan = run(folder, *SWEEP, "+model.more.depth=1,2", "hydra.sweeper.dry_run=true")
    assert "2 cells: 0 done already, 2 to train" in plan.stdout, plan.stderr
