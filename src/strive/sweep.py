"""The cells of a grid: checked together before anything trains, and listed together at the end."""

import traceback
from collections.abc import Callable, Mapping, Sequence

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from strive import identity, records
from strive.cell import check_cell, finished_record, run_cell
from strive.complaint import CellsFailedError, complaint
from strive.config import Config, ConfigError, to_config
from strive.progress import CONSOLE

Grid = Mapping[str, Callable[[], DictConfig]]


def checked_cells(grid: Grid) -> list[Config]:
    """Return the config of every distinct cell of a grid: {its overrides: what composes it}.

    Raises ConfigError that lists what is wrong with any of them, before anything trains.
    """
    cells: dict[str, Config] = {}
    errors: dict[str, list[str]] = {}
    checked = set[str]()
    for overrides, compose in track(grid.items(), "checking cells", console=CONSOLE, transient=True):
        try:
            config = to_config(compose())
            _check_once(config, checked)
            twin = cells.setdefault(identity.cell_id(config), config)
            _check_twin(config, twin)
        except Exception as error:
            text = complaint(error)
            if text is None:
                raise
            errors.setdefault(text, []).append(overrides)
    if errors:
        raise ConfigError(_listed(errors, len(grid)))
    return list(cells.values())


def _check_once(config: Config, checked: set[str]) -> None:
    """Check the cell, or what it does not share with one that was checked before."""
    if finished_record(config) is not None:
        return
    # Cells that differ in optimizer, budget or seed share net, images and device.
    shared = f"{config.model}{config.data}{config.preprocess}{config.augment}{config.trainer}{config.runs}"
    if shared not in checked:
        check_cell(config)
        checked.add(shared)


def _check_twin(config: Config, twin: Config) -> None:
    for key, one, other in (("runs", twin.runs, config.runs), ("data.root", twin.data.root, config.data.root)):
        if one != other:
            raise ConfigError(
                f"{key}={one} and {key}={other} give one and the same cell {identity.cell_id(config)};"
                " start them separately, or give other images another data.name"
            )


def train_missing(cells: Sequence[Config]) -> dict[str, str]:
    """Train the cells without a result, one after the other; return {cell id: why it has none}."""
    todo = [config for config in cells if finished_record(config) is None]
    CONSOLE.print(f"{len(cells)} cells: {len(cells) - len(todo)} done already, {len(todo)} to train")
    causes = {}
    for number, config in enumerate(todo, start=1):
        cell = identity.cell_id(config)
        CONSOLE.print(f"[{number}/{len(todo)}] {cell}")
        try:
            record = run_cell(config)
        except Exception as error:
            # One cell's trouble, even a fault of ours, must not cost the others.
            causes[cell] = complaint(error) or traceback.format_exc()
            CONSOLE.print(f"{cell}: {causes[cell]}")
            continue
        if record.failure is not None:
            causes[cell] = record.failure.cause
    return causes


def report(cells: Sequence[Config], causes: Mapping[str, str]) -> None:
    """Print the table of test errors; raise CellsFailedError if a cell has no result."""
    finished = [finished_record(config) for config in cells]
    Console().print(_table([_row(config, record) for config, record in zip(cells, finished, strict=True)]))
    ids = [identity.cell_id(config) for config, record in zip(cells, finished, strict=True) if record is None]
    if ids:
        lines = [f"{cell}: {causes.get(cell, 'no record')}" for cell in ids]
        raise CellsFailedError(
            f"{len(ids)} of {len(cells)} cells have no result; the same command tries them again\n  "
            + "\n  ".join(lines)
        )


def _row(config: Config, record: records.Record | None) -> dict[str, str]:
    result = record.result if record else None
    return {
        "net": config.model.name,
        "data": config.data.name,
        "augment": config.augment.kind.value,
        "lr": f"{config.optimizer.lr:g}",
        "seed": str(config.seed),
        "parameters": f"{result.parameters:,}" if result else "-",
        "test error": f"{100 * result.test_error:.2f}%" if result else "-",
        "seconds": f"{record.provenance.train_seconds:.0f}" if record and result else "-",
        "status": record.status.value if record else "no result",
    }


def _table(rows: Sequence[dict[str, str]]) -> Table:
    # What all cells share stands above the table: nine columns do not fit on every terminal.
    same = {name for name in ("data", "augment", "lr", "seed") if len({row[name] for row in rows}) == 1}
    table = Table(title="  ".join(f"{name} {rows[0][name]}" for name in rows[0] if name in same), box=box.SIMPLE)
    for name in rows[0]:
        if name not in same:
            numeric = name in ("lr", "seed", "parameters", "test error", "seconds")
            table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(value for name, value in row.items() if name not in same))
    return table


def _listed(errors: dict[str, list[str]], num_cells: int) -> str:
    count = sum(map(len, errors.values()))
    lines = [f"{count} of {num_cells} cells cannot train; nothing was started"]
    for text, where in errors.items():
        lines += [
            f"- {text}",
            f"    in: {where[0]}" + (f" and {len(where) - 1} more" if len(where) > 1 else ""),
        ]
    return "\n".join(lines)
