"""Hydra plugins for the launchers: hydra/launcher=local and hydra/launcher=slurm."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from strive.cells.task import CellOutcome
from strive.console import CONSOLE
from strive.errors import ConfigError
from strive.launch.local import LocalOptions, train_locally
from strive.launch.submission import Submission
from strive.slurm.options import SlurmOptions
from strive.trackers.session import check_wandb


@dataclass
class LocalConf(LocalOptions):
    """Options of hydra/launcher=local."""

    _target_: str = "hydra_plugins.strive_launchers.LocalLauncher"
    _convert_: str = "object"


@dataclass
class SlurmConf(SlurmOptions):
    """Options of hydra/launcher=slurm."""

    _target_: str = "hydra_plugins.strive_launchers.SlurmLauncher"
    _convert_: str = "object"


def _slurm_conf() -> DictConfig:
    conf = OmegaConf.structured(SlurmConf)
    # sbatch's options depend on the cluster, so any key is allowed without a +.
    OmegaConf.set_struct(conf.additional_parameters, False)
    return conf


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="strive")
ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=_slurm_conf(), provider="strive")


class CellLauncher(Launcher):
    """A launcher that trains frozen cells, which hydra.sweeper=strive passes instead of lists of overrides."""

    name = ""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing: Hydra calls this, but frozen cells need no set-up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse to work for another sweeper."""
        raise CompactHydraException(  # printed without a stack trace, even under another app
            f"hydra/launcher={self.name} works with hydra/sweeper=strive;"
            " for another sweeper take Hydra's own hydra/launcher=basic or submitit_slurm"
        )

    def train(self, submission: Submission, *, title: str) -> dict[str, CellOutcome]:
        """Train the cells and return the outcome of each."""
        raise NotImplementedError

    def continue_after(self, jobs: Sequence[str], plan_folder: Path) -> None:
        """Schedule this same command to run again after these jobs have ended."""
        raise NotImplementedError


class LocalLauncher(CellLauncher):
    """Trains cells in worker processes on this machine."""

    name = "local"

    def __init__(self, **options: Any) -> None:
        self.options = LocalOptions(**_known(LocalOptions, options))
        self.options.check()

    def train(self, submission: Submission, *, title: str) -> dict[str, CellOutcome]:
        """Train on this machine."""
        return train_locally(submission, self.options, title=title)


class SlurmLauncher(CellLauncher):
    """Trains cells as jobs on a SLURM cluster."""

    name = "slurm"

    def __init__(self, **options: Any) -> None:
        self.options = SlurmOptions(**_known(SlurmOptions, options))
        self.options.check()
        if find_spec("submitit") is None:
            raise ConfigError("hydra/launcher=slurm needs a package that is not installed: pip install submitit")

    def train(self, submission: Submission, *, title: str) -> dict[str, CellOutcome]:
        """Submit jobs, and wait for them unless hydra.launcher.detach=true."""
        from strive.slurm.launcher import train_on_slurm

        check_wandb([task.settings.tracker.kind for task in submission.tasks], CONSOLE.print)
        return train_on_slurm(submission, self.options, title=title, waiting=submission.waiting)

    def continue_after(self, jobs: Sequence[str], plan_folder: Path) -> None:
        """Submit a job that depends on these jobs; it uses the current code and conf/."""
        from strive.slurm.launcher import continue_command

        job = continue_command(sys.argv[1:], plan_folder, self.options, after=jobs)
        CONSOLE.print(f"SLURM job {job} starts this command again when they have ended")


def _known(options: type, given: dict[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(options)}
    return {name: value for name, value in given.items() if name in names}
