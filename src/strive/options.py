"""Options of hydra.launcher and hydra.sweeper. Each Hydra app in the environment imports this at its start, so it
imports nothing but the standard library, and its dataclasses have no methods that nobody calls: each costs time.

Hydra holds them without types (hydra_plugins.strive), so that what is wrong is said here, in the user's words, and not
by Hydra while it composes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Self, TypeVar, cast

from strive.errors import ConfigError, UnknownKeyError

_TRACKERS = ("auto", "none", "wandb", "csv", "tensorboard")
FAILURES = ("out_of_memory", "timeout", "preempted", "node_fail", "killed", "error")


@dataclass(repr=False)
class Retries:
    """hydra.launcher.retries: what a machine did to a cell is tried again, what the cell did itself is not."""

    timeout: int = 20  # goes on from its checkpoint; without a new one it counts as an error
    preempted: int = 100  # goes on from its checkpoint
    node_fail: int = 3
    killed: int = 1
    out_of_memory: int = 0
    error: int = 0

    def __post_init__(self) -> None:
        for status in FAILURES:
            if (times := getattr(self, status)) < 0:
                raise ConfigError(f"hydra.launcher.retries.{status} must be 0 or more, got {times}")

    def allow(self, status: str, times_so_far: int) -> bool:
        """Return whether a cell that ended so is tried again, after so many tries for the same reason."""
        return status in FAILURES and times_so_far < int(getattr(self, status))


@dataclass(eq=False, repr=False)
class _Options:
    """What Hydra gives as keywords."""

    GROUP = ""  # the key in front of them

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the options, checked, of what Hydra passes to a sweeper or launcher.

        Raises UnknownKeyError, and ConfigError for a value of another type or one that means nothing.
        """
        options = _typed(cls, given, cls.GROUP)
        options.validate()
        return options

    def validate(self) -> None:
        """Raise ConfigError for a value that means nothing."""


# Keys of earlier versions, and what does their work now.
_RENAMED = {
    "cells_per_device": "hydra.launcher.cells_per_gpu is the number of cells on each GPU, and without GPUs"
    " hydra.launcher.cpus_per_cell the cores of each cell",
    "cpus_per_task": "hydra.launcher.cpus_per_cell is the number of cores of each cell, hydra.launcher.cells_at_once"
    " how many cells of a job train side by side",
}


