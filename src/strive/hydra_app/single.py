"""One cell without a sweep: what a program on `@strive.main` runs without -m."""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from strive import app, signals
from strive.cells import records
from strive.cells.cell_run import CellRun
from strive.cells.ranks import LINK, CellStart, Ranks
from strive.cells.records import Record
from strive.cells.settings import settings_of
from strive.cells.waiting import run_when_free
from strive.code.imported import imported_code
from strive.config import identity
from strive.config.platform_keys import Tracker
from strive.config.schema import is_typed, to_config
from strive.console import CONSOLE
from strive.errors import CellsFailedError, ConfigError, ContractError
from strive.hydra_app.cell import HydraCell, cell_of, options_of
from strive.hydra_app.leaves import leaves
from strive.hydra_app.logistics import divided
from strive.hydra_app.rank import connected
from strive.hydra_app.rank import run as run_rank
from strive.options import CellOptions, LocalOptions, SlurmOptions, SweeperOptions
from strive.trackers.session import check_trackers, single_session

CELL = "STRIVE_CELL"  # hash of the cell, in the environment of what its function starts


@dataclass(frozen=True, slots=True)
class SingleCell:
    """A cell that is known, and how it is trained."""

    cell: str
    runs: Path  # folder of records
    tracker: Tracker
    train: Callable[[], Record]


def run_single(function: Callable[[Any], Any], composed: DictConfig) -> None:
    """Run a program's function as one cell, and show it as a sweep's cells are shown.

    Raises ConfigError for a user's mistake, StoppedError if a signal stopped it, CellsFailedError if it has no result.
    """
    hydra = HydraConfig.get()
    # A wrong option is one without -m, too.
    _given(hydra.sweeper, SweeperOptions)
    _launcher(hydra.launcher)
    single = _typed_cell(function, composed) if is_typed(composed) else _cell(function, composed)
    if threading.current_thread() is threading.main_thread():
        signals.listen()  # from here on a signal stops the cell gracefully, with a checkpoint
    check_trackers([single.tracker.value])
    with single_session(single.tracker, single.runs, single.cell, CONSOLE.print) as session:
        session.show([single.cell])
        record = single.train()
    if not record.status.finished:
        raise CellsFailedError(f"{record.cell} has no result; see {single.runs}/{record.cell}/log.txt")


def _typed_cell(function: Callable[[Any], Any], composed: DictConfig) -> SingleCell:
    """Return the cell of an app with a config class: the function gets that config, and trains by its own trainer."""
    config = records.as_recorded(to_config(composed))

    def train() -> Record:
        record = function(config)
        if not isinstance(record, Record):
            raise ContractError(
                f"{function.__name__} returned {record!r}; where the app has a config class it trains the cell and"
                " returns the record: strive.app.in_use().trainer().run_when_free(config)"
            )
        return record

    settings = settings_of(config)
    return SingleCell(identity.cell_id(config), Path(settings.runs), settings.tracker.kind, train)


def _cell(function: Callable[[Any], Any], composed: DictConfig) -> SingleCell:
    """Return the cell that a sweep would have for this config: the function runs as it."""
    app.use(app.ANY_HYDRA_APP)
    hydra = HydraConfig.get()
    launcher = _launcher(hydra.launcher)
    _check_processes(launcher)
    options = options_of(_given(hydra.sweeper, SweeperOptions), launcher)
    options.check_config(composed)
    config = cell_of(divided(leaves(composed), options.logistics), options, name=str(hydra.job.name))
    runs = Path(config.settings.runs)
    if (started := Path(hydra.runtime.cwd)) != Path.cwd():  # hydra.job.chdir leaves it
        runs = started / runs
    cell = identity.cell_id(config)
    if LINK in os.environ and os.environ.get(CELL) == _hash(cell):
        run_rank(connected(), lambda start: function(composed))
        raise SystemExit(0)
    train = partial(_run, function, composed, config, runs)
    return SingleCell(cell, runs, config.settings.tracker.kind, lambda: run_when_free(runs / cell, train))


def _run(function: Callable[[Any], Any], composed: DictConfig, config: HydraCell, runs: Path, fence: str) -> Record:
    own = {function.__module__.partition(".")[0]} - {"__main__"}
    ranks = Ranks()
    with CellRun.of(config, runs=runs, code=lambda: imported_code(own, sys.path), fence=fence, ranks=ranks) as run:

        def call() -> Any:
            with ranks.cell(CellStart(cell=run.cell, folder=str(run.folder))):
                return function(composed)

        # What the function starts as its further ranks, as Lightning's ddp does, is of this cell.
        os.environ[CELL] = _hash(run.cell)
        record = run.run(call)
    if record.failure is not None:
        print(record.failure.traceback, file=sys.stderr)
    return run.report()


def _check_processes(launcher: CellOptions) -> None:
    """Raise ConfigError where several processes would be asked for by what a single cell does not look at."""
    if (count := launcher.processes_per_cell) > 1:
        raise ConfigError(
            f"hydra.launcher.processes_per_cell={count} needs -m; without it the cell has the processes that the"
            " program starts itself, as Lightning does"
        )
    if (world := os.environ.get("WORLD_SIZE", "1")) != "1" and "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            f"torchrun has started this program {world} times, and each would wait for the others to train the cell;"
            f" start it once, with -m hydra/sweeper=strive hydra.launcher.processes_per_cell={world}"
        )


def _hash(cell: str) -> str:
    """Return what does not depend on hydra.job.name, which Lightning changes in its ranks."""
    return cell.rpartition("-")[2]


def _given(node: DictConfig, kind: type[Any]) -> Any:
    """Return the options of ours in a node of hydra, or their defaults where it belongs to another plug-in."""
    return kind.of(node) if "strive" in str(node.get("_target_")) else kind()


def _launcher(node: DictConfig) -> CellOptions:
    kind = SlurmOptions if str(node.get("_target_")).endswith("SlurmLauncher") else LocalOptions
    found: CellOptions = _given(node, kind)
    return found
