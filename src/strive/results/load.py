"""Loads a sweep's plan and records into one frame, one row for each cell. Imports no torch."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from strive.cells.checked_record import CheckedRecord
from strive.cells.find_record import different_results
from strive.cells.predictions import DERIVED
from strive.cells.records import Status
from strive.config import identity
from strive.errors import LoadError, RecordError
from strive.results.contradictions import blank, contradictions, fill_chance
from strive.results.fixed_looks import FixedLooks
from strive.results.record_row import (
    CONTRADICTORY,
    MISSING,
    UNREADABLE,
    Columns,
    Reader,
    RecordTable,
    encodable,
    metric_column,
    objects,
    read_rows,
)
from strive.sweeps.audit import Audit, audit_plan
from strive.sweeps.labels import CONFIG, Labels, is_builder_argument
from strive.sweeps.plan import StoredChoice, StoredPlan, plan_folders

_DATA = ("data", "dataset", "datamodule")  # groups of knobs that say which data a cell reads
_METRICS = ("parameters", "epochs")  # that tables and figures look for; no knob takes their columns
_FINISHED = [status.value for status in Status if status.finished]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One sweep with its plan and records."""

    name: str  # the plan's: table3, or table3-1a2b3c4d with command-line changes, or multirun-1a2b3c4d
    file: str  # the sweep file's name; "" for a multirun without a file
    changes: list[str]  # command-line overrides that change the cells
    question: str
    common: dict[str, Any]  # {knob: value} that all cells share, as in App.flat
    factors: list[str]  # knobs that vary between the cells, in the plan's order, without arm
    choices: list[StoredChoice]  # values chosen from other sweeps
    excluded: list[list[str]]  # [overrides, reason]
    text: str  # the sweep file's text when the plan was made; "" for a multirun, and in an older plan
    plan: StoredPlan  # as stored
    labels: Labels  # what the app calls its keys and values; classes of a group have their last names
    folders: tuple[Path, ...]  # that hold records
    cells: pd.DataFrame  # one row for each cell of the plan, in its order; load_sweep lists the columns
    metrics: tuple[str, ...]  # of its records, in their order
    warnings: list[str]  # contradictions, and which of two records of a cell counts
    contradictions: tuple[str, ...] = ()  # of the plan and the records with each other, a sentence each
    fixed_looks: FixedLooks | None = None  # what was fixed at the first look; None if nothing was

    @property
    def data_keys(self) -> tuple[str, ...]:
        """Return the knobs that say which data a cell reads: cells that agree in them are to have equal data."""
        keys = (*self.common, *self.factors)
        return tuple(key for key in keys if key.rpartition(".")[0].partition(".")[0] in _DATA and self.decides(key))

    @property
    def numbers(self) -> list[str]:
        """Return the columns that hold a number of each record: its metrics, and what is known of it besides."""
        return [str(name) for name, column in self.cells.items() if column.dtype == float]

    def decides(self, key: str) -> bool:
        """Return whether a knob determines numbers."""
        return self.plan.decides(key.removeprefix(CONFIG))


def find_plans(folders: Sequence[Path]) -> dict[str, Path]:
    """Return {plan name: its folder, RUNS/sweeps/NAME}; if two have the same name, the one in the first runs folder.

    Raises LoadError for a folder that is not there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise LoadError(
                f"--runs {folder}: there is no such folder; give one that records were written to,"
                " as runs=DIR of the command that trained them"
            )
    return plan_folders(folders)


def file_of(plan: Path) -> str:
    """Return the name of a plan's sweep file; "" if it has none or cannot be read."""
    try:
        return StoredPlan.read(plan).file
    except (RecordError, OSError):
        return ""


def load_sweep(name: str, folders: Sequence[Path], read: Reader = CheckedRecord.read) -> Loaded:
    """Return a sweep with all its cells, including those without a record. read: as for read_rows.

    Columns of its cells: cell (its id), arm, epochs_planned (int); those of read_cells; every knob by
    its dotted key, taken from the plan so that cells without a record have it, with lists and dicts as
    JSON text. All are of object dtype except epochs_planned and the numbers of a record.

    Raises LoadError, and RecordError for two different results of one cell.
    """
    plan, folder = _plan(name, folders)
    try:
        fixed = FixedLooks.read(folder)
    except (RecordError, OSError) as error:
        raise LoadError(str(error)) from None
    return replace(load_plan(plan, name, folders, read), fixed_looks=fixed)


