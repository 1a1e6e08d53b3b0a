"""The W&B run that an app begins itself, by wandb.init: it gets the cell's id, so it stays one after every restart.

Imports no wandb: whether the app has is read from sys.modules.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from strive.errors import Diverged, Stopped
from strive.json_lines import from_line, to_line

if TYPE_CHECKING:
    from strive.cells.cell_run import CellRun

GROUP = "WANDB_RUN_GROUP"
_FILE = "wandb-run.json"  # in the folder of a training
_STOPPED = 143  # exit code of a process that ended with SIGTERM


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbRun:
    """A W&B run that an app has begun itself."""

    entity: str
    project: str
    id: str
    url: str  # "": it is offline


def read_wandb_run(folder: Path) -> WandbRun | None:
    """Return the W&B run that the training in a folder began itself; None if it began none."""
    try:
        return from_line(WandbRun, (folder / _FILE).read_bytes())
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def wandb_run_of(run: "CellRun", *, project: str = "", entity: str = "") -> Iterator[None]:
    """Let wandb.init in the block begin the cell's W&B run, or go on with it; it ends with the block.

    project, entity: where it goes; "" leaves it to the app. Under `wandb agent`, which has given an id, nothing is set.
    """
    if os.environ.get("WANDB_SWEEP_ID"):
        yield
        return
    before, begun = dict(os.environ), list[WandbRun]()

    def note(found: WandbRun) -> None:
        begun.append(found)
        run.files.publish(_FILE, lambda: to_line(found))

    os.environ.update(_variables(run, project, entity))
    try:
        with _noticing(note):
            yield
    except BaseException as error:
        _end(begun, 0 if isinstance(error, Diverged) else _STOPPED if isinstance(error, Stopped) else 1)
        raise
    else:
        _end(begun, 0)
    finally:
        os.environ.clear()
        os.environ.update(before)


def next_id(cell: str, last: str) -> str:
    """Return the id for a W&B run of other numbers of a cell: CELL-2 after CELL."""
    number = re.fullmatch(re.escape(cell) + r"-(\d+)", last)
    return f"{cell}-{int(number[1]) + 1 if number else 2}"


def _variables(run: "CellRun", project: str, entity: str) -> dict[str, str]:
    mine = read_wandb_run(run.folder)
    if mine is None and run.folder != run.path.parent:  # a training that is to replace a result
        earlier = read_wandb_run(run.path.parent)
        name = next_id(run.cell, earlier.id if earlier else run.cell)
    else:
        name = mine.id if mine else run.cell
    wanted = {"WANDB_NAME": name, "WANDB_JOB_TYPE": "train", "WANDB_DIR": str(run.folder)}
    given = {"WANDB_PROJECT": project, "WANDB_ENTITY": entity}
    return (
        {key: value for key, value in wanted.items() if not os.environ.get(key)}
        | {key: value for key, value in given.items() if value}
        | {"WANDB_RUN_ID": name, "WANDB_RESUME": "allow"}
    )


def _end(begun: Sequence[WandbRun], exit_code: int) -> None:
    """End the W&B runs that are open, and W&B's session: it would give the next cell this one's id."""
    wandb = sys.modules.get("wandb")
    if not begun or wandb is None:
        return
    if wandb.run is not None and exit_code == _STOPPED:
        wandb.run.mark_preempting()
    wandb.teardown(exit_code=exit_code)


@contextmanager
def _noticing(note: Callable[[WandbRun], object]) -> Iterator[None]:
    """Call note with each W&B run that wandb.init begins in the block, whether wandb is imported now or later."""
    undo: list[Callable[[], object]] = []

    def patch(wandb: ModuleType) -> None:
        init = wandb.init

        @wraps(init)
        def noted(*args: Any, **kwargs: Any) -> Any:
            run = init(*args, **kwargs)
            if run is not None and not getattr(run, "disabled", False):
                note(WandbRun(entity=run.entity or "", project=run.project or "", id=run.id, url=run.url or ""))
            return run

        wandb.init = noted  # type: ignore[attr-defined]
        undo.append(lambda: setattr(wandb, "init", init))

    if (wandb := sys.modules.get("wandb")) is not None:
        patch(wandb)
    else:
        finder = _WandbFinder(patch)
        sys.meta_path.insert(0, finder)
        undo.append(finder.leave)
    try:
        yield
    finally:
        for each in undo:
            each()


class _WandbFinder(MetaPathFinder):
    """Lets a function see the module wandb as soon as something has imported it."""

    def __init__(self, seen: Callable[[ModuleType], None]) -> None:
        self._seen = seen

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return wandb's spec, whose loader calls the function in the end."""
        if name != "wandb":
            return None
        self.leave()
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module: ModuleType) -> None:
                execute(module)
                self._seen(module)

            spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec

    def leave(self) -> None:
        """Take no part in imports any more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
