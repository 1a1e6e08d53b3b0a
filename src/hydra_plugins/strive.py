"""The sweeper `strive` and the launchers `strive_local` and `strive_slurm`, for Hydra to find.

Each Hydra app in the environment imports this module at its start: it imports Hydra, the standard library and
strive.options, nothing else. Hydra would execute a second module of it twice.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from strive.options import CellOptions, LocalOptions, SlurmOptions, SweeperOptions

if TYPE_CHECKING:
    from strive.cells.task import CellOutcome
    from strive.launch.launch_folder import Launch


def _store(group: str, name: str, options: type[Any], target: str, **more: Any) -> None:
    """Store the defaults of some options, without types and open to any key.

    So a wrong value or key reaches the sweeper, which says what is legal; Hydra would end with a message of its own.
    """
    content = asdict(options()) | {"_target_": f"hydra_plugins.strive.{target}", "_convert_": "object"} | more
    store = ConfigStore.instance()
    store.store(group=group, name=name, node=content, provider="strive")
    # Opened where it lies: to make a node before the store makes one would take as long again.
    folder = store.repo
    for part in group.split("/"):
        folder = folder[part]
    OmegaConf.set_struct(folder[f"{name}.yaml"].node, False)


# The defaults make sweeps=NAME legal in every app; optional, so that the sweeper says which names there are.
_SWEEPS = [{"optional /sweeps@_global_.sweeps": None}, "_self_"]
_store("hydra/sweeper", "strive", SweeperOptions, "StriveSweeper", defaults=_SWEEPS)
_store("hydra/launcher", "strive_local", LocalOptions, "LocalLauncher")
_store("hydra/launcher", "strive_slurm", SlurmOptions, "SlurmLauncher")


if any(word.startswith(("hydra/sweeper=strive", "hydra/launcher=strive")) for word in sys.argv):
    from strive.hydra_internals import before_report

    def _end_if_ours(error: Exception) -> None:
        """Hydra reads sweep files and our options before it makes the sweeper: a mistake in them is one message."""
        from strive.hydra_app.hydra_errors import end_if_ours

        end_if_ours(error)

    before_report(_end_if_ours)

if "STRIVE_RANK_0" in os.environ:  # cells.ranks.LINK: a cell has started this process
    from strive.hydra_app.rank import follow

    follow()


class CellLauncher(Launcher):
    """A launcher of frozen cells, which hydra/sweeper=strive passes; it makes those of another sweeper's overrides."""

    name = ""

    def __init__(self, **given: Any) -> None:
        self._notifies = bool(given.pop("notify", ""))  # not kept: options are stored, and it may hold a secret
        self._given = given

    @property
    def options(self) -> CellOptions:
        """Its options; raises ConfigError for wrong ones."""
        raise NotImplementedError

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives, for `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        if self._notifies:
            from strive.launch.notify import take_target

            take_target(config)
        self.asked_overrides: list[Sequence[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the cells that another sweeper asks for, such as Hydra's basic one; return what each one returned."""
        from strive.multirun.other_sweeper import launch

        self.asked_overrides += job_overrides
        return launch(self, job_overrides)

    def train(self, launch: "Launch", waiting: Mapping[str, str]) -> "dict[str, CellOutcome]":
        """Train the cells and return the outcome of each. waiting: {cell: SLURM job} of those in a queue."""
        raise NotImplementedError

    def continue_after(self, jobs: Sequence[str], plan_folder: Any) -> None:
        """Schedule this same command to run again after these jobs have ended."""
        raise NotImplementedError


class LocalLauncher(CellLauncher):
    """Trains cells in worker processes on this machine."""

    name = "local"

    @cached_property
    def options(self) -> LocalOptions:
        """Its options; raises ConfigError for wrong ones."""
        return LocalOptions.of(self._given)

    def train(self, launch: "Launch", waiting: Mapping[str, str]) -> "dict[str, CellOutcome]":
        """Train on this machine, or store the cells for `strive work` where hydra.launcher.detach=true."""
        from strive import app
        from strive.launch.local import train_locally

        if self.options.detach:
            app.in_use().prepare(launch.folder)
            return {}
        return train_locally(launch, [task for task in launch.tasks if task.cell not in waiting], self.options)


class SlurmLauncher(CellLauncher):
    """Trains cells as jobs on a SLURM cluster."""

    name = "slurm"

    @cached_property
    def options(self) -> SlurmOptions:
        """Its options; raises ConfigError for wrong ones, and where a package is missing."""
        from importlib.util import find_spec

        from strive.errors import ConfigError

        if find_spec("submitit") is None:
            raise ConfigError(
                f"hydra/launcher=strive_{self.name} needs a package that is not installed: pip install submitit"
            )
        return SlurmOptions.of(self._given)

    def train(self, launch: "Launch", waiting: Mapping[str, str]) -> "dict[str, CellOutcome]":
        """Submit jobs, and wait for them unless hydra.launcher.detach=true."""
        from strive.slurm.train_on_slurm import train_on_slurm

        return train_on_slurm(launch, waiting, self.options)

    def continue_after(self, jobs: Sequence[str], plan_folder: Any) -> None:
        """Submit a job that depends on these jobs; it uses the current code and conf/."""
        import sys

        from strive.console import CONSOLE
        from strive.slurm.jobs import continue_command

        job = continue_command(sys.argv[1:], plan_folder, self.options, after=jobs)
        CONSOLE.print(f"SLURM job {job} starts this command again when they have ended")


class StriveSweeper(Sweeper):
    """Plans all cells of a sweep, from a sweep file or a grid of overrides, and trains the missing ones."""

    def __init__(self, **given: Any) -> None:
        self._given = given
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.launcher: Launcher | None = None

    @cached_property
    def options(self) -> SweeperOptions:
        """Its options; raises ConfigError for wrong ones."""
        return SweeperOptions.of(self._given)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives, and create the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan all cells and, unless it is a dry run, train the missing ones."""
        from strive.multirun.sweeping import sweep

        sweep(self, arguments)
