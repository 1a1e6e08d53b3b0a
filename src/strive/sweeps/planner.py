"""Planning: composes and checks every cell of a command line, and lists all errors together."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track

from strive import app
from strive.app import CellFacts
from strive.cells import records
from strive.cells.check import check_cell
from strive.cells.records import Record, data_text
from strive.cells.settings import settings_of
from strive.cells.task import read_tasks
from strive.code.hash import changed_files_text
from strive.config import identity
from strive.config.error_text import complaint
from strive.config.platform_keys import CellConfig
from strive.console import CONSOLE
from strive.errors import ConfigError, MissingDataError, RecordError
from strive.format import counted
from strive.sweeps.arm_differences import ArmDifference, Point, arm_differences
from strive.sweeps.choice import Choice, ChoiceSpec, MissingParentsError, Science, chooser, together
from strive.sweeps.compose import Composer
from strive.sweeps.override_syntax import effective_overrides, keys_of, override
from strive.sweeps.plan import (
    Action,
    Plan,
    Planned,
    Retrain,
    StoredChoice,
    StoredPlan,
    changes,
    decide_action,
    names_in,
    plan_name,
    sweep_folder,
)
from strive.sweeps.sweep_file import Combination, Sweep, spelt_out


@dataclass
class Planner:
    """Makes plans from Hydra's overrides."""

    composer: Composer
    read_sweep: Callable[[str], Sweep]  # returns the sweep file with that name
    retrain: Retrain = Retrain.failed
    queued: Callable[[Path], Mapping[str, str]] = lambda runs: {}  # returns {cell id: live SLURM job} for a runs folder
    jobs: Sequence[Sequence[str]] = ()  # overrides of each cell, where another sweeper than strive's has made them
    dry_run: bool = False  # data that is missing is noted in the plan
    _facts: dict[str, CellFacts] = field(default_factory=dict)
    _compared: dict[str, str | None] = field(default_factory=dict)
    _jobs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _folders: dict[str, frozenset[str]] = field(default_factory=dict)

    def plan(self, arguments: Sequence[str], sweep: Sweep | None, *, before_parents: bool = False) -> Plan:
        """Return the plan with an action for each cell.

        arguments: overrides without `sweeps=`. before_parents: cells whose values cannot be chosen yet are planned
        without an id.

        Raises ConfigError that lists the mistakes in all cells. If there is none but cells of other sweeps,
        which decide a value, have no result, raises MissingParentsError.
        """
        combinations = self._combinations(arguments, sweep)
        gathering = _Gathering(len(combinations))
        choosers = self._choosers_if_trained(arguments, sweep) if before_parents else self._choosers(arguments, sweep)
        for combination in track(
            combinations, "checking cells", console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal
        ):
            with gathering.attempt(combination.label):
                # Unchecked, because a product may contain impossible cells that the sweep excludes.
                config = self.composer.unchecked(combination.overrides)
                if sweep is not None and (reason := _excluded(sweep, combination, config)):
                    gathering.exclude(combination, reason)
                    continue
                try:
                    chosen = self._chosen(config, combination, choosers, gathering) if choosers else config
                except MissingParentsError as error:
                    if not before_parents:
                        raise
                    gathering.add(combination, self._waiting(config, combination.arm, error.spec))
                    continue
                with self._without_data(gathering.missing_data):
                    chosen = app.in_use().checked(chosen)
                config = records.as_recorded(chosen)
                gathering.add(combination, self._looked_up(config, combination.arm, gathering.missing_data))
        plan = self._put_together(arguments, sweep, gathering)
        return replace(plan, swept=_swept(combinations))

    def _choosers_if_trained(
        self, arguments: Sequence[str], sweep: Sweep | None
    ) -> list[tuple[ChoiceSpec, Callable[[Science], Choice]]]:
        """Return the choosers; those of a sweep whose parents cannot be composed before their own are trained wait."""
        try:
            return self._choosers(arguments, sweep)
        except MissingParentsError as error:
            missing = error

            def waits(science: Science) -> Choice:
                raise missing

            assert sweep is not None
            return [(spec, waits) for spec in sweep.choices(arguments)]

    def _waiting(self, config: CellConfig, arm: str, spec: ChoiceSpec) -> Planned:
        """Return a cell that has no id before a value of it is chosen."""
        return Planned(
            cell="",
            arm=arm,
            config=config,
            action=Action.train,
            reason=f"when {spec.key} is chosen from {', '.join(spec.sweeps)}",
            code="",
            open_key=spec.key,
        )

    @contextmanager
    def _without_data(self, missing: dict[str, None]) -> Iterator[None]:
        """Let a dry run go on where data is missing. missing: gets why a cell cannot be trained here."""
        try:
            yield
        except MissingDataError as error:
            if not self.dry_run:
                raise
            missing[str(error)] = None

    def again(self) -> "Planner":
        """Return the planner without what it has found on disk and in SLURM's queue, which may have changed."""
        return replace(self, _compared={}, _jobs={}, _folders={})

    def _put_together(self, arguments: Sequence[str], sweep: Sweep | None, gathering: "_Gathering") -> Plan:
        cells, differences = gathering.cells(sweep, arguments)
        name, runs = plan_name(arguments, sweep.name if sweep else ""), Path(settings_of(cells[0].config).runs)
        if self.retrain is Retrain.all:
            cells = _not_yet_retrained(cells, sweep_folder(runs, name))
        plan = Plan(
            sweep=name,
            file=sweep.name if sweep else "",
            changes=changes(arguments),
            question=sweep.question if sweep else "",
            runs=runs,
            code=app.in_use().code_of({}).hash,
            cells=cells,
            excluded=gathering.excluded,
            choices=list(gathering.choices.values()),
            text=sweep.text if sweep else "",
            path=sweep.path if sweep else "",
            images=app.in_use().plan_notes([planned.config for planned in cells]),
            design=sweep.design.title if sweep and sweep.design else "",
            differences=differences,
        )
        missing = [f"warning, and an error of a launch: {text}" for text in gathering.missing_data]
        notes = [*missing, *_stale_cells(plan), *_cells_of_other_images(plan), *_changed_choices(plan)]
        return replace(plan, notes=notes)

    def _combinations(self, arguments: Sequence[str], sweep: Sweep | None) -> list[Combination]:
        if self.jobs:
            return [Combination(arm="", overrides=tuple(each), label=" ".join(each)) for each in self.jobs]
        effective = effective_overrides(arguments)
        for text in set(arguments) - set(effective):
            self.composer.check(text)
        if sweep is not None:
            return sweep.combinations(effective, self.composer.expand)
        points = itertools.product(*spelt_out(effective, self.composer.expand))
        cells = [tuple(text for point in parts for text in point.values()) for parts in points]
        return [Combination(arm="", overrides=each, label=" ".join(each) or "the only cell") for each in cells]

    def _choosers(
        self, arguments: Sequence[str], sweep: Sweep | None, children: tuple[str, ...] = ()
    ) -> list[tuple[ChoiceSpec, Callable[[Science], Choice]]]:
        """Return a chooser for each value that is taken from other sweeps' records."""
        if sweep is None:
            return []
        if sweep.name in children:
            circle = " from ".join((*children, sweep.name))
            raise ConfigError(f"sweeps/{sweep.name}.yaml: these sweeps choose in a circle: {circle}")
        found = []
        for spec in sweep.choices(arguments):
            inherited = sweep.for_parents(arguments)
            line = (*children, sweep.name)
            parents = [config for name in spec.sweeps for config in self._cells_of(name, inherited, line)]
            with_records = [
                (
                    identity.deciding(app.in_use().filled_in(config)),
                    records.record_of(records.as_recorded(config)),
                )
                for config in parents
            ]
            found.append((spec, chooser(spec, with_records, inherited)))
        return found

    def _cells_of(self, name: str, arguments: Sequence[str], children: tuple[str, ...]) -> list[Any]:
        parent = self.read_sweep(name)
        choosers = self._choosers(arguments, parent, children)
        found = []
        for each in self._combinations(arguments, parent):
            config = self.composer.unchecked(each.overrides)
            if not _excluded(parent, each, config):
                config = self._chosen(config, each, choosers) if choosers else config
                with self._without_data({}):
                    config = app.in_use().checked(config)
                found.append(config)
        return found

    def _chosen(
        self,
        config: CellConfig,
        combination: Combination,
        choosers: Sequence[tuple[ChoiceSpec, Callable[[Science], Choice]]],
        gathering: "_Gathering | None" = None,
    ) -> Any:
        overrides = []
        config = app.in_use().filled_in(config)
        for spec, choose in choosers:
            choice = choose(identity.deciding(config))
            overrides.append(override(spec.key, choice.value))
            if gathering is not None:
                gathering.choose(spec, config, choice)
        return self.composer.unchecked([*combination.overrides, *overrides])

    def _looked_up(self, config: CellConfig, arm: str, missing_data: dict[str, None]) -> Planned:
        flat = app.in_use().flat(config)
        planned = decide_action(
            config,
            arm=arm,
            retrain=self.retrain,
            code=app.in_use().code_of(flat).hash,
            code_now=partial(app.in_use().code_of, flat),
            queued=self._queued(settings_of(config).runs),
            folders=self._names(settings_of(config).runs),
            other_images=self._other_images,
        )
        if planned.action is Action.done:
            return planned
        with self._without_data(missing_data):
            facts = self._facts_of(config, flat)
            return replace(planned, num_train=facts.num_train, flops=facts.flops)
        return planned

    def _facts_of(self, config: CellConfig, flat: Mapping[str, Any]) -> CellFacts:
        shared = app.in_use().pack_key(flat) + settings_of(config).runs
        if shared not in self._facts:
            self._facts[shared] = check_cell(config)
        return self._facts[shared]

    def _other_images(self, config: CellConfig, record: Record) -> str | None:
        stamp = record.provenance.details.get("data_stamp", "")
        shared = f"{app.in_use().data_key(app.in_use().flat(config))}{stamp}/{data_text(record.data)}"
        if shared not in self._compared:
            self._compared[shared] = app.in_use().other_data(config, record)
        return self._compared[shared]

    def _queued(self, runs: str) -> Mapping[str, str]:
        if runs not in self._jobs:
            self._jobs[runs] = self.queued(Path(runs))
        return self._jobs[runs]

    def _names(self, runs: str) -> frozenset[str]:
        if runs not in self._folders:
            self._folders[runs] = names_in(Path(runs))
        return self._folders[runs]


