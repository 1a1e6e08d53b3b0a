"""Comparison of a plan with its cells' ids, its sweep file and the records. Imports no torch.

A plan is a derived file. Its entry for a cell can be trusted only if it hashes to the cell's id.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from strive import app
from strive.cells import records
from strive.cells.metrics import result_text
from strive.cells.records import Record
from strive.config import identity
from strive.config.keys import defaults
from strive.errors import ConfigError, RecordError
from strive.format import counted
from strive.sweeps.choice import Choice, ChoiceSpec, MissingParentsError, Science, chooser
from strive.sweeps.override_syntax import NAME
from strive.sweeps.plan import StoredCell, StoredPlan, names_in, plan_folder_name, plan_name, sweep_folder

if TYPE_CHECKING:  # imports Hydra, which `strive status` starts without
    from strive.sweeps.sweep_file import Sweep

_SEED = re.compile(r"(?P<net>.+)-s(?P<seed>\d+)-[0-9a-f]{10}")  # parses a cell id
_RANGE = re.compile(r"range\((\s*-?\d+\s*(?:,\s*-?\d+\s*){0,2})\)")
_NONE = "not there"
_SWEEPS = "sweeps"  # name of the folder
_NAMED = 3  # a sentence names this many cells and counts the rest


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Contradictions between a plan and other files."""

    cells: Mapping[str, str]  # {cell: why the plan's entry for it cannot be true}, one line each
    problems: tuple[str, ...]  # all contradictions, a sentence each
    notes: tuple[str, ...]  # what could not be compared, and why
    choices: Mapping[tuple[str, str], Choice] = field(default_factory=dict)  # {(key, repr(per)): as chosen again}
    whole: tuple[str, ...] = ()  # those of the problems that leave no cell of the plan to be believed


def audit_plan(plan: StoredPlan, name: str, folders: Sequence[Path]) -> Audit:
    """Return the contradictions between a plan and its cells' ids, its name and the records in `folders`.

    name: name of the folder that holds the plan. folders: runs folders that may hold its records.
    """
    cells = _false_cells(plan, folders)
    whole = (
        *_misnamed(plan, name),
        *_left_out(plan, name, folders),
        *other_plans(plan, name, folders),
        *_false_arms(plan),
        *_false_choices(plan),
    )
    return Audit(cells=cells, problems=(*_grouped(cells), *whole), notes=(), whole=whole)


def sweep_files() -> Path:
    """Return the folder of the sweep files of the app in use: beside the folder of its code, or below this one."""
    app.in_use()  # imports it
    folders = [Path(folder).parent / _SWEEPS for folder in app.sources()]
    return next((folder for folder in folders if folder.is_dir()), Path(_SWEEPS))


def sweep_file(plan: StoredPlan, sweeps: Path) -> Path:
    """Return where the sweep file of a plan lies: as its launch has found it, or by its name. sweeps: their folder."""
    return Path(plan.path) if plan.path else sweeps / f"{plan.file}.yaml"


def file_text(plan: StoredPlan) -> str:
    """Return how messages name the sweep file of a plan."""
    if not plan.path:
        return f"{_SWEEPS}/{plan.file}.yaml"
    own = os.path.relpath(plan.path)
    return plan.path if own.startswith(os.pardir) else own


def is_of_this_app(plan: StoredPlan) -> bool:
    """Return whether the app in use has the keys of a plan, so that sweep files can be read as they were then."""
    try:
        known = defaults()
    except LookupError:
        return False
    return all(key in known for key in (*plan.common, *(key for cell in plan.cells[:1] for key in cell.factors)))


