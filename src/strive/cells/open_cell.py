"""One cell of a config that is at hand: for tests, notebooks, and scripts that train one thing."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strive.cells.cell_run import CellRun
from strive.config import identity
from strive.config.json_leaves import json_leaves
from strive.errors import ConfigError, Diverged


def open_run(config: Any, *, runs: str | Path, name: str, logistics: Iterable[str] = (), **settings: Any) -> CellRun:
    """Return the run of the cell that a config names. settings: of CellRun.

    Raises ConfigError for a config that cannot name a cell, LeasedError while another process trains it.
    """
    flat, apart = json_leaves(config), set(logistics)
    if unknown := sorted(key for key in apart if not any(_is_below(leaf, key) for leaf in flat)):
        raise ConfigError(f"logistics={unknown[0]}: the config has no such key; it has {', '.join(flat) or 'none'}")
    other = {leaf: value for leaf, value in flat.items() if any(_is_below(leaf, key) for key in apart)}
    science = {leaf: value for leaf, value in flat.items() if leaf not in other}
    cell = f"{re.sub('[^A-Za-z0-9_.]+', '_', name).strip('_.') or 'cell'}-{identity.hash_of(science)}"
    return CellRun(cell, Path(runs), config=science, logistics=other, **settings)


@contextmanager
def opened(run: CellRun) -> Iterator[CellRun]:
    """Enter a run as the current one; at the end it has a record, if the caller has not written one.

    Raises ConfigError for a cell that has its result already.
    """
    with run:
        if run.earlier is not None:
            raise ConfigError(f"{run.cell} is {run.earlier.status.value} already: {run.path}")
        try:
            with run.activated():
                yield run
        except Diverged as error:  # a result
            run.fail(error)
        except BaseException as error:
            run.fail(error)
            raise
        if run.record is None:
            run.finish(None)


def _is_below(leaf: str, key: str) -> bool:
    return leaf == key or leaf.startswith(f"{key}.")
