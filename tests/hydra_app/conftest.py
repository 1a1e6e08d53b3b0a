from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from strive.cells.settings import Settings
from strive.hydra_app.cell import Options
from strive.hydra_app.compose import HydraComposer

MakeComposer = Callable[..., HydraComposer]
CONFIG = """\
defaults:
  - opt: adam
  - _self_
lr: 0.1
seed: 0
model: {width: 64, depth: 2, act: relu}
layers: [64, 64]
empty: {}
"""
OPTIONS = {
    "opt/adam.yaml": "name: adam\nlr: ${lr}\n",
    "opt/sgd.yaml": "name: sgd\nlr: 1\nmomentum: 0.9\n",
}


@pytest.fixture
def make_master(tmp_path: Path) -> Iterator[Callable[..., tuple[Any, DictConfig]]]:
    """Write an app's conf and return Hydra's loader and its config without a cell's overrides."""
    with ExitStack() as stack:

        def make(more: str = "", files: dict[str, str] | None = None) -> tuple[Any, DictConfig]:
            for name, text in {**OPTIONS, **(files or {}), "config.yaml": CONFIG + more}.items():
                path = tmp_path / "conf" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            GlobalHydra.instance().clear()
            stack.enter_context(initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"))
            loader = GlobalHydra.instance().config_loader()
            return loader, loader.load_configuration("config", [], RunMode.MULTIRUN)

        yield make


@pytest.fixture
def make_composer(make_master: Callable[..., tuple[Any, DictConfig]]) -> MakeComposer:
    def make(more: str = "", files: dict[str, str] | None = None, **options: Any) -> HydraComposer:
        return HydraComposer(*make_master(more, files), Options(settings=Settings(runs="runs"), **options))

    return make


@pytest.fixture(autouse=True)
def resolvers() -> Iterator[None]:
    """Register resolvers as an app does below `if __name__ == "__main__"`."""
    counter = iter(range(1_000_000))
    OmegaConf.register_new_resolver("mul", lambda a, b: float(a) * float(b), replace=True)
    OmegaConf.register_new_resolver("whole", lambda _root_: len(_root_), replace=True)
    OmegaConf.register_new_resolver("count", lambda: next(counter), replace=True)
    yield
    for name in ("mul", "whole", "count"):
        OmegaConf.clear_resolver(name)