def audit_choices(plan: StoredPlan, sweep: "Sweep", folders: Sequence[Path]) -> Audit:
    """Return the chosen values of a plan that the other sweeps' records would choose differently now.

    sweep: the sweep that was planned.
    """
    problems, whole, notes, again = list[str](), list[str](), list[str](), dict[tuple[str, str], Choice]()
    found = {(each.key, repr(each.per)): each for each in plan.choices}
    for spec in sweep.choices(plan.changes):
        parents = _parents(sweep, spec, plan.changes, folders)
        for chosen in [each for (key, _), each in found.items() if key == spec.key]:
            values = " ".join(f"{key}={value}" for key, value in chosen.per.items()) or "all cells"
            if parents is None:
                notes.append(f"{spec.key} was not chosen again: the plans of {', '.join(spec.sweeps)} are not here")
                break
            own = next((cell for cell in plan.cells if _is_of(plan, cell, chosen.per)), None)
            if own is None:
                problems.append(f"plan.json chooses {spec.key} for {values}, of which it has no cell")
                continue
            try:
                now = chooser(spec, parents)(plan.deciding(own))
            except MissingParentsError as error:
                notes.append(f"{spec.key} for {values} was not chosen again: {error}")
                continue
            except ConfigError as error:
                problems.append(f"{spec.key} for {values} cannot be chosen again: {error}")
                continue
            again[chosen.key, repr(chosen.per)] = now
            if (now.value, now.why) != (chosen.value, chosen.why):
                problems.append(
                    f"plan.json says {spec.key}={chosen.value} for {values} ({chosen.why}), but the records of"
                    f" {', '.join(spec.sweeps)} say {now.value} ({now.why})"
                )
                whole += problems[-1:] if now.value != chosen.value else []
    return Audit(cells={}, problems=tuple(problems), notes=tuple(notes), choices=again, whole=tuple(whole))


def changed_file(plan: StoredPlan, sweeps: Path) -> list[str]:
    """Return a sentence on how the sweep file's cells have changed since the plan was made; [] if they have not.

    The question, the looks and the table may change, because they do not affect training. sweeps: folder of the
    sweep files.
    """
    if not (plan.path or is_of_this_app(plan)):
        return []  # its sweep files lie elsewhere, whatever their names
    try:
        text = sweep_file(plan, sweeps).read_text(encoding="utf-8") if plan.file and plan.text else plan.text
        before, now = (_declared(each) for each in (plan.text, text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key, _NONE) != now.get(key, _NONE)]
    texts = [f"{key} was {before.get(key, _NONE)}, is {now.get(key, _NONE)}" for key in keys]
    return [f"{file_text(plan)} has changed since the plan: {'; '.join(texts)}"] if texts else []


def _declared(text: str) -> dict[str, Any]:
    """Return {"section: key": value} for the sections of a sweep file that define cells."""
    content = yaml.safe_load(text)
    found: dict[str, Any] = {}
    for section, part in content.items() if isinstance(content, dict) else ():
        if section not in ("question", "seeds", "table"):
            found |= (
                {f"{section}: {key}": each for key, each in part.items()} if isinstance(part, dict) else {section: part}
            )
    return found


def audit_file(plan: StoredPlan, sweep: "Sweep", place: str) -> Iterator[str]:
    """Yield a sentence for each difference between a plan's cells and a sweep file, in the knobs that the file sets.

    sweep: the parsed file. place: the file's name for messages.
    """
    arms = Counter(cell.arm for cell in plan.cells if cell.arm)
    for arm in [arm for arm in arms if arm not in sweep.arms]:
        yield f"plan.json has {counted(arms[arm], 'cell')} of arm {arm}, {place} has no such arm"
    for arm in [arm for arm in sweep.arms if arm not in arms]:
        yield f"{place} has arm {arm}, of which plan.json has no cell"
    for arm, own in sweep.arms.items():
        cells = [plan.config(cell) for cell in plan.cells if cell.arm == arm]
        for key, (wanted, *_) in _said(plan, own).items():
            if other := [config[key] for config in cells if config.get(key) != wanted]:
                yield f"{place} says {key}={wanted} of arm {arm}, plan.json {other[0]} of {counted(len(other), 'cell')}"
    if sweep.cells:
        return  # entries of `cells` may set any value
    in_arms = {key for own in sweep.arms.values() for key in own}
    skipped = in_arms | {spec.key for spec in sweep.choose} | {key for rule in sweep.exclude for key in rule.when}
    varied = [*sweep.zip, sweep.grid, sweep.fixed]
    for key, values in {key: values for part in varied for key, values in _said(plan, part).items()}.items():
        if key in skipped or any(key.startswith(f"{each}.") for each in in_arms):
            continue
        planned = [plan.config(cell).get(key) for cell in plan.cells]
        lacking = [value for value in values if value not in planned]
        beyond = [value for value in planned if value not in values]
        if lacking or beyond:
            texts = [f"plan.json has {_texts(planned)}", f"{place} {_texts(values)}"]
            yield f"{key}: {' and '.join(texts)}"


