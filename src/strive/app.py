"""The program whose cells are run: what the platform asks of it, and how it is found."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from strive.cells.settings import Settings
    from strive.cells.task import Task
    from strive.code.hash import Code
    from strive.sweeps.compose import Composer

APP = "STRIVE_APP"  # names the app's module to all that a process starts
ANY_HYDRA_APP = "strive.hydra_app.app"


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFacts:
    """What is known of a cell before it is trained."""

    num_train: int  # training examples in an epoch
    flops: int  # of the net's forward pass of one of them; a multiply-add is two


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLayout:
    """What the table of results on the terminal shows of an app's cells besides the keys that vary."""

    label: str = ""  # heading of `App.label`; "": no such column
    in_label: tuple[str, ...] = ()  # keys that the label says already
    title: Mapping[str, str] = field(default_factory=dict)  # {word: key} in the title if all cells share its value
    metrics: tuple[str, ...] = ()  # columns; (): those of the records


class App(Protocol):
    """What the platform asks of an app's module, such as allcnn.app. Importing it imports nothing heavy.

    config: an object of the app's own class Config.
    record: a `cells.records.Record`.
    """

    # -- a cell's config
    Config: Any  # the dataclass of a typed config; None: Hydra's mapping
    CODE: str  # the module that reaches all that decides numbers; "": what a cell's process imported
    NO_CODE: frozenset[str]  # modules that it reaches as well, but where nothing is computed
    SIDE_BY_SIDE: bool  # whether one process can train several cells at once
    TABLE: TableLayout
    DATA_PLACES: tuple[str, ...]  # logistics keys that say where a cell's data lies

    def defaults(self) -> Mapping[str, Any]:
        """Return {dotted key: default} of the keys that cells have."""

    def groups(self) -> Sequence[str]:
        """Return the keys that hold other keys, such as optimizer, and the config groups."""

    def decides(self, key: str) -> bool:
        """Return whether a key determines a cell's numbers (science)."""

    def absent(self) -> Mapping[str, Any]:
        """Return {key: value}: a key that decides, but with this value is no part of a cell's identity."""

    def is_open(self, key: str) -> bool:
        """Return whether a key may be given although not every cell has it."""

    def typed_key(self, key: str) -> str:
        """Return a key as Hydra's command line takes it: with ++ where it may be missing in the config."""

    def meaning_of(self, key: str) -> tuple[type, str, str] | None:
        """Return (type, meaning, legal range) of a key, None if that is not declared."""

    def recorded_value(self, key: str, value: Any) -> Any:
        """Return a value of a sweep file as `flat` would have it; raises OmegaConf's errors for another type."""

    def composer(self, loader: Any, master: Any) -> "Composer":
        """Return what composes cells.

        loader: Hydra's config loader. master: the config without a cell's overrides.
        """

    def flat(self, config: Any) -> dict[str, Any]:
        """Return every key of a config as {dotted key: JSON value}."""

    def science(self, config: Any) -> dict[str, Any]:
        """Return the part of `flat` that determines the numbers."""

    def config_of(self, flat_config: Mapping[str, Any]) -> Any:
        """Return the config from which `flat` was made; raises ConfigError if it is not legal."""

    def checked(self, config: Any) -> Any:
        """Return the config with each value in its one spelling; raises ConfigError with a line for each wrong one."""

    def filled_in(self, config: Any) -> Any:
        """Return the config with all arguments of the user's own code, as its signature fills them in."""

    def as_recorded(self, config: Any) -> Any:
        """Return the config of the cell that a checked one names; raises ConfigError for what it does not take."""

    def as_called(self, config: Any) -> Any:
        """Return a frozen config with its values as the user's own code takes them: JSON has no infinity, no tuples."""

    def code_of(self, config: Any) -> "Code":
        """Return the code here that trains a cell; with hash "" where that is not known before it trains."""

    def cell_name(self, config: Any) -> str:
        """Return the readable part of a cell's id."""

    def label(self, config: Any) -> str:
        """Return what a cell is called in a table."""

    def epochs(self, config: Any) -> int:
        """Return how many epochs the cell trains."""

    def speed_group(self, config: Any) -> str:
        """Return how the ids of cells begin that train about as fast."""

    def settings(self, config: Any) -> "Settings":
        """Return where the cell's record goes, and its device, threads, lease, tracker and resources."""

    def for_worker(self, config: Any, threads: int) -> Any:
        """Return the config with so many CPU threads unless it says how many; its worker shows no progress line."""

    # -- before it trains
    def facts(self, config: Any) -> CellFacts:
        """Return how much there is to train; raises ConfigError for what cannot train. Trains nothing."""

    def facts_key(self, config: Any) -> str:
        """Return a text that is equal for cells with equal facts."""

    def data_of(self, config: Any) -> str:
        """Return a text that is equal for cells whose data lies at one place."""

    def data_key(self, config: Mapping[str, Any]) -> str:
        """Return a text that is equal for cells that load the same data; config: as identity.flat."""

    def plan_notes(self, configs: Sequence[Any]) -> list[str]:
        """Return what a plan says of its cells besides, a line each: the data that is found, what is logistics."""

    def other_data(self, config: Any, record: Any) -> str | None:
        """Return why the data on disk is not what a record was trained on, "" where it is, None where none is there."""

    def pack_key(self, config: Mapping[str, Any]) -> str:
        """Return a text that is equal for cells that can train side by side in one process; config: as flat."""

    def code_now(self, config: Any, files: Mapping[str, str]) -> "Code":
        """Return the code here that would train a cell of whose record these were the files."""

    def frozen(self, config: Any) -> dict[str, str]:
        """Return what of_task needs of a config beside its keys, {} if nothing."""

    def prepare(self, folder: Path, copied: Callable[[Path], Path] | None = None) -> dict[str, str]:
        """Write what workers need into the folder of a launch; return variables of their environment.

        copied: copies a folder of code for workers that start later, and returns the copy.
        """

    def seed_key(self) -> str:
        """Return the key that makes replicates: cells that differ in it alone."""

    def start(self) -> dict[str, Any]:
        """Return how the app's program is started, for a plan; {} for one that is imported."""

    def command(self, code: Path | None) -> list[str]:
        """Return what stands behind `python` to start the app. code: a folder of frozen code, if there is one."""

    # -- where it trains
    def inside(self, work: Callable[[], None]) -> None:
        """Call work where the app's functions can run: at once, or after becoming the program that the user started."""

    def of_task(self, task: "Task") -> Any:
        """Return the config of a task; raises ConfigError if it is not one of this version."""

    def surroundings(self, config: Any) -> dict[str, Any]:
        """Return what a cell's record would say here of device, threads and arithmetic, by field of Provenance."""

    def device_key(self, device: str) -> str:
        """Return the value of trainer.device for the device of a record, if it is here."""

    def trainer(self) -> "Trainer":
        """Return what trains cells in this process; may take seconds to import."""


