"""Hydra's side of a sweep: check every cell before the first one trains, then train what is missing."""

from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
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
        from strive.identity import cell_id
        from strive.progress import CONSOLE

        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (grid,) = self.split_arguments(parser.parse_overrides(arguments), None)
        overrides = {" ".join(each): each for each in grid}
        cells = sweep.checked_cells([(text, self._compose(each)) for text, each in overrides.items()])
        todo = sweep.missing(cells)
        for number, (text, config) in enumerate(todo):
            CONSOLE.print(f"[{number + 1}/{len(todo)}] {cell_id(config)}")
            # One at a time, to count them: Hydra's basic launcher trains in this process.
            self.launcher.launch([overrides[text]], initial_job_idx=number)
        sweep.report(cells)

    def _compose(self, overrides: list[str]) -> DictConfig:
        assert self.hydra_context is not None
        assert self.config is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(composed):
            del composed["hydra"]
        return composed