def exchanged_arms(plan: StoredPlan, sweep: "Sweep", place: str) -> Iterator[str]:
    """Yield a sentence for each arm of a plan whose cells are those of another arm in the sweep file.

    A file in which an arm was changed says nothing of the cells that were trained before; names that were exchanged do.
    """
    wanted = {arm: _said(plan, own) for arm, own in sweep.arms.items()}
    for arm in sweep.arms:
        configs = [plan.config(cell) for cell in plan.cells if cell.arm == arm]
        lacking = {key for key, values in wanted[arm].items() if not _fit(configs, {key: values})}
        # An arm that does not set what differs fits any cell.
        others = (each for each in wanted if wanted[each].keys() >= lacking and _fit(configs, wanted[each]))
        if lacking and (other := next(others, None)) is not None:
            yield f"the cells that plan.json calls {arm} are those of arm {other} in {place}"


def _fit(configs: Sequence[Mapping[str, Any]], wanted: Mapping[str, Sequence[Any]]) -> bool:
    return all(config.get(key) == values[0] for config in configs for key, values in wanted.items())


def _said(plan: StoredPlan, part: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return {key: values} that a part of a sweep file sets in a plan's cells, without those of the command line."""
    given = {text.lstrip("+~").partition("=")[0] for text in plan.changes}
    given |= {key.partition(".")[0] for key in given}
    mine = {key: value for key, value in part.items() if not {key, key.partition(".")[0]} & given}
    return {key: values for key, value in mine.items() if (values := _values(key, value)) is not None}


def _values(key: str, value: Any) -> list[Any] | None:
    """Return the values that cells get from one key of a sweep file; None if only Hydra could parse them."""
    from strive.sweeps.sections import Faults, record_values

    if key not in identity.science_keys():
        return None
    if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
        return list(range(*(int(each) for each in match[1].split(","))))
    if isinstance(value, str) and "(" in value:
        return None
    faults = Faults()
    found = record_values("", key, value, faults)
    return None if faults.lines else found


def _texts(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


# -- ids


def _false_cells(plan: StoredPlan, folders: Sequence[Path]) -> dict[str, str]:
    """Return {cell: the entry of the plan that its id contradicts}."""
    hashes = _hashes(plan)
    false: dict[str, str] = {}
    seen: set[str] = set()
    for cell, wanted in zip(plan.cells, hashes, strict=True):
        if not cell.cell.endswith(f"-{wanted}"):
            false[cell.cell] = _difference(plan, cell, wanted, folders)
        elif cell.cell in seen:
            false[cell.cell] = "plan.json has this cell twice"
        elif cell.epochs != plan.config(cell).get("budget.epochs", cell.epochs):
            false[cell.cell] = (
                f"plan.json says {cell.epochs} epochs, and budget.epochs={plan.config(cell).get('budget.epochs')}"
            )
        seen.add(cell.cell)
    return false


def _hashes(plan: StoredPlan) -> list[str]:
    try:
        own = [plan.part_of_identity(cell.factors) for cell in plan.cells]
        return identity.hashes_of(plan.part_of_identity(plan.common), own)
    except ValueError:  # a value is not a number, so no valid config has this id
        return ["not a number"] * len(plan.cells)


def _difference(plan: StoredPlan, cell: StoredCell, wanted: str, folders: Sequence[Path]) -> str:
    """Return how the plan's values differ from those in the record with the cell's id."""
    record = _record(cell.cell, folders)
    if record is None:
        return f"plan.json says of it what an id that ends in {wanted} would mean"
    planned = plan.config(cell)
    told = {key: (planned.get(key), value) for key, value in record.config.items()}
    texts = [f"{key}={ours!r}, record.json {theirs!r}" for key, (ours, theirs) in told.items() if ours != theirs]
    return f"plan.json says {'; '.join(texts)}" if texts else f"plan.json says what only {wanted} would mean"


def _grouped(cells: Mapping[str, str]) -> Iterator[str]:
    """Yield each reason once, with the cells that share it."""
    for why, count in Counter(cells.values()).items():
        yield f"{_listed([cell for cell in cells if cells[cell] == why], count)}: {why}"


def _misnamed(plan: StoredPlan, name: str) -> Iterator[str]:
    wanted = plan_folder_name(plan.changes, plan.file)
    if plan.sweep != name or wanted != name:
        yield (
            f"plan.json says it is of {plan.sweep} ({' '.join([plan.file, *plan.changes]) or 'no overrides'}), which"
            f" is kept as {wanted}, but it lies in {name}"
        )


def _false_arms(plan: StoredPlan) -> Iterator[str]:
    """Yield a sentence for each value of an arm in the plan's copy of the sweep file that the arm's cells lack.

    An arm is no part of an id, so two arms of a plan may have been exchanged. Of texts plain words alone are compared:
    what others mean, only Hydra says, as it does of a group's option, whose name no cell has.
    """
    try:
        content = yaml.safe_load(plan.text)
    except yaml.YAMLError:
        return
    arms = content.get("arms") if isinstance(content, dict) else None
    given = {text.lstrip("+~").partition("=")[0] for text in plan.changes}
    for arm, own in arms.items() if isinstance(arms, dict) else ():
        cells = [plan.config(cell) for cell in plan.cells if cell.arm == str(arm)]
        for key, wanted in own.items() if isinstance(own, dict) else ():
            if key in given or key.partition(".")[0] in given:
                continue
            own_values = [config[key] for config in cells if key in config and _comparable(config[key], wanted)]
            if other := [value for value in own_values if not _equal(value, wanted)]:
                yield (
                    f"the sweep file in plan.json says {key}={wanted} of arm {arm}, plan.json {other[0]} of"
                    f" {counted(len(other), 'cell')}"
                )


def _comparable(value: Any, wanted: Any) -> bool:
    """Return whether a cell's value tells if it is the one of a sweep file: a number, or a word beside a text."""
    if isinstance(wanted, str):
        return isinstance(value, str) and NAME.fullmatch(wanted) is not None
    return isinstance(wanted, bool | int | float)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    with suppress(TypeError, ValueError):  # a number may stand as text in one of them
        return isinstance(one, bool) is isinstance(other, bool) and float(one) == float(other)
    return bool(one == other)


def _false_choices(plan: StoredPlan) -> Iterator[str]:
    """Yield a sentence for each chosen value that the cells it was chosen for do not have."""
    for chosen in plan.choices:
        configs = [plan.config(cell) for cell in plan.cells if _is_of(plan, cell, chosen.per)]
        if other := [config[chosen.key] for config in configs if config.get(chosen.key, chosen.value) != chosen.value]:
            values = " ".join(f"{key}={value}" for key, value in chosen.per.items()) or "all cells"
            yield (
                f"plan.json chooses {chosen.key}={chosen.value} for {values}, and has {other[0]} in"
                f" {counted(len(other), 'cell')} of it"
            )


def other_plans(plan: StoredPlan, name: str, folders: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence for each plan of the same name in another of the folders that has other cells, or other arms."""
    places = [sweep_folder(folder, name) / "plan.json" for folder in dict.fromkeys(folders)]
    own = {(cell.cell, cell.arm) for cell in plan.cells}
    first = ""
    for path in places if len(places) > 1 else ():  # reading a plan of many cells takes a while
        other = _plan(path.parents[2], name)
        theirs = {(cell.cell, cell.arm) for cell in other.cells} if other else own
        if theirs != own:
            only = {first: own - theirs, str(path): theirs - own}
            texts = [f"{counted(len(cells), 'cell')} only in {place}" for place, cells in only.items() if cells]
            yield f"{first} and {path} are different plans of one sweep: {', '.join(texts)}; read one of the folders"
        elif other:
            first = first or str(path)


# -- records that the plan lacks


def _left_out(plan: StoredPlan, name: str, folders: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence on finished cells that differ from the plan's only in the seed and belong to no other plan."""
    extra: dict[str, Record] = {}
    for folder in folders:
        for cell in _other_seeds(plan, names_in(folder)):
            record = _record(cell, [folder])
            if record is not None and record.status.finished:
                extra.setdefault(cell, record)
    if not extra:
        return
    for folder in folders:
        for other in names_in(folder / "sweeps") - {name}:
            with suppress(RecordError, OSError):
                for stored in StoredPlan.read(sweep_folder(folder, other)).cells:
                    extra.pop(stored.cell, None)
    if extra:
        texts = [f"{cell} ({record.status.value}, {_error(record)})" for cell, record in extra.items()]
        yield (
            f"{counted(len(extra), 'finished cell')} of the same grid {'is' if len(extra) == 1 else 'are'} in no plan:"
            f" {_listed(texts, len(texts))}; launch the sweep with all its seeds, or move the records away"
        )


def _other_seeds(plan: StoredPlan, names: Iterable[str]) -> Iterator[str]:
    """Yield the names that are ids of the plan's cells with another seed."""
    planned = {cell.cell for cell in plan.cells}
    names = frozenset(names)
    seeds: dict[str, set[int]] = {}
    for name in names - planned:
        if match := _SEED.fullmatch(name):
            seeds.setdefault(match["net"], set()).add(int(match["seed"]))
    if not seeds:
        return
    tried = set()
    for cell in plan.cells:
        match = _SEED.fullmatch(cell.cell)
        others = seeds.get(match["net"], set()) if match else set()
        config = plan.science(cell) if others else {}
        without = repr([value for key, value in config.items() if key != plan.seed and key in cell.factors])
        if match is None or not others or (match["net"], without) in tried:
            continue
        tried.add((match["net"], without))
        with suppress(ValueError):
            own = [{plan.seed: seed} for seed in sorted(others)]
            hashes = identity.hashes_of({key: config[key] for key in config if key != plan.seed}, own)
            found = (f"{match['net']}-s{seed}-{each}" for seed, each in zip(sorted(others), hashes, strict=True))
            yield from (each for each in found if each in names and each not in planned)


# -- choices


def _parents(
    sweep: "Sweep", spec: ChoiceSpec, changes: Sequence[str], folders: Sequence[Path]
) -> list[tuple[Science, Record | None]] | None:
    """Return the cells of the parent sweeps with their records; None if a parent has no readable plan."""
    found: list[tuple[Science, Record | None]] = []
    for name in spec.sweeps:
        wanted = plan_name(sweep.for_parents(changes), name)
        plan = next(filter(None, (_plan(folder, wanted) for folder in folders)), None)
        if plan is None:
            return None
        found += [(plan.deciding(cell), _record(cell.cell, folders)) for cell in plan.cells]
    return found


def _plan(folder: Path, name: str) -> StoredPlan | None:
    try:
        return StoredPlan.read(sweep_folder(folder, name))
    except (RecordError, OSError):
        return None


def _is_of(plan: StoredPlan, cell: StoredCell, per: Mapping[str, Any]) -> bool:
    config = plan.config(cell)
    return all(config.get(key) == value for key, value in per.items())


def _record(cell: str, folders: Sequence[Path]) -> Record | None:
    """Return a cell's record, preferring a finished one; None if no record can be read."""
    found = []
    for folder in folders:
        if Path(cell).name == cell:  # plans may be edited by hand: never follow a path out of the folder
            with suppress(RecordError, OSError, RecursionError):
                found.append(records.read_record(records.record_path(folder, cell)))
    return next((record for record in found if record.status.finished), next(iter(found), None))


def _error(record: Record) -> str:
    return result_text(record.metrics) if record.status.finished else "no result"


def _listed(texts: Sequence[str], count: int) -> str:
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more
