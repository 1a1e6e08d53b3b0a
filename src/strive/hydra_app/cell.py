"""One cell of a foreign app: what decides its numbers, what does not, and how it is frozen."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from omegaconf import DictConfig

from strive.cells.settings import Settings
from strive.config.platform_keys import Tracker, TrackerConfig
from strive.errors import ConfigError, MissingDataError
from strive.hydra_app.logistics import DividedConfig
from strive.options import CellOptions, SweeperOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What hydra.sweeper and hydra.launcher say of all cells of a foreign app."""

    settings: Settings
    logistics: Sequence[str] = ()  # patterns of keys that decide no number
    absent: Mapping[str, Any] = field(default_factory=dict)  # {key: the value that a cell without the key had}
    check: Callable[[DictConfig], object] | None = None  # raises for a config that cannot be trained
    code: Sequence[str] = ()  # patterns of files that decide numbers besides what is imported
    seed: str = "seed"  # the key that makes replicates
    fresh_process: bool = True  # whether each cell has a process of its own
    processes: int = 1  # of each cell
    resume_overrides: Sequence[str] = ()  # added where a cell goes on
    typed: frozenset[str] = frozenset()  # keys of hydra.* that stand on the command line

    def check_config(self, config: DictConfig) -> None:
        """Raise ConfigError if hydra.sweeper.check refuses a config. config: as the app's function gets it.

        A FileNotFoundError says that data is missing.
        """
        if self.check is None:
            return
        try:
            self.check(config)
        except Exception as error:  # the user's own check, which says by any exception what cannot be
            kind = MissingDataError if isinstance(error, FileNotFoundError) else ConfigError
            raise kind(f"hydra.sweeper.check: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class HydraCell:
    """One cell of a foreign app."""

    science: Mapping[str, Any]  # {dotted key: JSON value} of the leaves that decide its numbers
    logistics: Mapping[str, Any]  # and of the others
    reasons: Mapping[str, str]  # {logistics key: why it is}
    settings: Settings
    name: str  # of the app: hydra.job.name
    unresolved: Mapping[str, str] = field(default_factory=dict)  # {science key: why it has no value here}
    composed: Callable[[], DictConfig] | None = None  # returns the whole config, with its hydra node
    freeze: Callable[[], dict[str, str]] | None = None  # returns it as `frozen.frozen_cell` does
    frozen: Mapping[str, str] = field(default_factory=dict)  # in a worker: what that was when it was frozen

    @property
    def flat(self) -> dict[str, Any]:
        """Return every key."""
        return {**self.science, **self.logistics}


def options_of(sweeper: SweeperOptions, launcher: CellOptions) -> Options:
    """Return what hydra.sweeper and hydra.launcher say of cells. Raises ConfigError for a check that is not there."""
    tracker = sweeper.tracker
    return Options(
        settings=Settings(
            runs=sweeper.runs,
            checkpoint_minutes=launcher.checkpoint_minutes,
            lease_seconds=launcher.lease_seconds,
            tracker=TrackerConfig(kind=Tracker(tracker.kind), project=tracker.project, entity=tracker.entity),
        ),
        logistics=sweeper.logistics,
        absent=sweeper.absent,
        check=_check(sweeper.check),
        code=sweeper.code,
        seed=sweeper.seed,
        fresh_process=launcher.fresh_process,
        processes=launcher.processes_per_cell,
        resume_overrides=launcher.resume_overrides,
    )


def cell_of(found: DividedConfig, options: Options, *, name: str) -> HydraCell:
    """Return the cell of a config whose leaves were divided. name: hydra.job.name.

    What has the value that its absence means (hydra.sweeper.absent) is no part of the identity.
    """
    absent = {
        key: value for key, value in options.absent.items() if key in found.science and found.science[key] == value
    }
    science = {key: value for key, value in found.science.items() if key not in absent} if absent else found.science
    return HydraCell(
        science=science,
        logistics=found.logistics | absent,
        reasons=found.reasons | dict.fromkeys(absent, "declared: its absence meant this"),
        settings=options.settings,
        name=name,
        unresolved=found.unresolved,
    )


def _check(name: str) -> Callable[[DictConfig], object] | None:
    """Return the function of hydra.sweeper.check. Raises ConfigError if it cannot be imported."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        place = _imported(module)
    except Exception as error:  # the user's own module
        raise ConfigError(
            f"hydra.sweeper.check={name}: {type(error).__name__}: {error}; legal is package.module:function, found from"
            " the app's folder"
        ) from error
    if (found := getattr(place, function, None)) is None:
        raise ConfigError(f"hydra.sweeper.check={name}: {module} has no function {function}")
    if not callable(found):
        raise ConfigError(f"hydra.sweeper.check={name} is the {type(found).__name__} {found!r}, and no function")
    return cast(Callable[[DictConfig], object], found)


def _imported(name: str) -> Any:
    """Return a module by its name; the program itself if that is meant, which would run again otherwise."""
    main = sys.modules["__main__"]
    spec = importlib.util.find_spec(name) if name not in sys.modules else None
    file = getattr(main, "__file__", None)
    if spec is not None and spec.origin and file and os.path.exists(file) and os.path.samefile(spec.origin, file):
        return main
    return importlib.import_module(name)
