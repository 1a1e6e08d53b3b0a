import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from support import ROOT, SMALL

from allcnn.config import Config
from allcnn.training_pack import run_cell
from strive.config.schema import to_config


@pytest.fixture(scope="session")
def digits_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small trained cell, which nobody changes."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        # Without the ReLU behind the class convolution it learns something in seconds.
        choices = ("model.class_relu=false", "model.batch_norm=true", "optimizer.lr=0.02", "tracker=none")
        config = to_config(compose("config", [*SMALL, *choices, f"runs={runs}"]))
    return runs / run_cell(config).cell


@pytest.fixture
def own_cell(digits_cell: Path, tmp_path: Path) -> Path:
    """A copy of it, in a runs folder of its own."""
    return shutil.copytree(digits_cell, tmp_path / "runs" / digits_cell.name)
