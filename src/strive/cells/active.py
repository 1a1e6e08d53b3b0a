"""The run of a cell that this process is in: what `strive.log` and the others act on. Imports the standard library."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strive.cells.cell_run import CellRun
    from strive.cells.rank_run import RankRun

_RUN: ContextVar["CellRun | RankRun | None"] = ContextVar("run", default=None)
_all: list["CellRun | RankRun"] = []  # active in this process, in any thread


def current() -> "CellRun | RankRun | None":
    """Return the run that is active here, None outside of a cell.

    A thread that an app started has no context of its own: it belongs to the run that is active in the process,
    if there is only one. A process that an app started belongs to none, because one process writes a cell's files.
    """
    run = _RUN.get() or (_all[0] if len(_all) == 1 else None)
    return run if run is not None and run.pid == os.getpid() else None


@contextmanager
def activated(run: "CellRun | RankRun") -> Iterator[None]:
    """Make a run the current one."""
    token = _RUN.set(run)
    _all.append(run)
    try:
        yield
    finally:
        _all.remove(run)
        _RUN.reset(token)
