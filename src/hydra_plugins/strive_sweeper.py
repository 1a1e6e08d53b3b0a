"""Hydra's side of a sweep: check every cell before the first one trains, then train what is missing."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict


@dataclass
class StriveSweeperConf:
    """Knobs of hydra.sweeper."""

    _target_: str = "hydra_plugins.strive_sweeper.StriveSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="strive", node=StriveSweeperConf, provider="strive")


class StriveSweeper(BasicSweeper):
    """Hydra's grid of overrides, as a sweep of cells."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=None)

    def sweep(self, arguments: list[str]) -> Any:
        """Compose and check all cells, then train the missing ones one after the other."""
        # torch is imported only here: --help and tab completion answer at once.
        from strive import sweep

        assert self.hydra_context is not None
        if type(self.launcher) is not BasicLauncher:
            raise HydraException(
                f"hydra/launcher is {type(self.launcher).__name__}, but cells are trained one after the other in"
                " this process so far; legal: hydra/launcher=basic"
            )
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (grid,) = self.split_arguments(parser.parse_overrides(arguments), None)
        cells = sweep.checked_cells({" ".join(each): partial(self._compose, each) for each in grid})
        sweep.report(cells, sweep.train_missing(cells))

    def _compose(self, overrides: list[str]) -> DictConfig:
        assert self.hydra_context is not None
        assert self.config is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(composed):
            del composed["hydra"]
        return composed