class _Gathering:
    """Collects cells and errors."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._planned: dict[str, Planned] = {}
        self._labels: list[tuple[str, str]] = []
        self._points: dict[Point, CellConfig] = {}
        self._errors: dict[str, list[str]] = {}
        self._missing: list[MissingParentsError] = []
        self.excluded: list[tuple[str, str]] = []
        self.choices: dict[str, StoredChoice] = {}
        self.before_parents = False  # whether some cells have no id yet
        self.missing_data: dict[str, None] = {}  # why cells cannot train here, each once

    @contextmanager
    def attempt(self, label: str) -> Iterator[None]:
        """Collect the errors raised in the block. label: of the cell."""
        try:
            yield
        except MissingParentsError as error:
            self._missing.append(error)
        except Exception as error:
            text = complaint(error)
            if text is None:
                raise
            self._errors.setdefault(text, []).append(label)

    def add(self, combination: Combination, planned: Planned) -> None:
        """Add the cell."""
        if combination.in_product:
            self._points[combination.arm, combination.point] = planned.config
        if not planned.cell:
            self._planned[combination.label] = planned
            self.before_parents = True
            return
        twin = self._planned.setdefault(planned.cell, planned)
        if twin is not planned:
            _check_twin(planned.config, twin.config)
        # Two spellings of one builder's arguments are one cell, although an older record may use another name for it.
        filled = app.in_use().filled_in(planned.config)
        cell = planned.cell if filled is planned.config else identity.cell_id(filled)
        self._labels.append((combination.label, cell))

    def exclude(self, combination: Combination, reason: str) -> None:
        """Add an excluded cell."""
        self.excluded.append((combination.label, reason))

    def choose(self, spec: ChoiceSpec, config: CellConfig, choice: Choice) -> None:
        """Add a chosen value."""
        flat = identity.with_argument_keys(app.in_use().flat(config))
        per = {key: flat.get(key) for key in spec.per}
        self.choices[f"{spec.key} {per}"] = StoredChoice(
            key=spec.key, sweeps=list(spec.sweeps), per=per, by=spec.by.metric, value=choice.value, why=choice.why
        )

    def cells(self, sweep: Sweep | None, arguments: Sequence[str]) -> tuple[list[Planned], list[ArmDifference]]:
        """Return the distinct cells and how a design's arms differ, or raise ConfigError with all collected errors."""
        missing = together(self._missing)
        if self._errors:
            errors = self._errors | {str(error): [sweep.name if sweep else ""] for error in missing}
            raise ConfigError("\n".join(_listed(errors, self._number)))
        if missing:
            raise missing[0]
        differences = list[ArmDifference]()
        if sweep is not None and not self.before_parents:
            if sweep.design is not None:
                given = {key for text in arguments for key in keys_of(text)}
                chosen = [spec.key for spec in sweep.choose]
                try:
                    differences = arm_differences(sweep.design, self._points, chosen, given)
                except ConfigError as error:
                    raise ConfigError(f"sweeps/{sweep.name}.yaml: {error}") from None
            sweep.check(self._labels, self.excluded, arguments)
            sweep.check_table(planned.config for planned in self._planned.values())
        if not self._planned:
            raise ConfigError("every cell of this sweep is excluded; there is nothing to train")
        return list(self._planned.values()), differences


