"""Ablation sweeps that resume, never repeat finished work, and end in tables.

What a training script may call. Nothing is compulsory: outside of a cell `log`, `save` and `fingerprint` do nothing,
`load` returns None, and `stop_requested` False. Importing this imports the standard library alone.

    def main(config):
        net, start = build(config), 0
        if path := strive.load():
            start = restore(path, net)
        for epoch in range(start, config.epochs):
            ...
            strive.log(epoch + 1, train_loss=loss)
            strive.save(lambda path: store(path, net, epoch + 1))
        return {"test_acc": accuracy(net)}

docs/contract.md has the whole of it.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from strive.cells.active import current
from strive.cells.returned import Metric
from strive.errors import Diverged, LoadError, Stopped

if TYPE_CHECKING:
    from strive.cells.cell_run import CellRun
    from strive.cells.records import Record

__version__ = "0.1.0"
__all__ = [
    "Diverged",
    "Metric",
    "Stopped",
    "current",
    "fingerprint",
    "load",
    "log",
    "main",
    "metric",
    "open_cell",
    "read_records",
    "run_cell",
    "save",
    "stop_requested",
]

Config = TypeVar("Config")


def log(step: int, /, **metrics: Any) -> None:
    """Add numbers to the cell's history, which the live view, the curves and W&B show.

    step: a whole number, 0 or more, of whatever the function counts; it must not go back.
    metrics: numbers in units of the function's own, None, or what has .item(); a number that is not finite becomes
    null. Calls with the same step add to one line.

    Log before `save`: a resume drops what was logged after the checkpoint.

    Raises ContractError for a step that goes back, a name that the step has already, and what is no number.
    """
    if (run := current()) is not None:
        run.log(step, **metrics)


def save(write: Callable[[Path], object], *, all_ranks: bool = False) -> None:
    """Write a checkpoint if one is due: every `checkpoint_minutes`, and when a stop is requested. Call it often.

    write: is called with a path that does not exist, and makes a file or a folder of it. Two checkpoints are kept.
    all_ranks: where a cell has several processes, each of them writes to the path; otherwise rank 0 alone does.

    Raises Stopped after the checkpoint if a stop is requested: let it pass. Raises ContractError if `write` raises or
    writes nothing. A disk that is full or fails is said once, and costs the checkpoint alone.
    """
    if (run := current()) is not None:
        run.save(write, all_ranks=all_ranks)


def load() -> Path | None:
    """Return the path of what `save` wrote last, None if there is nothing to go on from. Call it before `log`.

    The path may be used until the next `save`. A checkpoint that is damaged, or was written by other code or on other
    data (`fingerprint`), is put aside with a message; then it is the one before.
    """
    run = current()
    return run.load() if run is not None else None


def stop_requested() -> bool:
    """Return whether a signal has asked this process to stop, for a loop that cannot call `save` at each step.

    Once it has returned True, what the function returns is not recorded: call `save`, which raises Stopped.
    """
    run = current()
    return run.stop_requested() if run is not None else False


def fingerprint(name: str, text: str) -> None:
    """Record what data the cell really read, such as a hash of it. Cells of different data are never averaged.

    Called before `load`, it also puts aside a checkpoint that was trained on other data. Raises ContractError for a
    second text of one name.
    """
    if (run := current()) is not None:
        run.fingerprint(name, text)


def metric(value: Any, *, chance: Any = None) -> Metric:
    """Return a metric with what chance gives: `return {"acc": strive.metric(0.9, chance=0.1)}`.

    value, chance: in the same unit. At chance or beyond it the replicate is dead, and tables mark it. Whether lower or
    higher is better is read from the metric's name.
    """
    return Metric(value, chance)


def main(**options: Any) -> Callable[[Callable[[Any], Any]], Callable[..., Any]]:
    """Decorate a function as hydra.main does, with one thing more: without -m it runs as one cell, with its record.

    options: version_base, config_path, config_name, as for hydra.main.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[..., Any]:
        from strive.hydra_app.main import as_program

        return as_program(function, options)

    return decorate


def run_cell(
    function: Callable[[Config], Any],
    config: Config,
    *,
    runs: str | Path = "runs",
    name: str = "",
    logistics: Iterable[str] = (),
    checkpoint_minutes: float = 5.0,
    lease_seconds: float = 120.0,
) -> "Record":
    """Run a function of a config as one cell, for tests and notebooks. Return its record; what is done is not repeated.

    config: a mapping, a dataclass or a node of OmegaConf. runs: the folder of all cells. name: the readable part of
    the id; "" is the function's name. logistics: keys of the config that do not decide the numbers.
    checkpoint_minutes: 0 writes one at every `save`. lease_seconds: without a heartbeat for so long, others take the
    cell over.

    An exception of the function becomes a record with status `error` or `out_of_memory`. Raises ConfigError for a
    config with values that JSON lacks, LeasedError while another process trains the cell, StoppedError if a signal
    stopped it.
    """
    from strive.cells.open_cell import open_run

    with open_run(
        config, runs=runs, name=name or getattr(function, "__name__", ""), logistics=logistics,
        checkpoint_minutes=checkpoint_minutes, lease_seconds=lease_seconds,
    ) as run:  # fmt: skip
        return run.run(lambda: function(config))


def open_cell(
    config: Any, *, runs: str | Path = "runs", name: str = "cell", logistics: Iterable[str] = (), **settings: float
) -> "AbstractContextManager[CellRun]":
    """Return a context that is one cell, for tests and notebooks: `with strive.open_cell({"lr": 0.1}) as cell: ...`.

    Arguments as for `run_cell`. `cell.finish(metrics)` writes the record; leaving the context without it writes one
    without metrics, and an exception one with status `error`. Raises ConfigError if the cell is done already.
    """
    from strive.cells.open_cell import open_run, opened

    return opened(open_run(config, runs=runs, name=name, logistics=logistics, **settings))


def read_records(*runs: str | Path) -> list["Record"]:
    """Return the record of each cell in one or more runs folders, sorted by id.

    runs: folders, `runs` if none is given. A cell that is in several has the record of the first with a result.

    `pandas.DataFrame([record.config | record.metrics for record in strive.read_records()])` is a table of them.
    Raises LoadError for a folder that is not there, RecordError for a file that is no record and for two different
    results of one cell.
    """
    from strive.cells.find_record import one_result
    from strive.cells.records import read_record

    folders = [Path(folder) for folder in runs or ("runs",)]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise LoadError(f"{missing[0]}: there is no such folder; give one that records were written to")
    cells = sorted({path.parent.name for folder in folders for path in folder.glob("*/record.json")})
    return [read_record(path) for cell in cells if (path := one_result(cell, folders)) is not None]
