"""The program whose cells are run: what the platform asks of it, and how it is found."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from strive.cells.settings import Settings
    from strive.cells.task import Task
    from strive.code.hash import Code
    from strive.sweeps.compose import Composer
    from strive.sweeps.labels import Labels

APP = "STRIVE_APP"  # names the app's module to all that a process starts
ANY_HYDRA_APP = "strive.hydra_app.app"


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFacts:
    """What is known of a cell before it is trained; 0: it is not known."""

    num_train: int = 0  # training examples in an epoch
    flops: int = 0  # of the net's forward pass of one of them; a multiply-add is two


class App:
    """What the platform asks of the program whose cells are run: attribute APP of the app's module.

    An app overrides what it knows; what stands here is true of an app that says no more. Of an app whose keys are
    declared in a dataclass hydra_app.typed.TypedApp knows most. Importing the module imports nothing heavy.

    config: an object of the app's own class. flat: {dotted key: JSON value} of a config, or of a record.
    record: a `cells.records.Record`.
    """

    config_class: Any = None  # the dataclass of its configs; None: they are Hydra's mappings
    seed: str = "seed"  # the key that makes replicates: cells that differ in it alone
    side_by_side: bool = False  # whether one process can train several cells at once

    # -- the keys of its configs

    def defaults(self) -> Mapping[str, Any]:
        """Return {dotted key: default} of the keys that cells have."""
        return {}

    def groups(self) -> Sequence[str]:
        """Return the keys that hold other keys, such as optimizer, and the config groups."""
        return ()

    def decides(self, key: str) -> bool:
        """Return whether a key determines a cell's numbers (science)."""
        return True

    def absent(self) -> Mapping[str, Any]:
        """Return {key: value}: a key that decides, but with this value is no part of a cell's identity."""
        return {}

    def is_open(self, key: str) -> bool:
        """Return whether a key may be given although not every cell has it."""
        return True

    def meaning_of(self, key: str) -> tuple[type, str, str] | None:
        """Return (type, meaning, legal range) of a key, None if that is not declared."""
        return None

    def recorded_value(self, key: str, value: Any) -> Any:
        """Return a value of a sweep file as `flat` would have it; raises OmegaConf's errors for another type."""
        return value

    def labels(self) -> "Labels":
        """Return the app's own words for its keys, values and metrics."""
        from strive.sweeps.labels import PLAIN

        return PLAIN

    # -- a cell's config

    def composer(self, loader: Any, master: Any) -> "Composer":
        """Return what composes cells.

        loader: Hydra's config loader. master: the config without a cell's overrides.
        """
        raise NotImplementedError

    def flat(self, config: Any) -> dict[str, Any]:
        """Return every key of a config as {dotted key: JSON value}."""
        raise NotImplementedError

    def science(self, config: Any) -> dict[str, Any]:
        """Return the part of `flat` that determines the numbers."""
        from strive.config.identity import without

        return without(self.absent(), {key: value for key, value in self.flat(config).items() if self.decides(key)})

    def config_of(self, flat: Mapping[str, Any]) -> Any:
        """Return the config from which `flat` was made, without importing code of the user's.

        Raises ConfigError if it is not legal.
        """
        raise NotImplementedError

    def checked(self, config: Any) -> Any:
        """Return the config with each value in its one spelling; raises ConfigError with a line for each wrong one."""
        return config

    def filled_in(self, config: Any) -> Any:
        """Return the config with the defaults of the user's own code, as its signature has them; itself if no change.

        What is wrong stays as it is: `checked` says so.
        """
        return config

    def cell_name(self, config: Any) -> str:
        """Return the readable part of a cell's id. Cells whose names begin with one word may train equally fast."""
        return "cell"

    def epochs(self, config: Any) -> int:
        """Return how many epochs the cell trains; 0: it is not known."""
        return 0

    def settings(self, config: Any) -> "Settings":
        """Return where the cell's record goes, and its device, threads, lease, tracker and resources."""
        from strive.cells.settings import Settings

        return Settings(runs="runs")

    # -- before a cell trains

    def code_of(self, flat: Mapping[str, Any], files: Mapping[str, str] | None = None) -> "Code":
        """Return the code here that trains a cell; with hash "" where that is not known before it trains.

        flat: at least what determines the numbers; {}: what all cells share. files: of the cell's record.
        """
        from strive.code.hash import Code

        return Code("", {})

    def facts(self, config: Any) -> CellFacts:
        """Return how much there is to train; raises ConfigError for what cannot train. Trains nothing."""
        return CellFacts()

    def data_key(self, flat: Mapping[str, Any]) -> str:
        """Return a text that is equal for cells that load the same data from the same place."""
        return ""

    def pack_key(self, flat: Mapping[str, Any]) -> str:
        """Return a text that is equal for cells that have equal facts and can train side by side in one process."""
        return ""

    def plan_notes(self, configs: Sequence[Any]) -> list[str]:
        """Return what a plan says of its cells besides, a line each: the data that is found, what is logistics."""
        return []

    def other_data(self, config: Any, record: Any) -> str | None:
        """Return why the data on disk is not what a record was trained on, "" where it is, None where none is there."""
        return None

    # -- a launch

    def start(self) -> dict[str, Any]:
        """Return how the program is started where workers have to become it; {} if they import the app's module."""
        return {}

    def prepare(self, folder: Path, copied: Callable[[Path], Path] | None = None) -> dict[str, str]:
        """Write what workers need into the folder of a launch; return variables of their environment.

        copied: copies a folder of code for workers that start later, and returns the copy.
        """
        return {}

    def frozen(self, config: Any) -> dict[str, str]:
        """Return what of_task needs of a config besides its keys."""
        return {}

    # -- where it trains

    def inside(self, work: Callable[[], None]) -> None:
        """Call work where the app's functions can run: at once, or after becoming the program that the user started."""
        work()

    def of_task(self, task: "Task", threads: int = 0) -> Any:
        """Return the config of a task, ready to train; raises ConfigError if it is not one of this version.

        threads: CPU threads of the worker, for a cell that does not say how many it takes; 0: this is no worker.
        """
        return self.config_of(task.flat)

    def logistics_of(self, record: Any) -> dict[str, Any]:
        """Return {key: value} that trains a record's cell as it was trained, as far as this machine can."""
        return {}

    def surroundings(self, config: Any) -> dict[str, Any]:
        """Return what a cell's record would say here of device, threads and arithmetic, by field of Provenance."""
        return {}

    def trainer(self) -> "Trainer":
        """Return what trains cells in this process; may take seconds to import."""
        raise NotImplementedError


