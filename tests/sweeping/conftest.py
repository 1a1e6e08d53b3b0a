from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from support import ROOT, SMALL, MakePlan

from strive.config import Config, ConfigError
from strive.sweeping.compose import Composer
from strive.sweeping.plan import Plan
from strive.sweeping.planner import Planner
from strive.sweeping.sweepfile import Sweep, parse_sweep, read_sweep


@pytest.fixture
def composer() -> Iterator[Composer]:
    """Hydra's composition of conf/, as the sweeper has it."""
    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        yield Composer(loader, master)


@pytest.fixture
def make_plan(composer: Composer, tmp_path: Path) -> MakePlan:
    """Plan small cells on digits; `sweeps` are sweep files by name, the first is the one to plan."""

    def make(*arguments: str, sweeps: Mapping[str, Any] | None = None, **options: object) -> Plan:
        files: dict[str, Sweep] = {
            name: parse_sweep(name, content) if isinstance(content, str) else read_sweep(name, content)
            for name, content in (sweeps or {}).items()
        }

        def read(name: str) -> Sweep:
            if name not in files:
                raise ConfigError(f"sweeps={name}: there is no sweeps/{name}.yaml")
            return files[name]

        planner = Planner(composer, read, **options)  # type: ignore[arg-type]
        first = next(iter(files.values())) if files else None
        return planner.plan([*SMALL, f"runs={tmp_path / 'runs'}", *arguments], first)

    return make
