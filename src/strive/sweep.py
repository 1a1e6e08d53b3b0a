"""The cells of a grid: checked together before anything trains, and listed together at the end."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from strive import identity, records
from strive.cell import check_cell, finished_record
from strive.complaint import CellsFailedError, complaint
from strive.config import Config, ConfigError, to_config
from strive.progress import CONSOLE


def checked_cells(composed: Sequence[tuple[str, DictConfig]]) -> list[tuple[str, Config]]:
    """Return (overrides, config) of every distinct cell.

    Raises ConfigError that lists what is wrong with any of them, before anything trains.
    """
    cells: dict[str, tuple[str, Config]] = {}
    errors: dict[str, list[str]] = {}
    checked_nets = set[str]()
    for overrides, node in track(composed, "checking cells", console=CONSOLE, transient=True):
        try:
            config = to_config(node)
            finished_record(config)
            # Cells that differ in lr or seed share net and data: check those once.
            net = f"{config.model}{config.data}{config.augment}"
            if net not in checked_nets:
                check_cell(config)
                checked_nets.add(net)
        except Exception as error:
            text = complaint(error)
            if text is None:
                raise
            errors.setdefault(text, []).append(overrides)
            continue
        cells.setdefault(identity.cell_id(config), (overrides, config))
    if errors:
        raise ConfigError(_listed(errors, len(composed)))
    return list(cells.values())


def missing(cells: Sequence[tuple[str, Config]]) -> list[tuple[str, Config]]:
    """Return the cells without a result, and say how many there are."""
    todo = [cell for cell in cells if finished_record(cell[1]) is None]
    CONSOLE.print(f"{len(cells)} cells: {len(cells) - len(todo)} done already, {len(todo)} to train")
    return todo


def report(cells: Sequence[tuple[str, Config]]) -> None:
    """Print the table of test errors; raise CellsFailedError if a cell has no result."""
    rows, failed = [], []
    for _, config in cells:
        path = records.record_path(Path(config.runs), identity.cell_id(config))
        record = records.read_record(path) if path.exists() else None
        rows.append(_row(config, record))
        if record is None or not record.status.finished:
            cause = record.failure.cause if record and record.failure else "no record"
            failed.append(f"{path.parent.name}: {cause}")
    Console().print(_table(rows))
    if failed:
        raise CellsFailedError(
            f"{len(failed)} of {len(cells)} cells have no result; the same command tries them again\n  "
            + "\n  ".join(failed)
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
        "status": record.status.value if record else "missing",
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