class Pack(Protocol):
    """Cells that train side by side in this process, an epoch of all of them at a time."""

    room: int  # most cells at once
    measured: int  # how many at once were tried

    def __len__(self) -> int:
        """Return how many train."""

    def add(self, config: Any, *, replaces: str = "", fence: str = "") -> None:
        """Take a cell in; it trains from the next epoch on. A done cell is left alone.

        replaces: sha256 of the record file to train again; any other finished record is left alone.
        fence: the token of a lease on the cell whose process is gone.
        """

    def run_epoch(self) -> None:
        """Train all cells to the end of their epoch, and end those that have no more to train."""


class Trainer:
    """What trains an app's cells in this process: one at a time, and nothing is known of the process after an error."""

    fresh_process = False  # whether each cell has a process of its own

    def train(self, config: Any) -> Any:
        """Train the cell that this process is in, with strive.log, save and load; return its metrics."""
        raise NotImplementedError

    def run_cell(self, config: Any, *, replaces: str = "", fence: str = "") -> Any:
        """Train one cell, or go on with it, and return its record. replaces, fence: as for Pack.add.

        Raises what a pack's on_ended gets as an error.
        """
        from strive.cells.cell_run import CellRun

        with CellRun.of(config, replaces=replaces, fence=fence) as run:
            run.run(lambda: self.train(config))
            return run.report()

    def run_when_free(self, config: Any) -> Any:
        """Train one cell as `run_cell` does, after waiting for another process that trains it to end."""
        from strive.cells.settings import settings_of
        from strive.cells.waiting import run_when_free
        from strive.config.identity import cell_id

        folder = Path(settings_of(config).runs) / cell_id(config)
        return run_when_free(folder, lambda fence: self.run_cell(config, fence=fence))

    def pack(self, on_ended: Callable[[str, Any], object], *, room: int = 0) -> Pack:
        """Return an empty pack. on_ended: gets each cell's id once, with its record or with one of these errors.

        ConfigError or RecordError for what a user must put right first, LeasedError while another process
        trains the cell, StoppedError when a signal asked to stop, NoRoomError, and LostLeaseError when another
        process took the cell over.
        room: most cells at once; 0: as many as are fastest, found out when two or more are there.
        """
        from strive.cells.serial_pack import SerialPack

        def run(config: Any, replaces: str, fence: str) -> Any:
            return self.run_cell(config, replaces=replaces, fence=fence)

        return SerialPack(run, on_ended)

    def seen(self, config: Any) -> dict[str, str | int]:
        """Return device, threads, layout and torch, for the record of a cell whose process dies."""
        return {}

    def no_gpu(self, gpu: str) -> str:
        """Return why this process cannot use the GPU that it was given, "" if it can."""
        return ""

    def is_spoilt(self, *, alone: bool) -> bool:
        """Return whether this process is not to train on after a cell's error. alone: no other trains in it."""
        return True

    def free_memory(self) -> None:
        """Give back the memory of cells that have ended."""


def use(module: str) -> None:
    """Make a module the app of this process and of those that it starts."""
    os.environ[APP] = module


def has_named_itself() -> bool:
    """Return whether the app in use is a module of its own, and not the program that a user has started."""
    return os.environ.get(APP, ANY_HYDRA_APP) != ANY_HYDRA_APP


def sources() -> list[str]:
    """Return the folder that the module in use was imported from, for other processes; [] if it is installed."""
    top = sys.modules.get(os.environ.get(APP, "").partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None or not has_named_itself():
        return []
    folder = Path(file).resolve().parents[1 if hasattr(top, "__path__") else 0]
    return [] if {"site-packages", "dist-packages"} & {*folder.parts} else [str(folder)]


def in_use() -> App:
    """Return the app in use: any Hydra app, unless one has named itself."""
    return _app(os.environ.get(APP) or ANY_HYDRA_APP)


@cache
def _app(module: str) -> App:
    return cast(App, importlib.import_module(module).APP)
