"""Outline of a sweep for a dashboard: what varies, and the layout of its answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from strive import app
from strive.config.keys import defaults
from strive.errors import LoadError
from strive.results.load import Loaded, file_of, find_plans, load_sweep
from strive.results.table_choice import declared_table, read_file
from strive.sweeps.audit import sweep_files
from strive.sweeps.labels import ARM, Labels
from strive.sweeps.plan import runs_folder
from strive.sweeps.table_spec import TableSpec, Value, value_of
from strive.trackers.sweep_table import sweep_table

_HELD_OUT = "data.val_images"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """One sweep, with or without a record."""

    name: str  # the plan's
    question: str
    keys: tuple[str, ...]  # knobs, or the word arm, that tell the places of its table apart
    factors: tuple[str, ...]  # knobs that vary over its cells, all but the seed
    value: Value
    metrics: tuple[str, ...]  # that its histories show, as far as known
    labels: Labels
    config_keys: tuple[str, ...]  # all knobs of its cells, as far as known
    answer: str = ""  # in a sentence, as far as cells are done

    @property
    def held_out(self) -> bool:
        """Return whether cells have a validation error."""
        return "val_error" in self.metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What there is of the sweeps that were asked for."""

    outlines: list[Outline]
    left_out: list[str]  # why a sweep that was not asked for by name is not among them, a line each


def find_outlines(names: Sequence[str], folders: Sequence[Path], sweeps: Path | None = None) -> Found:
    """Return the outlines of some sweeps, or of all that were launched into the folders.

    names: of sweep files or of plans. A sweep that was never launched is outlined from its file: what
    it varies is known before anything trains.

    Raises LoadError for a name that is neither, ConfigError for a faulty sweep file.
    """
    sweeps = sweeps or sweep_files()
    plans = find_plans(folders)
    if not names and not plans:
        where = f" into {_listed(folders)}" if folders else ""
        raise LoadError(f"no sweep was launched{where}; name those that will be: {_listed(_files(sweeps))}")
    found = Found(outlines=[], left_out=[])
    for name in list(dict.fromkeys(_wanted(names, plans, sweeps) if names else plans)):
        try:
            if name in plans:
                found.outlines.append(_with_answer(load_sweep(name, folders), plans[name], sweeps))
            else:
                found.outlines.append(of_file(name, sweeps))
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


def of_plan(loaded: Loaded, sweeps: Path | None = None) -> Outline:
    """Return the outline of a sweep that was launched. Raises ConfigError for a faulty sweep file."""
    table = declared_table(loaded, sweeps)
    factors = [key for key in loaded.factors if loaded.decides(key) and key != loaded.plan.seed]
    held_out = _HELD_OUT in loaded.cells and any(images > 0 for images in loaded.cells[_HELD_OUT])
    keys = (*loaded.common, *loaded.factors)
    return _outline(loaded.name, loaded.question, table, factors, loaded.labels, held_out=held_out, keys=keys)


def _with_answer(loaded: Loaded, plan: Path, sweeps: Path) -> Outline:
    outline, table = of_plan(loaded, sweeps), sweep_table(loaded, runs_folder(plan))
    return replace(outline, answer=table.answer) if table else outline


def of_file(name: str, sweeps: Path | None = None) -> Outline:
    """Return the outline of a sweep that was never launched, as far as its file tells.

    Raises ConfigError for a faulty one.
    """
    sweep = read_file(name, (sweeps or sweep_files()) / f"{name}.yaml")
    labels = app.in_use().labels()
    spelt = [knob for key in sweep.factors for knob in labels.options.get(key, (key,))]
    factors = [key for key in dict.fromkeys(spelt) if key != "seed"]
    table = sweep.table
    if table is None:
        chosen = {spec.key for spec in sweep.choose}
        rows = [ARM] if sweep.arms else [key for key in factors if key not in chosen]
        table = TableSpec(rows=tuple(rows), columns=())
    if not table.value.name:
        table = replace(table, value=value_of("test_error" if "test_error" in labels.measured else "objective"))
    parts = (sweep.fixed, sweep.grid, *sweep.zip, *sweep.arms.values(), *sweep.cells)
    held_out = any(part.get(_HELD_OUT, 0) != 0 for part in parts)
    return _outline(sweep.name, sweep.question, table, factors, labels, held_out=held_out, keys=(*defaults(), *spelt))


def _outline(
    name: str,
    question: str,
    table: TableSpec,
    factors: Sequence[str],
    labels: Labels,
    *,
    held_out: bool,
    keys: Sequence[str],
) -> Outline:
    # What a table selects from is no place of its own, but W&B would average over it.
    own = [key for key in (*table.keys, *table.select) if key in factors or key == ARM]
    value = table.value
    curves = ["train_loss", "train_error"] if "train_error" in labels.measured else [value.name]
    curves += ["val_error"] if "train_error" in labels.measured and (held_out or value.name.startswith("val_")) else []
    return Outline(
        name=name,
        question=question,
        keys=tuple(own),
        factors=tuple(factors),
        value=value,
        metrics=tuple(dict.fromkeys(curves)),
        labels=labels,
        config_keys=tuple(keys),
    )


def _files(sweeps: Path) -> list[str]:
    return sorted(path.stem for path in sweeps.glob("*.yaml"))


def _listed(things: Iterable[Any]) -> str:
    return ", ".join(map(str, things)) or "none"
