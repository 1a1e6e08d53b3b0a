"""The sweeper `strive` and the launchers `strive_local` and `strive_slurm`, for Hydra to find.

Each Hydra app in the environment imports this module at its start: it imports Hydra, the standard library and
strive.options, nothing else. Hydra would execute a second module of it twice.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override

from strive.options import LocalOptions, SlurmOptions, SweeperOptions

if TYPE_CHECKING:
    from strive.cells.task import CellOutcome
    from strive.launch.submission import Submission


def _store(group: str, name: str, options: type, more: dict[str, Any], *open_keys: str) -> None:
    """Store a typed config. more: what Hydra needs besides the options. open_keys: take any key without a +."""
    store = ConfigStore.instance()
    store.store(group=group, name=name, node=options, provider="strive")
    # Completed where it lies: the store types what it is given, and to type it before that would take as long again.
    folder = store.repo
    for part in group.split("/"):
        folder = folder[part]
    conf = folder[f"{name}.yaml"].node
    with flag_override(conf, "struct", False):
        for key, value in more.items():
            conf[key] = value
    for key in open_keys:
        OmegaConf.set_struct(conf[key], False)


# Keys of earlier versions have to reach the launcher, which names the new ones.
_EARLIER = {"cells_per_device": None, "cpus_per_task": None}
_store(
    "hydra/sweeper",
    "strive",
    SweeperOptions,
    {
        "_target_": "hydra_plugins.strive.StriveSweeper",
        # Makes sweeps=NAME legal in every app, or Hydra would refuse the key before there is a sweeper.
        "defaults": [{"/sweeps@_global_.sweeps": None}, "_self_"],
    },
    "absent",
)
_store(
    "hydra/launcher",
    "strive_local",
    LocalOptions,
    {"_target_": "hydra_plugins.strive.LocalLauncher", "_convert_": "object"} | _EARLIER,
    "sweeper",
)
_store(
    "hydra/launcher",
    "strive_slurm",
    SlurmOptions,
    {"_target_": "hydra_plugins.strive.SlurmLauncher", "_convert_": "object"} | _EARLIER,
    "additional_parameters",  # sbatch's options depend on the cluster
    "sweeper",
)


if "STRIVE_RANK_0" in os.environ:  # cells.ranks.LINK: a cell has started this process
    from strive.hydra_app.rank import follow

    follow()


class CellLauncher(Launcher):
    """A launcher of frozen cells, which hydra/sweeper=strive passes; it makes those of another sweeper's overrides."""

    name = ""
    options: Any

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives, for `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launched: list[Sequence[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the cells that another sweeper asks for, such as Hydra's basic one; return what each one returned."""
        from strive.decide.other_sweeper import launch

        self.launched += job_overrides
        return launch(self, job_overrides)

    def train(self, submission: "Submission", *, title: str) -> "dict[str, CellOutcome]":
        """Train the cells and return the outcome of each."""
        raise NotImplementedError

    def continue_after(self, jobs: Sequence[str], plan_folder: Any) -> None:
        """Schedule this same command to run again after these jobs have ended."""
        raise NotImplementedError


class LocalLauncher(CellLauncher):
    """Trains cells in worker processes on this machine."""

    name = "local"

    def __init__(self, **options: Any) -> None:
        self.options = LocalOptions.of(options)

    def train(self, submission: "Submission", *, title: str) -> "dict[str, CellOutcome]":
        """Train on this machine, or store the cells for `strive work` where hydra.launcher.detach=true."""
        from strive import app
        from strive.launch.local import train_locally

        if self.options.detach:
            app.current().prepare(submission.folder)
            return {}
        return train_locally(submission, self.options, title=title)


class SlurmLauncher(CellLauncher):
    """Trains cells as jobs on a SLURM cluster."""

    name = "slurm"

    def __init__(self, **options: Any) -> None:
        from importlib.util import find_spec

        from strive.errors import ConfigError

        self.options = SlurmOptions.of(options)
        if find_spec("submitit") is None:
            raise ConfigError(
                f"hydra/launcher=strive_{self.name} needs a package that is not installed: pip install submitit"
            )

    def train(self, submission: "Submission", *, title: str) -> "dict[str, CellOutcome]":
        """Submit jobs, and wait for them unless hydra.launcher.detach=true."""
        from strive.slurm.launcher import train_on_slurm

        return train_on_slurm(submission, self.options, title=title, waiting=submission.waiting)

    def continue_after(self, jobs: Sequence[str], plan_folder: Any) -> None:
        """Submit a job that depends on these jobs; it uses the current code and conf/."""
        import sys

        from strive.console import CONSOLE
        from strive.slurm.launcher import continue_command

        job = continue_command(sys.argv[1:], plan_folder, self.options, after=jobs)
        CONSOLE.print(f"SLURM job {job} starts this command again when they have ended")


class StriveSweeper(Sweeper):
    """Plans all cells of a sweep, from a sweep file or a grid of overrides, and trains the missing ones."""

    def __init__(self, **options: Any) -> None:
        self.options = SweeperOptions.of(options)
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives, and create the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan all cells and, unless it is a dry run, train the missing ones."""
        if not isinstance(self.launcher, CellLauncher):
            raise CompactHydraException(
                f"hydra/launcher is {type(self.launcher).__name__}, which trains overrides, not frozen cells; legal:"
                " hydra/launcher=strive_local, hydra/launcher=strive_slurm, or hydra/sweeper=basic with Hydra's own"
                " launchers"
            )
        from strive.decide.sweeping import sweep

        sweep(self, arguments)
