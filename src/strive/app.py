"""The program whose cells are run: what the platform asks of it, and how it is found."""

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from strive.cells.records import Record

APP = "STRIVE_APP"  # names the app's module to all that a process starts


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFacts:
    """What is known of a cell before it is trained."""

    num_train: int  # training examples in an epoch
    flops: int  # of the net's forward pass of one of them; a multiply-add is two


class App(Protocol):
    """What the platform asks of an app's module, such as allcnn.app. Importing it imports nothing heavy.

    config: an object of the app's own class Config, of which the platform reads `platform_keys.CellConfig`.
    """

    # -- a cell's config
    Config: type[Any]  # a dataclass of keys made by strive.config.keys
    CODE: str  # the module that reaches all that decides numbers
    NO_CODE: frozenset[str]  # modules that it reaches as well, but where nothing is computed
    DATA_PLACES: tuple[str, ...]  # logistics keys that say where a cell's data lies

    def checked(self, config: Any) -> Any:
        """Return the config with each value in its one spelling; raises ConfigError with a line for each wrong one."""

    def filled_in(self, config: Any) -> Any:
        """Return the config with all arguments of the user's own code, as its signature fills them in."""

    def as_recorded(self, config: Any) -> Any:
        """Return the config of the cell that a checked one names; raises ConfigError for what it does not take."""

    def as_called(self, config: Any) -> Any:
        """Return a frozen config with its values as the user's own code takes them: JSON has no infinity, no tuples."""

    def builder(self, config: Any) -> str:
        """Return the user's own code as package.module:function, "" where there is none."""

    def cell_name(self, config: Any) -> str:
        """Return the readable part of a cell's id."""

    def label(self, config: Any) -> str:
        """Return what a cell is called in a table."""

    def epochs(self, config: Any) -> int:
        """Return how many epochs the cell trains."""

    def speed_group(self, config: Any) -> str:
        """Return how the ids of cells begin that train about as fast."""

    # -- before it trains
    def facts(self, config: Any) -> CellFacts:
        """Return how much there is to train; raises ConfigError for what cannot train. Trains nothing."""

    def facts_key(self, config: Any) -> str:
        """Return a text that is equal for cells with equal facts."""

    def data_of(self, config: Any) -> str:
        """Return a text that is equal for cells whose data lies at one place."""

    def data_found(self, configs: Sequence[Any]) -> list[str]:
        """Return what is found of the cells' data on disk, a line each."""

    def other_data(self, config: Any, record: "Record") -> str | None:
        """Return why the data on disk is not what a record was trained on, "" where it is, None where none is there."""


def use(module: str) -> None:
    """Make a module the app of this process and of those that it starts."""
    os.environ[APP] = module


def current() -> App:
    """Return the app in use; raises LookupError where none is."""
    name = os.environ.get(APP)
    if not name:
        raise LookupError(f"no app is in use: call strive.app.use(MODULE) first, or set {APP}")
    return cast(App, _module(name))


@cache
def _module(name: str) -> object:
    return importlib.import_module(name)