def _excluded(sweep: Sweep, combination: Combination, config: CellConfig) -> str:
    """Return the reason why a sweep's product leaves out a cell, or ""."""
    return sweep.excluded(app.in_use().filled_in(config)) if combination.in_product and sweep.exclude else ""


def _swept(combinations: Sequence[Combination]) -> tuple[str, ...]:
    """Return the keys that do not have one override in all cells."""
    counts = Counter(text for each in combinations for text in each.overrides)
    varying = [text for text, count in counts.items() if count < len(combinations)]
    return tuple(dict.fromkeys(key for text in varying for key in keys_of(text)))


def _check_twin(config: CellConfig, twin: CellConfig) -> None:
    """Raise ConfigError if two configs of one cell have their records or their data in different places."""
    if config is twin:
        return
    flat, other = app.in_use().flat(config), app.in_use().flat(twin)
    differing = {key: (value, other[key]) for key, value in flat.items() if key in other and other[key] != value}
    data_key, runs = app.in_use().data_key, (settings_of(config).runs, settings_of(twin).runs)
    moved = {key: both for key, both in differing.items() if data_key(flat | {key: both[1]}) != data_key(flat)}
    for key, (ours, theirs) in (moved | ({"runs": runs} if runs[0] != runs[1] else {})).items():
        raise ConfigError(
            f"{key}={theirs} and {key}={ours} give one and the same cell {identity.cell_id(config)};"
            " start them separately, or give other images another data.name"
        )


