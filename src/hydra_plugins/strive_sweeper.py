"""Hydra plugin for the sweeper: plans every cell before training the missing ones."""

import importlib.resources
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from hydra.plugins.config_source import ConfigSource
from omegaconf import OmegaConf

from hydra_plugins.strive_launchers import CellLauncher, SlurmLauncher
from strive import app
from strive.config.error_text import no_text
from strive.console import CONSOLE
from strive.errors import ConfigError, ExternalError
from strive.sweeps.plan import Retrain

if TYPE_CHECKING:
    from strive.sweeps.planner import Planner
    from strive.sweeps.sweep_file import Sweep


@dataclass
class StriveSweeperConf:
    """Options of hydra.sweeper."""

    _target_: str = "hydra_plugins.strive_sweeper.StriveSweeper"
    dry_run: bool = False  # print the plan and train nothing
    retrain: Retrain = Retrain.failed  # none, failed, stale or all; each kind includes the one before it
    parents: bool = False  # first train the cells of other sweeps that values of this one are chosen from
    max_gpu_hours: float | None = None  # refuse a plan that takes longer


ConfigStore.instance().store(group="hydra/sweeper", name="strive", node=StriveSweeperConf, provider="strive")

_PAUSES = (5.0, 10.0, 20.0, 40.0)  # between two attempts to query a SLURM that does not answer


class StriveSweeper(BasicSweeper):
    """A sweep of cells, from a sweep file or from a grid of overrides."""

    def __init__(self, dry_run: bool, retrain: Retrain, parents: bool, max_gpu_hours: float | None) -> None:
        super().__init__(max_batch_size=None)
        self.dry_run, self.retrain, self.parents, self.max_gpu_hours = dry_run, retrain, parents, max_gpu_hours

    def sweep(self, arguments: list[str]) -> Any:
        """Plan all cells and, unless it is a dry run, train the missing ones."""
        # Hydra prints compact errors without a stack trace, even under another app.
        if OmegaConf.get_type(self.config) is not app.current().Config:
            raise CompactHydraException(
                "hydra/sweeper=strive trains the cells of strive's own src/run.py, and this app is another;"
                " legal here: hydra/sweeper=basic hydra/launcher=basic, or those of other packages"
            )
        if not isinstance(self.launcher, CellLauncher):
            raise CompactHydraException(
                f"hydra/launcher is {type(self.launcher).__name__}, which trains overrides, not frozen cells;"
                " legal: hydra/launcher=local, hydra/launcher=slurm, or hydra/sweeper=basic with Hydra's own launchers"
            )
        # torch is imported only here, so that --help and tab completion respond at once.
        from strive.decide.run_sweep import SweepRun

        name, rest = _sweep_name(arguments)
        sweeping = SweepRun(
            self._planner(),
            self.launcher,
            dry_run=self.dry_run,
            parents=self.parents,
            max_gpu_hours=self.max_gpu_hours,
        )
        sweeping.run(rest, self._read_sweep(name) if name else None)

    def _planner(self) -> "Planner":
        from strive.sweeps.compose import Composer
        from strive.sweeps.planner import Planner

        assert self.hydra_context is not None
        assert self.config is not None
        composer = Composer(self.hydra_context.config_loader, self.config)
        return Planner(composer, self._read_sweep, retrain=self.retrain, queued=self._queued)

    def _queued(self, runs: Path) -> dict[str, str]:
        from strive.errors import NoSlurmError
        from strive.slurm.jobs import live_cells

        pauses = iter(_PAUSES)
        while True:
            try:
                return live_cells(runs)
            except ExternalError as error:
                if not isinstance(self.launcher, SlurmLauncher):
                    CONSOLE.print(f"what earlier launches have in SLURM's queue is not known: {error}")
                    return {}
                pause = next(pauses, None)
                if pause is None or isinstance(error, NoSlurmError):
                    raise
                CONSOLE.print(f"{error}; asked again in {pause:g} s")
                time.sleep(pause)

    def _read_sweep(self, name: str) -> "Sweep":
        from strive.sweeps.sweep_file import parse_sweep

        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        legal = loader.get_group_options("sweeps")
        if name not in legal:
            raise ConfigError(f"sweeps={name}: there is no sweeps/{name}.yaml; legal: {', '.join(legal)}")
        # A sweep file is plain YAML without a defaults list, so its text is parsed directly.
        return parse_sweep(name, _text_of(loader.repository.get_sources(), f"sweeps/{name}"))  # type: ignore[attr-defined]


def _text_of(sources: Sequence[ConfigSource], key: str) -> str:
    """Return the text of the first file with this name on Hydra's search path."""
    source = next(each for each in sources if each.is_config(key))
    folder = importlib.resources.files(source.path) if source.scheme() == "pkg" else Path(source.path)
    file = folder.joinpath(f"{key}.yaml")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:  # in a file that another sweep chooses from
        raise ConfigError(no_text(file, error)) from None


def _sweep_name(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return NAME from sweeps=NAME ("" if there is none), and the other overrides."""
    names = [text.partition("=")[2] for text in arguments if text.partition("=")[0] == "sweeps"]
    rest = [text for text in arguments if text.partition("=")[0] != "sweeps"]
    if not names:
        return "", rest
    name = names[-1]
    if "," in name or "(" in name:
        raise ConfigError(f"sweeps={name}: one sweep at a time; start a command for each")
    return name, rest
