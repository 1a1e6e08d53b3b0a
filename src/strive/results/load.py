"""Loads a sweep's plan and records into one frame, one row for each cell. Imports no torch."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from strive.cells.records import Status
from strive.config import identity
from strive.config.keys import defaults
from strive.errors import LoadError, RecordError
from strive.results.contradictions import blank, contradictions, fill_chance
from strive.results.record_row import (
    CONTRADICTORY,
    EMPTY,
    MISSING,
    RESULTS,
    UNREADABLE,
    Columns,
    no_rows,
    objects,
    plain,
    read_rows,
)
from strive.sweeps.audit import Audit, audit_plan
from strive.sweeps.plan import Chosen, StoredPlan

_FINISHED = [status.value for status in Status if status.finished]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One sweep with its plan and records."""

    name: str  # the plan's: table3, or table3-1a2b3c4d with command-line changes, or multirun-1a2b3c4d
    file: str  # the sweep file's name; "" for a multirun without a file
    changes: list[str]  # command-line overrides that change the cells
    question: str
    common: dict[str, Any]  # {knob: value} that all cells share, as in identity.flat
    factors: list[str]  # knobs that vary between the cells, in the plan's order, without arm
    choices: list[Chosen]  # values chosen from other sweeps
    excluded: list[list[str]]  # [overrides, reason]
    text: str  # the sweep file's text when the plan was made; "" for a multirun, and in an older plan
    plan: StoredPlan  # as stored
    folders: tuple[Path, ...]  # that hold records
    cells: pd.DataFrame  # one row for each cell of the plan, in its order; load_sweep lists the columns
    warnings: list[str]  # for example, that two folders hold different results of one cell


def find_plans(folders: Sequence[Path]) -> dict[str, Path]:
    """Return {plan name: its folder, RUNS/sweeps/NAME}; if two have the same name, the one in the first runs folder."""
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise LoadError(
                f"--runs {folder}: there is no such folder; give one that records were written to,"
                " as runs=DIR of the command that trained them"
            )
        for path in sorted((folder / "sweeps").glob("*/plan.json")):
            found.setdefault(path.parent.name, path.parent)
    return found


def file_of(plan: Path) -> str:
    """Return the name of a plan's sweep file; "" if it has none or cannot be read."""
    try:
        return StoredPlan.read(plan).file
    except (RecordError, OSError):
        return ""


def load_sweep(name: str, folders: Sequence[Path]) -> Loaded:
    """Return a sweep with all its cells, including those without a record.

    Columns of its cells: cell (its id), arm, epochs_planned (int); those of read_cells; every knob by
    its dotted key, taken from the plan so that cells without a record have it, with lists and dicts as
    JSON text. All are of object dtype except epochs_planned and the numbers of a record.

    Raises LoadError.
    """
    plan = _plan(name, folders)
    audit = audit_plan(plan, name, folders)
    records = read_cells(folders, [plain(cell.cell) for cell in plan.cells])
    warnings = [text for text in records.pop("warning") if text]
    records, contradicted = _contradicted(records, plan, audit)
    warnings += [*map(plain, audit.problems), *contradicted]
    columns: Columns = {
        "cell": records.pop("cell").to_numpy(),
        "arm": objects([plain(cell.arm) for cell in plan.cells]),
        "epochs_planned": np.array([cell.epochs for cell in plan.cells], dtype=np.int64),
    }
    columns |= {str(name): records[name].to_numpy() for name in records}
    return Loaded(
        name=name,
        file=plain(plan.file),
        changes=_plain(plan.changes),
        question=plain(plan.question),
        common=_plain(identity.with_argument_keys(plan.common)),
        factors=plan.varying,
        choices=[Chosen(**_plain(msgspec.structs.asdict(each))) for each in plan.choices],
        excluded=_plain(plan.excluded),
        text=plain(plan.text),
        plan=plan,
        folders=tuple(folders),
        cells=_frame(columns | _knob_columns(plan)),
        warnings=warnings,
    )


def _contradicted(records: pd.DataFrame, plan: StoredPlan, audit: Audit) -> tuple[pd.DataFrame, list[str]]:
    """Return the records without contradicted numbers, and the contradictions that the audit has not reported."""
    columns: Columns = {str(name): records[name].to_numpy(copy=True) for name in records}
    cells = columns["cell"].tolist()
    fill_chance(columns)
    found = contradictions(columns, cells, [plan.config(cell).get("seed") for cell in plan.cells])
    found |= {row: plain(why) for row, cell in enumerate(plan.cells) if (why := audit.cells.get(cell.cell))}
    for row, why in found.items():
        if columns["status"][row] != MISSING:
            columns["status"][row], columns["cause"][row] = CONTRADICTORY, why
            blank(columns, row)
    rows = np.flatnonzero((columns["status"] == CONTRADICTORY) | (columns["status"] == UNREADABLE)).tolist()
    named = [f"{cells[row]}: {columns['cause'][row]}" for row in rows if plan.cells[row].cell not in audit.cells]
    return _frame(columns), named