@dataclass(repr=False)
class CellOptions(_Options):
    """Options of hydra.launcher for each cell of an app; the study has trainer.* for the first two."""

    GROUP = "hydra.launcher"

    checkpoint_minutes: float = 5.0  # between two checkpoints of strive.save; 0: at every call
    lease_seconds: float = 120.0  # without a heartbeat for so long, a process counts as gone and its cell is free
    fresh_process: bool = True  # a process for each cell; false: workers run one cell after the other
    resume_overrides: list[str] = field(default_factory=list)  # added where a cell goes on: ['ckpt_path=last']
    processes_per_cell: int = 1  # ranks of each cell, with the environment that torchrun gives them
    gpus_per_cell: int | None = None  # GPUs that each cell sees, where there are any; null: one for each process
    cells_per_gpu: int = 0  # side by side on each GPU; 0: one, or as many as the app finds to be fastest
    cpus_per_cell: int = 0  # cores of each cell; 0: one for each process, and those that are left over are shared out
    notify: str = ""  # gets a message at the end of a launch and at its first failure: a webhook's URL, or cmd:PROGRAM
    sweeper: dict[str, Any] = field(default_factory=dict)  # options of hydra.sweeper, where that is not strive's

    @property
    def num_gpus(self) -> int:
        """GPUs of a cell."""
        return self.processes_per_cell if self.gpus_per_cell is None else self.gpus_per_cell

    @property
    def num_cpus(self) -> int:
        """Cores of a cell, at least."""
        return self.cpus_per_cell or self.processes_per_cell

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the options, checked; raise ConfigError for a key of an earlier version, too."""
        for name, now in _RENAMED.items():
            if given.get(name) is not None:
                raise ConfigError(f"hydra.launcher.{name}={given[name]} is a key of an earlier version: {now}")
        return super().of(given)

    def validate(self) -> None:
        """Raise ConfigError for a value that means nothing."""
        for name in ("processes_per_cell", "gpus_per_cell", "cells_per_gpu", "cpus_per_cell"):
            value, least = getattr(self, name), int(name == "processes_per_cell")
            if value is not None and value < least:
                raise ConfigError(f"hydra.launcher.{name} must be {least} or more, got {value}")
        if self.cells_per_gpu and self.num_gpus != 1:
            raise ConfigError(
                f"hydra.launcher.cells_per_gpu={self.cells_per_gpu} is for cells with one GPU each, these have"
                f" {self.num_gpus} (hydra.launcher.gpus_per_cell, or else processes_per_cell)"
            )
        if self.processes_per_cell > 1 and not self.fresh_process:
            raise ConfigError(
                f"hydra.launcher.processes_per_cell={self.processes_per_cell} needs fresh processes for each cell:"
                " leave hydra.launcher.fresh_process=false out"
            )
        if not (self.checkpoint_minutes >= 0 and math.isfinite(self.checkpoint_minutes)):
            raise ConfigError(f"hydra.launcher.checkpoint_minutes must be 0 or more, got {self.checkpoint_minutes}")
        if not (self.lease_seconds >= 1 and math.isfinite(self.lease_seconds)):
            raise ConfigError(f"hydra.launcher.lease_seconds must be 1 or more, got {self.lease_seconds}")


@dataclass(repr=False)
class LocalOptions(CellOptions):
    """Options of hydra.launcher for hydra/launcher=strive_local."""

    detach: bool = False  # store the cells and train none: `strive work NAME` does it, from any number of processes
    timeout_min: float = 0.0  # longest that a cell may run at a time, from its start; 0: as long as it takes
    retries: Retries = field(default_factory=Retries)

    def validate(self) -> None:
        """Raise ConfigError for a value that means nothing."""
        super().validate()
        if not (self.timeout_min >= 0 and math.isfinite(self.timeout_min)):
            raise ConfigError(f"hydra.launcher.timeout_min must be 0 (no limit) or more, got {self.timeout_min:g}")


@dataclass(repr=False)
class SlurmOptions(CellOptions):
    """Options of hydra.launcher for hydra/launcher=strive_slurm. Empty and 0 leave it to the cluster."""

    partition: str = ""  # sbatch --partition
    account: str = ""  # sbatch --account
    qos: str = ""  # sbatch --qos
    constraint: str = ""  # sbatch --constraint: features that a node must have
    gres: str = ""  # sbatch --gres, such as gpu:1; a cell's needs.gres goes before it
    timeout_min: int = 60  # time limit of a job in minutes; a cell's needs.timeout_min goes before it
    mem_gb: float = 0.0  # memory of a job, on each node; a cell's needs.mem_gb goes before it
    nodes: int = 1  # of a job: each trains its share of the job's cells
    name: str = "strive"  # what squeue shows
    setup: list[str] = field(default_factory=list)  # shell lines before Python starts, such as `module load cuda`
    teardown: list[str] = field(default_factory=list)  # shell lines after it has ended, also before a requeue
    python: str = ""  # what starts Python in the job, such as `apptainer exec --nv image.sif python`; empty: this one
    srun_args: list[str] = field(default_factory=list)  # options of srun, which starts the job's one task
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # further options of sbatch: {nice: 100}
    array_parallelism: int = 256  # jobs of one array that run at once
    cells_per_job: int = 1  # cells that share an allocation, one after the other or side by side
    cells_at_once: int = 0  # of a job: it asks for so many times cpus_per_cell; 0: one, or one on each of its GPUs
    signal_delay_s: int = 90  # seconds before the time limit at which cells write checkpoints and the job is requeued
    max_array_size: int = 0  # jobs in one array; 0 asks the cluster
    poll_seconds: float = 5.0  # between two looks at the records and the queue
    detach: bool = False  # submit and return; the same command later waits, or finishes what is missing
    snapshot: bool = True  # jobs train with the code as it was at submission, not as it is when they start
    retries: Retries = field(default_factory=Retries)  # how often one launch tries a cell again

    def validate(self) -> None:
        """Raise ConfigError for values that mean nothing."""
        super().validate()
        at_least = {
            "timeout_min": 1, "mem_gb": 0, "nodes": 1, "array_parallelism": 1, "cells_per_job": 1, "cells_at_once": 0,
            "signal_delay_s": 5, "max_array_size": 0, "poll_seconds": 0.1,
        }  # fmt: skip
        errors = [
            f"hydra.launcher.{name} must be {least} or more, got {getattr(self, name)}"
            for name, least in at_least.items()
            if not getattr(self, name) >= least
        ]
        if self.nodes > self.cells_per_job:
            errors.append(
                f"hydra.launcher.nodes={self.nodes} share the cells of a job out, of which there are"
                f" {self.cells_per_job}: give hydra.launcher.cells_per_job={self.nodes} or more"
            )
        if self.signal_delay_s >= 60 * self.timeout_min:
            errors.append(
                f"hydra.launcher.signal_delay_s must be less than the time limit of {60 * self.timeout_min} s"
                f" (hydra.launcher.timeout_min={self.timeout_min}), got {self.signal_delay_s}"
            )
        if errors:
            raise ConfigError("\n".join(errors))


@dataclass(eq=False, repr=False)
class TrackerOptions:
    """hydra.sweeper.tracker: what mirrors the cells. The study has tracker.* for it."""

    # auto: W&B where its client and a key are there; wandb: refuse to start without; csv, tensorboard: files; none
    kind: str = "auto"
    project: str = ""  # empty takes WANDB_PROJECT, or else strive
    entity: str = ""  # empty takes WANDB_ENTITY, or else the key's own


@dataclass(eq=False, repr=False)
class SweeperOptions(_Options):
    """Options of hydra.sweeper."""

    GROUP = "hydra.sweeper"

    sweep: str = ""  # a sweep file that is not in conf/sweeps, from the current folder or from the app's
    runs: str = "runs"  # folder of records; the study has runs= for it
    dry_run: bool = False  # print the plan and train nothing
    json: bool = False  # a dry run prints one line of JSON
    verbose: bool = False  # a dry run lists each cell, however many they are
    retrain: str = "failed"  # none, failed, stale or all; each kind includes the one before it
    parents: bool = False  # first train the cells of other sweeps that values of this one are chosen from
    until: str = ""  # decided: train the seeds of one look after the other (seeds: in the sweep file)
    max_gpu_hours: float | None = None  # refuse a plan that takes longer; with until=decided, stop before such a look
    logistics: list[str] = field(default_factory=list)  # keys that decide no number: [paths.*, num_workers]
    absent: dict[str, Any] = field(default_factory=dict)  # {key: what a cell meant that was trained without the key}
    seed: str = "seed"  # the key that makes replicates
    check: str = ""  # package.module:function; gets each composed config and raises for what cannot be trained
    code: list[str] = field(default_factory=list)  # files that decide numbers besides what is imported: [data/*.yaml]
    tracker: TrackerOptions = field(default_factory=TrackerOptions)

    def validate(self) -> None:
        """Raise ConfigError for a value that means nothing."""
        legal = ("none", "failed", "stale", "all")
        if self.retrain not in legal:
            raise ConfigError(f"hydra.sweeper.retrain must be one of {', '.join(legal)}, got {self.retrain!r}")
        if self.until not in ("", "decided"):
            raise ConfigError(f"hydra.sweeper.until must be decided, or be left out, got {self.until!r}")
        if self.tracker.kind not in _TRACKERS:
            raise ConfigError(
                f"hydra.sweeper.tracker.kind must be one of {', '.join(_TRACKERS)}, got {self.tracker.kind!r}"
            )
        if not self.runs.strip():
            raise ConfigError(f"hydra.sweeper.runs must name a folder, got {self.runs!r}")
        if self.json and not self.dry_run:
            raise ConfigError("hydra.sweeper.json=true is for the plan alone: add hydra.sweeper.dry_run=true")
        if self.verbose and not self.dry_run:
            raise ConfigError("hydra.sweeper.verbose=true is for the plan alone: add hydra.sweeper.dry_run=true")
        module, _, function = self.check.partition(":")
        if self.check and not (module and function):
            raise ConfigError(f"hydra.sweeper.check must be package.module:function, got {self.check!r}")


_Kind = TypeVar("_Kind")
_LEGAL = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    float | None: "a number or null",
    str: "a text",
    list[str]: "a list of texts",
}


def _typed(kind: type[_Kind], given: Mapping[str, Any], key: str) -> _Kind:
    """Return a dataclass of these values, each converted to its type as OmegaConf does it. key: in front of them."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    node: Any = OmegaConf.structured(kind)
    types: dict[str, Any] = {item.name: item.type for item in fields(kind)}  # type: ignore[arg-type]
    parts: dict[str, Any] = {}
    for name, value in given.items():
        if name.startswith("_"):
            continue  # Hydra's own, such as _target_
        if name not in types:
            raise UnknownKeyError(f"{key}.{name}")
        if is_dataclass(types[name]) and isinstance(value, Mapping):
            parts[name] = _typed(types[name], value, f"{key}.{name}")
            continue
        try:
            node[name] = value
        except OmegaConfBaseException:
            got = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
            raise ConfigError(f"{key}.{name} must be {_legal(types[name])}, got {got}") from None
    made = cast(_Kind, OmegaConf.to_object(node))
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def _legal(kind: Any) -> str:
    if is_dataclass(kind):
        return f"a mapping of {', '.join(item.name for item in fields(kind))}"
    return _LEGAL.get(kind, "a mapping")
