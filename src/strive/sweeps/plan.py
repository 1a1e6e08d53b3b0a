"""The plan of a sweep: whether each cell is trained, resumed, retried, retrained, awaited or left, and why."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec

from strive import app
from strive.cells import records
from strive.cells.checkpoints import has_checkpoint
from strive.cells.evidence import remark
from strive.cells.history import read_lines
from strive.cells.records import Record
from strive.cells.schema1 import is_logistics
from strive.cells.settings import settings_of
from strive.cells.state import CellState, FolderState, find_state
from strive.code.hash import Code, changed_files_text
from strive.code.same_code import is_stale
from strive.command_line import program
from strive.config import identity
from strive.config.keys import defaults, groups
from strive.config.platform_keys import CellConfig, is_need
from strive.decoding import convert
from strive.errors import RecordError
from strive.sweeps.arm_differences import ArmDifference
from strive.sweeps.factors import independent
from strive.sweeps.labels import Labels
from strive.sweeps.override_syntax import effective_overrides, flattened, keys_of

SCHEMA = 4
_READ = (2, 3, SCHEMA)  # schema 2 lacks the sweep file's text; 2 and 3 lack logistics and labels


class Action(StrEnum):
    """The action that a launch takes for a cell."""

    train = auto()  # from the start
    resume = auto()  # from a checkpoint
    retry = auto()  # it failed before
    retrain = auto()  # it has a result, which is kept until the new one exists
    wait = auto()  # another process or a SLURM job is training it
    leave = auto()  # it failed before, and hydra.sweeper.retrain=none
    done = auto()  # it has a result

    @property
    def trains(self) -> bool:
        """Return whether this launch gives the cell to a worker."""
        return self in (Action.train, Action.resume, Action.retry, Action.retrain)


class Retrain(StrEnum):
    """Cells to train again, as set by hydra.sweeper.retrain; each kind includes the one before it."""

    none = auto()  # only cells that never finished
    failed = auto()  # also cells without a result
    stale = auto()  # also cells whose deciding source or images have changed since
    all = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One cell of a plan."""

    cell: str  # its id; "" in a dry run before a value of it can be chosen
    arm: str  # its name in the sweep file; "" if it has none
    config: CellConfig
    action: Action
    reason: str
    code: str  # hash of the current source that determines its numbers
    open_key: str = ""  # the key whose value cannot be chosen yet, where the cell has no id
    stale: str = ""  # the code hash in its record, if the code has changed since
    other_images: str = ""  # why its record's images differ from those at data.root now
    replaces: str = ""  # sha256 of the record file that retraining replaces
    job: str = ""  # the SLURM job that is training it
    epochs_left: int = 0
    num_train: int = 0  # training images in an epoch; 0 for a finished cell
    flops: int = 0  # for the net's forward pass of one image

    @property
    def images_left(self) -> int:
        """Return the training images times the epochs that are left; 0 if they are not known."""
        return self.num_train * self.epochs_left

    @property
    def work(self) -> float:
        """Return the FLOPs of the forward passes that are left; 0 if they are not known."""
        return float(self.images_left * self.flops)


class StoredChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that was chosen from other sweeps' records."""

    key: str
    sweeps: list[str]  # the sweeps that own these records
    per: dict[str, Any]  # {key: value} of the cells that use the value
    by: str  # the error that was minimised: val_error, or the paper's own test_error
    value: Any
    why: str  # one line


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All cells of a sweep."""

    sweep: str  # its name
    file: str  # the sweep file's name; "" for a multirun without a file
    changes: list[str]  # command-line overrides that change the cells
    question: str  # from the sweep file; "" for a multirun without a file
    runs: Path
    code: str  # hash of the deciding source of the package, without a user's builder
    cells: list[Planned]
    excluded: list[tuple[str, str]] = field(default_factory=list)  # overrides, reason
    choices: list[StoredChoice] = field(default_factory=list)
    text: str = ""  # the sweep file's text
    path: str = ""  # of the sweep file, where its name does not say it: absolute
    images: list[str] = field(default_factory=list)  # the images found for each data set, and those left out
    notes: list[str] = field(default_factory=list)  # what the user should know before it starts
    swept: tuple[str, ...] = ()  # keys that the command line and the sweep file give several values
    after: Sequence[str] = ()  # sweeps that must be trained before some values of the cells can be chosen
    design: str = ""  # such as "leave_one_out of 6 components"; "" for a sweep without components
    differences: list[ArmDifference] = field(default_factory=list)  # of the design's arms from their references

    @property
    def folder(self) -> Path:
        """Return the folder that holds the plan and its submissions."""
        return sweep_folder(self.runs, self.sweep)

    def having(self, *actions: Action) -> list[Planned]:
        """Return the cells with one of these actions."""
        return [planned for planned in self.cells if planned.action in actions]


def sweep_folder(runs: Path, sweep: str) -> Path:
    """Return the folder that holds the plan of a sweep and its submissions."""
    return runs / "sweeps" / sweep


def runs_folder(plan: Path) -> Path:
    """Return the runs folder that holds a plan's folder."""
    return plan.parent.parent