def read_cells(folders: Sequence[Path], cells: Sequence[str]) -> pd.DataFrame:
    """Return the records of some cells, one row for each cell in the given order.

    A source other than records would only need to replace this function. Columns: cell; status (of
    records.Status, or missing, or unreadable), cause (one line), traceback, record_sha256; folder
    and record (paths, "" if missing); every field of records.Result and records.Provenance except
    code_files, numbers as float64 with NaN for none, compiled as True, False or None, inexact as one text;
    warning ("" if there is none).

    If a cell is in several folders, a finished record is preferred, then the earlier folder.
    """
    nowhere = objects([""] * len(cells))
    best = _in_folder(folders[0], cells) if folders else no_rows(len(cells)) | {"folder": nowhere}
    warning = [""] * len(cells)
    for folder in folders[1:]:
        found = _in_folder(folder, cells)
        _warn(warning, best, found, cells)
        better = (best["status"] == MISSING) | (_finished(found) & ~_finished(best))
        for name, column in found.items():
            best[name][better] = column[better]
    best["cell"] = objects(list(cells))
    best["record"] = objects([f"{folder}/record.json" if folder else "" for folder in best["folder"]])
    best["warning"] = objects(warning)
    ahead = ("cell", "status", "cause", "traceback", "folder", "record")
    return _frame({name: best[name] for name in dict.fromkeys((*ahead, *EMPTY, "warning"))})


def _in_folder(folder: Path, cells: Sequence[str]) -> Columns:
    """Return the columns of the records in one runs folder, with their paths."""
    try:
        columns = read_rows(folder, cells)
    except OSError as error:
        raise LoadError(f"{folder}: no folder of records ({error.strerror})") from None
    inside = os.path.join(folder, "")
    there = columns["status"] != MISSING
    columns["folder"] = objects([f"{inside}{cell}" if found else "" for cell, found in zip(cells, there, strict=True)])
    return columns


def _plan(name: str, folders: Sequence[Path]) -> StoredPlan:
    plans = find_plans(folders)
    if name not in plans:
        where = ", ".join(map(str, folders))
        there = f"there are: {', '.join(plans)}" if plans else f"python src/run.py -m sweeps={name} launches it"
        raise LoadError(f"{name} was not launched into {where}: no plan below sweeps/ has this name; {there}")
    try:
        return StoredPlan.read(plans[name])
    except (RecordError, OSError) as error:
        raise LoadError(str(error)) from None


def _knob_columns(plan: StoredPlan) -> Columns:
    """Return {knob: its values}, also for knobs of other versions; None for a knob that this plan does not have.

    Each argument of a builder has its own column, with None in cells whose builder has no such argument.
    """
    varying = set(plan.cells[0].factors) if plan.cells else set()
    columns: Columns = {}
    for key in dict.fromkeys((*defaults(), *plan.common, *varying)):
        if key in varying:
            columns[key] = _column([cell.factors[key] for cell in plan.cells])
        else:
            columns[key] = np.full(len(plan.cells), column_value(plan.common.get(key)), dtype=object)
    common = identity.with_argument_keys(plan.common)
    for key in filter(identity.is_argument, common):
        columns[key] = np.full(len(plan.cells), column_value(common[key]), dtype=object)
    if identity.KWARGS in varying:
        spread = [identity.with_argument_keys(cell.factors) for cell in plan.cells]
        for key in dict.fromkeys(key for each in spread for key in filter(identity.is_argument, each)):
            columns[key] = _column([each.get(key) for each in spread])
    return columns


def _column(values: list[Any]) -> npt.NDArray[np.object_]:
    # Numbers need no conversion, and there may be 100,000 of them.
    texts = any(isinstance(value, str | list | dict) for value in values)
    return objects(list(map(column_value, values)) if texts else values)


def column_value(value: Any) -> Any:
    """Return the value, with a list or dict as text so that cells can be grouped by it."""
    if type(value) is str:  # the most frequent type
        return plain(value)
    if isinstance(value, list | dict):
        # Sorted, because a cell's id does not depend on the order either.
        value = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return the JSON value with all text encodable as UTF-8."""
    if isinstance(value, dict):
        return {plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def _finished(columns: Columns) -> npt.NDArray[np.bool_]:
    return np.isin(columns["status"].astype(str), _FINISHED)


def _warn(warning: list[str], best: Columns, found: Columns, cells: Sequence[str]) -> None:
    """Add a warning if a folder contradicts an earlier one, or replaces its damaged record."""
    finished = _finished(found)
    # NaN means that nothing was held out, so two NaNs agree.
    differ = [(best[name] != found[name]) & ~(_is_nan(best[name]) & _is_nan(found[name])) for name in RESULTS]
    other = _finished(best) & finished & np.any(differ, axis=0)
    damaged = (best["status"] == UNREADABLE) | (best["status"] == CONTRADICTORY)
    for row in np.flatnonzero(other | (damaged & finished)).tolist():
        first, second = best["folder"][row], found["folder"][row]
        text = f"{first} and {second} hold different results; the first counts."
        if damaged[row]:
            text = f"{best['cause'][row]}; {second} counts."
        warning[row] = f"{warning[row]} {cells[row]}: {text}".strip()


def _is_nan(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(column != column)


def _frame(columns: Columns) -> pd.DataFrame:
    # As Series, because pandas would convert object arrays to strings.
    return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})