def load_plan(plan: StoredPlan, name: str, folders: Sequence[Path], read: Reader = CheckedRecord.read) -> Loaded:
    """Return the sweep of a plan that need not be on disk, without the looks that were fixed; as `load_sweep`."""
    audit = audit_plan(plan, name, folders)
    found = read_cells(folders, [encodable(cell.cell) for cell in plan.cells], read)
    records = found.columns
    warnings = [text for text in records.pop("warning") if text]
    contradicted = [*map(encodable, audit.problems), *_mark_contradicted(found, plan, audit)]
    warnings += contradicted
    columns: Columns = {
        "cell": records.pop("cell"),
        "arm": objects([encodable(cell.arm) for cell in plan.cells]),
        "epochs_planned": np.array([cell.epochs for cell in plan.cells], dtype=np.int64),
    }
    columns |= records
    knobs = _knob_columns(plan)
    own = {key: knob_column(key, columns) for key in (*knobs, *plan.varying)}
    loaded = Loaded(
        name=name,
        file=encodable(plan.file),
        changes=_plain(plan.changes),
        question=encodable(plan.question),
        common=_plain(identity.with_argument_keys(plan.common)),
        factors=[own[key] for key in plan.varying],
        choices=[StoredChoice(**_plain(msgspec.structs.asdict(each))) for each in plan.choices],
        excluded=_plain(plan.excluded),
        text=encodable(plan.text),
        plan=plan,
        labels=plan.labels.with_classes({key: [cell.factors.get(key) for cell in plan.cells] for key in plan.varying}),
        folders=tuple(folders),
        cells=_frame(columns | {own[key]: column for key, column in knobs.items()}),
        metrics=found.metrics,
        warnings=warnings,
        contradictions=tuple(contradicted),
    )
    return not_believed(loaded, [*map(encodable, audit.whole)]) if audit.whole else loaded


def not_believed(loaded: Loaded, why: Sequence[str]) -> Loaded:
    """Return the sweep without any number of its cells. why: the contradictions that leave none to be believed."""
    cells = loaded.cells.copy()
    there = cells["status"] != MISSING
    cells.loc[there, "status"] = CONTRADICTORY
    cells.loc[there, "cause"] = why[0] + (f"; and {len(why) - 1} more" if len(why) > 1 else "")
    cells.loc[there, loaded.numbers] = np.nan
    cells.loc[there, "dead"] = None
    return replace(loaded, cells=cells)


def _mark_contradicted(read: "ReadCells", plan: StoredPlan, audit: Audit) -> list[str]:
    """Take contradicted numbers out of the records; return the contradictions that the audit has not reported."""
    columns, cells = read.columns, read.columns["cell"].tolist()
    fill_chance(columns, read.metrics)
    found = contradictions(columns, cells, [plan.config(cell).get(plan.seed) for cell in plan.cells])
    found |= {row: encodable(why) for row, cell in enumerate(plan.cells) if (why := audit.cells.get(cell.cell))}
    for row, why in found.items():
        if columns["status"][row] != MISSING:
            columns["status"][row], columns["cause"][row] = CONTRADICTORY, why
            blank(columns, row, [*read.results, *(name for name in DERIVED if name in columns)])
    rows = np.flatnonzero((columns["status"] == CONTRADICTORY) | (columns["status"] == UNREADABLE)).tolist()
    return [f"{cells[row]}: {columns['cause'][row]}" for row in rows if plan.cells[row].cell not in audit.cells]


def with_metrics(loaded: Loaded, *names: str) -> Loaded:
    """Return the sweep with a column for each of these metrics, without numbers where no record has it."""
    lacking = {column: np.nan for column in map(metric_column, names) if column not in loaded.cells}
    return replace(loaded, cells=loaded.cells.assign(**lacking)) if lacking else loaded


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadCells:
    """Records of some cells."""

    columns: Columns  # with one row for each cell; read_cells lists them
    metrics: tuple[str, ...]  # names, in the order of the records
    results: tuple[str, ...]  # columns that a training determines: metrics and outputs


def read_cells(folders: Sequence[Path], cells: Sequence[str], read: Reader = CheckedRecord.read) -> ReadCells:
    """Return the records of some cells, one row for each cell in the given order. read: as for read_rows.

    A source other than records would only need to replace this function. Columns: cell; status (of
    records.Status, or missing, or unreadable), cause (one line), traceback, record_sha256; folder
    and record (paths, "" if missing); those of record_row.EMPTY; one for each metric of a record (float64, NaN for
    none; metric_column gives its name), output (with _sha256), package, chance.METRIC and detail of the provenance;
    warning ("" if there is none).

    If a cell is in several folders, a finished record is preferred, then the earlier folder.

    Raises LoadError for a folder that cannot be read, RecordError for two different results of one cell.
    """
    best = read_rows(folders[0], cells, read) if folders else RecordTable(len(cells))
    warning = [""] * len(cells)
    for folder in folders[1:]:
        found = read_rows(folder, cells, read)
        best.align(found)
        _compare(warning, best, found, cells)
        better = (best.columns["status"] == MISSING) | (_finished(found.columns) & ~_finished(best.columns))
        for name, column in found.columns.items():
            best.columns[name][better] = column[better]
    columns = best.columns
    columns["cell"] = objects(list(cells))
    columns["record"] = objects([f"{folder}/record.json" if folder else "" for folder in columns["folder"]])
    columns["warning"] = objects(warning)
    ahead = ("cell", "status", "cause", "traceback", "folder", "record")
    return ReadCells(
        columns={name: columns[name] for name in dict.fromkeys((*ahead, *columns))},
        metrics=tuple(best.metrics),
        results=tuple(best.results),
    )