def plan_folders(runs: Sequence[Path]) -> dict[str, Path]:
    """Return {plan name: its folder, RUNS/sweeps/NAME}; if two have the same name, that in the first runs folder."""
    found: dict[str, Path] = {}
    for folder in runs:
        for path in sorted((folder / "sweeps").glob("*/plan.json")):
            found.setdefault(path.parent.name, path.parent)
    return found


def plan_name(arguments: Sequence[str], sweep: str) -> str:
    """Return the name under which a plan is kept: the sweep file's name, plus a hash of the changes if there are any.

    arguments: overrides without `sweeps=`. sweep: the sweep file's name, "" for a multirun without a file.
    """
    return plan_folder_name(changes(arguments), sweep)


def plan_folder_name(changed: Sequence[str], sweep: str) -> str:
    """Return a plan's name, given the changes as they were when it was written."""
    name = sweep.replace("/", "-") or "multirun"
    if sweep and not changed:
        return name
    return f"{name}-{hashlib.sha256(repr(changed).encode()).hexdigest()[:8]}"


def changes(arguments: Sequence[str]) -> list[str]:
    """Return the overrides that change the cells, sorted; those for the device or the runs folder do not.

    Raises Hydra's error for a mapping that it cannot parse.
    """
    each = effective_overrides([text for given in arguments for text in flattened(given)])
    return sorted(text for text in each if not all(map(_is_logistics, keys_of(text))))


def _is_logistics(key: str) -> bool:
    key = key.lstrip("~")
    if key in defaults() or is_need(key):
        return not identity.decides(key)
    # If a group has no science key, choosing one of its options (tracker=none) does not change the cells.
    group = re.split(r"[./@]", key)[0]
    below = [known for known in defaults() if known.startswith(f"{group}.")]
    return group == "hydra" or (group in groups() and not any(map(identity.decides, below)))


def decide_action(
    config: CellConfig,
    *,
    arm: str = "",
    retrain: Retrain,
    code: str,
    code_now: Callable[[Mapping[str, str]], Code],
    queued: Mapping[str, str],
    folders: frozenset[str],
    other_images: Callable[[CellConfig, Record], str | None] = lambda config, record: None,
) -> Planned:
    """Return the action for one cell, decided from the files on disk.

    code: hash of the code that would train it. code_now: returns the code here that a record's files are now.
    queued: {cell id: SLURM job} of earlier submissions that are still alive. folders: names in the
    runs folder, so that a cell that was never started needs no disk access. other_images: returns why a
    record's images differ from those at data.root now, or None or "".

    Raises RecordError for a record that cannot be trusted.
    """
    cell = identity.cell_id(config)
    folder = Path(settings_of(config).runs) / cell
    planned = partial(Planned, cell=cell, arm=arm, config=config, code=code)
    epochs = app.in_use().epochs(config)
    record = records.record_of(config) if cell in folders else None
    if record is not None and record.status.finished:
        return _of_result(planned, config, record, folder, retrain, code_now, other_images)
    status = record.status if record is not None else None
    disk = find_state(folder, status) if cell in folders else FolderState(CellState.missing)
    if disk.state is CellState.running:
        why, job = f"trained by {disk.owner}", queued.get(cell, "")
        return planned(action=Action.wait, reason=why, epochs_left=epochs, job=job)
    if cell in queued:
        return planned(action=Action.wait, reason=f"SLURM job {queued[cell]}", epochs_left=epochs, job=queued[cell])
    done = disk.epochs_done if disk.has_checkpoint else None
    left = epochs - (done or 0)
    from_where = f"from epoch {done} of {epochs}" if done is not None else "from the start"
    if record is not None:
        assert record.failure is not None
        why = f"{record.status.value}: {record.failure.cause}"
        if retrain is Retrain.none:
            return planned(action=Action.leave, reason=why)
        return planned(action=Action.retry, reason=f"{why}; {from_where}", epochs_left=left)
    if done is not None:
        return planned(action=Action.resume, reason=from_where, epochs_left=left)
    return planned(action=Action.train, reason="no record", epochs_left=left)