class Pack(Protocol):
    """Cells that train side by side in this process, an epoch of all of them at a time."""

    room: int  # most cells at once
    measured: int  # how many at once were tried

    def __len__(self) -> int:
        """Return how many train."""

    def add(self, config: Any, *, replaces: str = "", fence: str = "") -> None:
        """Take a cell in; it trains from the next epoch on. A done cell is left alone.

        replaces: sha256 of the record file to train again; any other finished record is left alone.
        fence: the token of a dead process's lease on the cell.
        """

    def run_epoch(self) -> None:
        """Train all cells to the end of their epoch, and end those that have no more to train."""


class Trainer(Protocol):
    """What trains an app's cells in this process."""

    @property
    def fresh_process(self) -> bool:
        """Return whether each cell has a process of its own."""

    def run_cell(self, config: Any, *, replaces: str = "", fence: str = "") -> Any:
        """Train one cell, or go on with it, and return its record. replaces, fence: as for Pack.add.

        Raises what a pack's on_ended gets as an error.
        """

    def Pack(self, on_ended: Callable[[str, Any], object], *, room: int = 0) -> Pack:
        """Return an empty pack. on_ended: gets each cell's id once, with its record or with one of these errors.

        ConfigError or RecordError for what a user must put right first, LeasedError while another process
        trains the cell, StoppedError when a signal asked to stop, NoRoomError, and LostLeaseError when another
        process took the cell over.
        room: most cells at once; 0: as many as are fastest, found out when two or more are there.
        """

    def seen(self, config: Any) -> dict[str, str | int]:
        """Return device, threads, layout and torch, for the record of a cell whose process dies."""

    def no_gpu(self, gpu: str) -> str:
        """Return why this process cannot use the GPU that it was given, "" if it can."""

    def is_spoilt(self, *, alone: bool) -> bool:
        """Return whether this process is not to train on after a cell's error. alone: no other trains in it."""

    def free_memory(self) -> None:
        """Give back the memory of cells that have ended."""


def use(module: str) -> None:
    """Make a module the app of this process and of those that it starts."""
    os.environ[APP] = module


def has_named_itself() -> bool:
    """Return whether the app in use is a module of its own, and not the program that a user has started."""
    return os.environ.get(APP, ANY_HYDRA_APP) != ANY_HYDRA_APP


def current() -> App:
    """Return the app in use: any Hydra app, unless one has named itself."""
    return cast(App, _module(os.environ.get(APP) or ANY_HYDRA_APP))


@cache
def _module(name: str) -> object:
    module = importlib.import_module(name)
    return getattr(module, "APP", module)