def _plan(name: str, folders: Sequence[Path]) -> tuple[StoredPlan, Path]:
    """Return a plan and its folder."""
    plans = find_plans(folders)
    if name not in plans:
        where = ", ".join(map(str, folders))
        there = f"there are: {', '.join(plans)}" if plans else f"launch it with -m sweeps={name}"
        raise LoadError(f"{name} was not launched into {where}: no plan below sweeps/ has this name; {there}")
    try:
        return StoredPlan.read(plans[name]), plans[name]
    except (RecordError, OSError) as error:
        raise LoadError(str(error)) from None


def _knob_columns(plan: StoredPlan) -> Columns:
    """Return {knob: its values}, also for knobs of other versions; None for a knob that this plan does not have.

    Each argument of a builder has its own column, with None in cells whose builder has no such argument.
    """
    varying = dict.fromkeys(key for cell in plan.cells for key in cell.factors)
    columns: Columns = {}
    for key in dict.fromkeys((*plan.common, *varying)):
        if key in varying:
            columns[key] = _column([cell.factors.get(key) for cell in plan.cells])
        else:
            columns[key] = np.full(len(plan.cells), column_value(plan.common[key]), dtype=object)
    common = identity.with_argument_keys(plan.common)
    for key in filter(is_builder_argument, common):
        columns[key] = np.full(len(plan.cells), column_value(common[key]), dtype=object)
    if not varying.keys().isdisjoint(identity.BUILDERS):
        spread = [identity.with_argument_keys(cell.factors) for cell in plan.cells]
        for key in dict.fromkeys(key for each in spread for key in filter(is_builder_argument, each)):
            columns[key] = _column([each.get(key) for each in spread])
    return columns


def knob_column(key: str, columns: Collection[str]) -> str:
    """Return the column of a knob: its key, unless that is a column of the records. columns: of these."""
    return f"{CONFIG}{key}" if key in columns or key in _METRICS else key


def _column(values: list[Any]) -> npt.NDArray[np.object_]:
    # Numbers need no conversion, and there may be 100,000 of them.
    texts = any(isinstance(value, str | list | dict) for value in values)
    return objects(list(map(column_value, values)) if texts else values)


def column_value(value: Any) -> Any:
    """Return the value, with a list or dict as text so that cells can be grouped by it."""
    if type(value) is str:  # the most frequent type
        return encodable(value)
    if isinstance(value, list | dict):
        # Sorted, because a cell's id does not depend on the order either.
        value = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return the JSON value with all text encodable as UTF-8."""
    if isinstance(value, dict):
        return {encodable(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return encodable(value) if isinstance(value, str) else value


def _finished(columns: Columns) -> npt.NDArray[np.bool_]:
    return np.isin(columns["status"].astype(str), _FINISHED)


def _compare(warning: list[str], best: RecordTable, found: RecordTable, cells: Sequence[str]) -> None:
    """Add a warning if a folder replaces an earlier one's damaged record.

    Raises RecordError if both have results of a cell, and they differ.
    """
    ours, theirs = best.columns, found.columns
    finished = _finished(theirs)
    # NaN means that there is no such number, so two NaNs agree.
    differ = [(ours[name] != theirs[name]) & ~(_is_nan(ours[name]) & _is_nan(theirs[name])) for name in best.results]
    differ.append(ours["status"] != theirs["status"])
    for row in np.flatnonzero(_finished(ours) & finished & np.any(differ, axis=0)).tolist():
        raise RecordError(different_results(*(f"{each['folder'][row]}/record.json" for each in (ours, theirs))))
    damaged = (ours["status"] == UNREADABLE) | (ours["status"] == CONTRADICTORY)
    for row in np.flatnonzero(damaged & finished).tolist():
        text = f"{cells[row]}: {ours['cause'][row]}; {theirs['folder'][row]} counts."
        warning[row] = f"{warning[row]} {text}".strip()


def _is_nan(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(column != column)


def _frame(columns: Columns) -> pd.DataFrame:
    # As Series, because pandas would convert object arrays to strings.
    return pd.DataFrame({name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})
