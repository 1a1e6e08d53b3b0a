"""A Hydra app's function as one cell, without a sweep: what strive.main adds to hydra.main."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from strive.cells import active
from strive.cells.cell_run import CellRun
from strive.cells.run_function import run_alone
from strive.code.imported import imported_code
from strive.config.identity import hash_of
from strive.hydra_app.leaves import leaves
from strive.hydra_app.split import split


def as_single_cell(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function to give to hydra.main, which without -m runs as one cell, with its record."""

    @wraps(function)
    def task(config: Any) -> Any:
        alone = active.current() is None and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN
        return run_alone(lambda: function(config), lambda: _open_run(function, config)) if alone else function(config)

    return task


def _open_run(function: Callable[[Any], Any], config: DictConfig) -> CellRun:
    """Return the run of the cell that a sweep would have for this config."""
    hydra = HydraConfig.get()
    options = hydra.sweeper if "strive" in str(hydra.sweeper.get("_target_")) else {}
    parts = split(leaves(config), list(options.get("logistics", ())))
    started, runs = Path(hydra.runtime.cwd), Path(options.get("runs", "runs"))
    return CellRun(
        f"{hydra.job.name}-{hash_of(parts.science)}",
        runs if started == Path.cwd() else started / runs,  # hydra.job.chdir leaves it
        config=parts.science,
        logistics=parts.logistics,
        code=lambda: imported_code({function.__module__.partition(".")[0]} - {"__main__"}, sys.path),
    )