def _of_result(
    planned: Callable[..., Planned],
    config: CellConfig,
    record: Record,
    folder: Path,
    retrain: Retrain,
    code_now: Callable[[Mapping[str, str]], Code],
    other_images: Callable[[CellConfig, Record], str | None],
) -> Planned:
    """Return the action for a cell that has a result. planned: makes it, folder: of the cell, the rest as above."""
    made = record.provenance.code_hash
    here = code_now(record.provenance.code_files)
    stale = made if is_stale(made, here.hash, record.config, folder.parent) else ""
    images = other_images(config, record) or ""
    if retrain is not Retrain.all and not (retrain is Retrain.stale and (stale or images)):
        ended = f"{record.status.value}: {why}" if (why := remark(record)) else record.status.value
        return planned(action=Action.done, reason=ended, stale=stale, other_images=images)
    why = images or "hydra.sweeper.retrain=all"
    if stale:
        changed = changed_files_text(record.provenance.code_files, here.files)
        why = f"code {stale}, now {here.hash}" + (f" ({changed} changed)" if changed else "")
    replaces = records.file_hash(records.record_path(folder.parent, folder.name))
    begun = len(read_lines(folder / records.RETRAINING)) if has_checkpoint(folder / records.RETRAINING) else 0
    epochs = app.in_use().epochs(config)
    why += f"; from epoch {begun} of {epochs}" if begun else ""
    return planned(
        action=Action.retrain, reason=why, stale=stale, other_images=images, replaces=replaces,
        epochs_left=epochs - begun,
    )  # fmt: skip


def names_in(runs: Path) -> frozenset[str]:
    """Return the names in a runs folder; none if it does not exist yet."""
    try:
        return frozenset(os.listdir(runs))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


