"""Outline of a sweep for a dashboard: what varies, and the layout of its answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strive.config import identity
from strive.errors import LoadError
from strive.results.load import file_of, find_plans, load_sweep
from strive.results.table_choice import SWEEPS, declared_table, read_file
from strive.sweeps.table_spec import ARM, TableSpec, Value

_HELD_OUT = "data.val_images"
# The knobs that the options of a group differ in, as far as a sweep's question goes.
_OPTIONS = {
    "model": ("model.base", "model.variant"),
    "data": ("data.name",),
    "augment": ("augment.kind",),
    "preprocess": ("preprocess.kind",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """One sweep, with or without a record."""

    name: str  # the plan's
    question: str
    keys: tuple[str, ...]  # knobs, or the word arm, that tell the places of its table apart
    factors: tuple[str, ...]  # knobs that vary over its cells, all but the seed
    value: Value
    held_out: bool  # whether cells have a validation error


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What there is of the sweeps that were asked for."""

    outlines: list[Outline]
    left_out: list[str]  # why a sweep that was not asked for by name is not among them, a line each


def find_outlines(names: Sequence[str], folders: Sequence[Path], sweeps: Path = SWEEPS) -> Found:
    """Return the outlines of some sweeps, or of all that were launched into the folders.

    names: of sweep files or of plans. A sweep that was never launched is outlined from its file: what
    it varies is known before anything trains.

    Raises LoadError for a name that is neither, ConfigError for a faulty sweep file.
    """
    plans = find_plans(folders)
    if not names and not plans:
        where = f" into {_listed(folders)}" if folders else ""
        raise LoadError(f"no sweep was launched{where}; name those that will be: {_listed(_files(sweeps))}")
    found = Found(outlines=[], left_out=[])
    for name in list(dict.fromkeys(_wanted(names, plans, sweeps) if names else plans)):
        try:
            outline = of_plan(name, folders, sweeps) if name in plans else of_file(name, sweeps)
            found.outlines.append(outline)
        except LoadError as error:
            if names:
                raise
            found.left_out.append(f"left out: {error}")
    return found


def _wanted(names: Sequence[str], plans: Mapping[str, Path], sweeps: Path) -> Iterable[str]:
    """Yield the names of plans, and those of files that were never launched."""
    files = {plan: file_of(folder) for plan, folder in plans.items()}
    legal = _files(sweeps)
    for name in names:
        launched = [plan for plan, file in files.items() if name in (plan, file)]
        if not launched and name not in legal:
            raise LoadError(f"there is no sweep {name}; legal: {_listed(sorted({*plans, *legal}))}")
        yield from launched or [name]


def of_plan(name: str, folders: Sequence[Path], sweeps: Path = SWEEPS) -> Outline:
    """Return the outline of a sweep that was launched.

    Raises LoadError for a plan that cannot be read, ConfigError for a faulty sweep file.
    """
    loaded = load_sweep(name, folders)
    table = declared_table(loaded, sweeps)
    factors = [key for key in loaded.factors if identity.decides(key) and key != "seed"]
    return _outline(
        name, loaded.question, table, factors, held_out=any(images > 0 for images in loaded.cells[_HELD_OUT])
    )


def of_file(name: str, sweeps: Path = SWEEPS) -> Outline:
    """Return the outline of a sweep that was never launched, as far as its file tells.

    Raises ConfigError for a faulty one.
    """
    sweep = read_file(name, sweeps)
    spelt = [knob for key in sweep.factors for knob in _OPTIONS.get(key, (key,))]
    factors = [key for key in dict.fromkeys(spelt) if identity.decides(key) and key != "seed"]
    table = sweep.table
    if table is None:
        chosen = {spec.key for spec in sweep.choose}
        rows = [ARM] if sweep.arms else [key for key in factors if key not in chosen]
        table = TableSpec(rows=tuple(rows), columns=())
    parts = (sweep.fixed, sweep.grid, *sweep.zip, *sweep.arms.values(), *sweep.cells)
    return _outline(
        sweep.name, sweep.question, table, factors, held_out=any(part.get(_HELD_OUT, 0) != 0 for part in parts)
    )


def _outline(name: str, question: str, table: TableSpec, factors: Sequence[str], *, held_out: bool) -> Outline:
    # What a table selects from is no place of its own, but W&B would average over it.
    keys = [key for key in (*table.keys, *table.select) if key in factors or key == ARM]
    return Outline(
        name=name,
        question=question,
        keys=tuple(keys),
        factors=tuple(factors),
        value=table.value,
        held_out=held_out or table.value.value.startswith("val_"),
    )


def _files(sweeps: Path) -> list[str]:
    return sorted(path.stem for path in sweeps.glob("*.yaml"))


def _listed(things: Iterable[Any]) -> str:
    return ", ".join(map(str, things)) or "none"