def _listed(errors: Mapping[str, Sequence[str]], number: int) -> Iterator[str]:
    yield f"{sum(map(len, errors.values()))} of {counted(number, 'cell')} cannot train; nothing was started"
    for text, where in errors.items():
        yield f"- {text}"
        yield f"    in: {where[0]}" + (f" and {len(where) - 1} more" if len(where) > 1 else "")


def _stale_cells(plan: Plan) -> Iterator[str]:
    stale = [planned for planned in plan.cells if planned.stale and planned.action is Action.done]
    if not stale:
        return
    # One cell for each version of the code is enough to list its changes.
    codes = ", ".join(sorted({_since(planned) for planned in {each.stale: each for each in stale}.values()}))
    come, them = ("comes", "it") if len(stale) == 1 else ("come", "them")
    yield (
        f"{counted(len(stale), 'done cell')} {come} from other code ({codes});"
        f" hydra.sweeper.retrain=stale trains {them} again:"
    )
    yield from _names_of(stale)


def _names_of(cells: Sequence[Planned]) -> Iterator[str]:
    yield from (f"  {planned.cell}" for planned in cells[:_SHOWN])
    if len(cells) > _SHOWN:
        yield f"  and {len(cells) - _SHOWN} more"


def _cells_of_other_images(plan: Plan) -> Iterator[str]:
    """Name the finished cells whose images were replaced, because cells that train now use other images."""
    whys = sorted({planned.other_images for planned in plan.cells if planned.action is Action.done} - {""})
    for why in whys:
        cells = [planned for planned in plan.cells if planned.other_images == why and planned.action is Action.done]
        yield (
            f"{len(cells)} done cell{'s, each' if len(cells) > 1 else ''}: {why};"
            " give the new images another data.name, or hydra.sweeper.retrain=stale trains these again:"
        )
        yield from _names_of(cells)


def _since(planned: Planned) -> str:
    """Return the code hash of a finished cell, and the files that have changed since if its record lists them."""
    record = records.record_of(planned.config)
    before = record.provenance.code_files if record is not None else {}
    changed = changed_files_text(before, app.in_use().code_of(app.in_use().flat(planned.config), before).files)
    return f"{planned.stale}: {changed} changed since" if changed else planned.stale


def _not_yet_retrained(cells: list[Planned], folder: Path) -> list[Planned]:
    """Mark cells that an interrupted launch with retrain=all has retrained; after a complete launch, mark none."""
    launches = sorted(folder.glob("*/tasks.jsonl"))
    tasks = read_tasks(launches[-1]) if launches else []
    before = {task.cell: task.replaces for task in tasks if task.replaces}
    if not any(before.get(planned.cell) == planned.replaces for planned in cells if planned.replaces):
        return cells
    return [
        replace(planned, action=Action.done, reason="retrained by the launch that was interrupted", replaces="")
        if planned.action is Action.retrain and before.get(planned.cell, planned.replaces) != planned.replaces
        else planned
        for planned in cells
    ]


def _changed_choices(plan: Plan) -> Iterator[str]:
    """Yield a sentence for each choice that new records of a parent sweep have changed since the last plan."""
    try:
        before = StoredPlan.read(sweep_folder(plan.runs, plan.sweep)).choices
    except (FileNotFoundError, RecordError):
        return
    then = {(each.key, repr(each.per)): each for each in before}
    for now in plan.choices:
        old = then.get((now.key, repr(now.per)))
        if old is not None and old.value != now.value:
            where = " ".join(f"{key}={value}" for key, value in now.per.items()) or "all cells"
            yield (
                f"{now.key} for {where} was {old.value} in the last plan and is {now.value} now: {now.why}."
                " What was trained with the old value is kept and belongs to this sweep no more"
            )


_SHOWN = 20  # names listed before the rest is counted