class StoredCell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell of a stored plan."""

    cell: str
    arm: str
    action: Action
    reason: str
    epochs: int
    factors: dict[str, Any]  # {key: value} of the knobs that vary within the sweep


class StoredPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last plan of a sweep, as status and analysis read it without composing any config."""

    sweep: str
    file: str
    changes: list[str]
    question: str
    code: str
    common: dict[str, Any]  # {key: value} of the knobs that all cells share
    cells: list[StoredCell]
    excluded: list[list[str]]
    choices: list[StoredChoice]
    text: str = ""  # the sweep file's text, with the layout of its table; "" for a multirun, and in plans of schema 2
    images: list[str] = []  # the images that were found for each data set, and those that are left out
    app: str = ""  # the module that implements strive.app.App for these cells; "" before schema 4
    logistics: list[str] = []  # keys of the cells that do not determine their numbers
    absent: dict[str, Any] = {}  # {key: the value with which it is no part of a cell's identity}
    seed: str = "seed"  # the key that makes replicates
    labels: Labels = Labels()  # what the app calls its keys and values
    swept: list[str] = []  # keys that were given several values
    program: list[str] = []  # what stood behind `python` in the command that launched it; [] if it is not known
    start: dict[str, Any] = {}  # how its program is started, for an app that is a program of its own
    path: str = ""  # of the sweep file, where its name does not say it: absolute

    def config(self, cell: StoredCell) -> dict[str, Any]:
        """Return all knobs of a cell, as App.flat does."""
        return self.common | cell.factors

    def science(self, cell: StoredCell) -> dict[str, Any]:
        """Return the knobs of a cell that determine its numbers, as a record's config has them."""
        return self.part_of_identity(self.config(cell))

    def deciding(self, cell: StoredCell) -> dict[str, Any]:
        """Return `science(cell)` with the knobs, too, that are absent from the identity at their value."""
        return {key: value for key, value in self.config(cell).items() if self.decides(key)}

    def part_of_identity(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of these knobs is part of a cell's identity."""
        return identity.without(self.absent, {key: value for key, value in config.items() if self.decides(key)})

    def decides(self, key: str) -> bool:
        """Return whether a knob, or an argument of a builder, determines numbers."""
        return key not in self.logistics

    @property
    def varying(self) -> list[str]:
        """Return the knobs that vary between the cells, in order, with builder arguments as separate keys.

        Of a foreign app without those that follow from others: interpolations, and what else an option brings.
        """
        keys = list(_keys([cell.factors for cell in self.cells]))
        if self.start:
            deciding = [key for key in keys if self.decides(key)]
            return independent(deciding, [cell.factors for cell in self.cells], first=self.swept)
        return [each for key in keys for each in (self._varying_arguments(key) if key in identity.BUILDERS else [key])]

    def _varying_arguments(self, key: str) -> list[str]:
        """Return the keys below one that holds arguments."""
        spread = [identity.with_argument_keys({key: cell.factors[key]}) for cell in self.cells]
        arguments = dict.fromkeys(name for each in spread for name in filter(identity.is_open_key, each))
        texts = {name: {json.dumps(each[name]) if name in each else "" for each in spread} for name in arguments}
        return [name for name in arguments if len(texts[name]) > 1]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a file of write_plan.

        Raises FileNotFoundError, and RecordError for a file that is not a plan of this version.
        """
        path = folder / "plan.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (schema := content.pop("schema")) not in _READ:
                raise ValueError("another schema")
            plan = convert(content if schema == SCHEMA else _with_app_parts(content), cls)
            # An option of a foreign app may bring keys of its own.
            if not plan.start and any(cell.factors.keys() != plan.cells[0].factors.keys() for cell in plan.cells):
                raise ValueError("its cells vary in different keys")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecordError(f"{path}: not a plan of this version ({error}); start the sweep again") from None
        return plan


def _with_app_parts(content: dict[str, Any]) -> dict[str, Any]:
    """Return a plan of schema 2 or 3 with the parts that it lacks: its logistics are those of records of schema 1."""
    keys = [*content["common"], *(key for cell in content["cells"][:1] for key in cell["factors"])]
    logistics = [key for key in keys if is_logistics(key)]
    return content | {"logistics": logistics, "labels": msgspec.to_builtins(app.in_use().labels())}


def write_plan(plan: Plan) -> Path:
    """Write the plan into its folder."""
    path = plan.folder / "plan.json"
    records.make_folder(path.parent)
    content = {"schema": SCHEMA} | msgspec.to_builtins(stored_plan(plan))
    records.write_whole(path, (json.dumps(content, indent=1) + "\n").encode(), durable=False)
    return path


def stored_plan(plan: Plan) -> StoredPlan:
    """Return the plan as its file has it."""
    common, factors = common_and_own([app.in_use().flat(planned.config) for planned in plan.cells])
    return StoredPlan(
        sweep=plan.sweep,
        file=plan.file,
        changes=plan.changes,
        question=plan.question,
        code=plan.code,
        common=common,
        cells=[
            StoredCell(
                cell=planned.cell,
                arm=planned.arm,
                action=planned.action,
                reason=planned.reason,
                epochs=app.in_use().epochs(planned.config),
                factors=values,
            )
            for planned, values in zip(plan.cells, factors, strict=True)
        ],
        excluded=[list(pair) for pair in plan.excluded],
        choices=plan.choices,
        text=plan.text,
        images=plan.images,
        logistics=[key for key in _keys([common, *factors]) if not identity.decides(key)],
        absent={key: value for key, value in app.in_use().absent().items() if key in _keys([common, *factors])},
        labels=app.in_use().labels(),
        app=os.environ.get(app.APP, app.ANY_HYDRA_APP),
        swept=list(plan.swept),
        seed=app.in_use().seed,
        program=program(),
        start=app.in_use().start(),
        path=plan.path,
    )


def _keys(parts: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(key for part in parts for key in part)


def _differ(one: Any, other: Any) -> bool:
    # In Python 1, 1.0 and True are equal; in a config they are three.
    return one != other or type(one) is not type(other)


def common_and_own(configs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the values that all configs share, and the remaining values of each."""
    first, absent = configs[0] if configs else {}, object()
    varying = [
        key
        for key in _keys(configs)
        if any(_differ(config.get(key, absent), first.get(key, absent)) for config in configs)
    ]
    common = {key: value for key, value in first.items() if key not in varying}
    return common, [{key: config[key] for key in varying if key in config} for config in configs]
