"""Any Hydra application as the platform's app."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import starmap
from pathlib import Path
from typing import Any

import msgspec

from strive.app import App, Trainer
from strive.cells.ranks import Ranks
from strive.cells.settings import Settings
from strive.cells.task import Task
from strive.cells.wandb_run import GROUP
from strive.code.hash import Code
from strive.code.imported import files_now
from strive.config import identity
from strive.config.platform_keys import is_need
from strive.errors import ConfigError
from strive.hydra_app.cell import HydraCell, Options
from strive.hydra_app.frozen import logistics_now
from strive.hydra_app.logistics import matches
from strive.hydra_app.option_checks import check_named
from strive.hydra_app.program import ENVIRONMENT, Program, become, moved, name_of, read_program, write_program
from strive.hydra_app.rank_processes import start_ranks
from strive.hydra_internals import replace_multirun, without_hydra


class HydraApp(App):
    """The Hydra application that the user started, or that this worker process is."""

    def __init__(self) -> None:
        self._options = Options(settings=Settings(runs="runs"))
        self._composer: Any = None
        self._program: Program | None = None

    def begin(self, options: Options, program: Program) -> None:
        """Set what hydra.sweeper and hydra.launcher say of all cells, and the program that they belong to."""
        self._options, self.seed = options, options.seed
        self._program = msgspec.structs.replace(
            program,
            fresh_process=options.fresh_process,
            processes=options.processes,
            code=list(options.code),
            resume_overrides=list(options.resume_overrides),
        )

    # -- a cell's config

    @cached_property
    def _known(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Return {key: value} of the config without overrides, and the keys that decide no number."""
        if self._composer is None:
            return {}, frozenset()
        cell = self._composer.unchecked([])
        return cell.flat, frozenset(cell.logistics)

    def defaults(self) -> Mapping[str, Any]:
        """Return the config without a cell's overrides, by dotted key."""
        return self._known[0]

    def groups(self) -> Sequence[str]:
        """Return the keys that hold others, and the config groups."""
        return self._groups

    @cached_property
    def _groups(self) -> tuple[str, ...]:
        if self._composer is None:
            return ()
        parts = [key.split(".") for key in self.defaults()]
        holding = dict.fromkeys(".".join(names[:count]) for names in parts for count in range(1, len(names)))
        return (*holding, *(name for name in self._composer.group_names() if name not in holding))

    def decides(self, key: str) -> bool:
        """Return whether a key determines numbers: all do but what is known as logistics."""
        if is_need(key) and self._composer is not None and not self._composer.has_own_needs:
            return False
        if key in self._options.absent:
            return True  # with another value than the one that its absence means
        return key not in self._known[1] and not any(matches(key, pattern) for pattern in self._options.logistics)

    def absent(self) -> Mapping[str, Any]:
        """Return hydra.sweeper.absent."""
        return self._options.absent

    def composer(self, loader: Any, master: Any) -> Any:
        """Return what composes cells."""
        from strive.hydra_app.compose import HydraComposer

        self._composer = HydraComposer(loader, master, self._options)
        return self._composer

    def flat(self, config: HydraCell) -> dict[str, Any]:
        """Return every key."""
        return config.flat

    def science(self, config: HydraCell) -> dict[str, Any]:
        """Return the keys that determine numbers."""
        return dict(config.science)

    def config_of(self, flat: Mapping[str, Any]) -> HydraCell:
        """Return a cell with these values, which can be compared but not trained."""
        deciding = {key: value for key, value in flat.items() if self.decides(key)}
        science = identity.without(self.absent(), deciding)
        logistics = {key: value for key, value in flat.items() if key not in science}
        return HydraCell(science=science, logistics=logistics, reasons={}, settings=self._options.settings, name="")

    def checked(self, config: HydraCell) -> HydraCell:
        """Return the cell; raise ConfigError for a key without a value, and where hydra.sweeper.check raises."""
        if config.unresolved:
            raise ConfigError("\n".join(starmap(_no_value, config.unresolved.items())))
        if self._options.check is not None:
            assert config.composed is not None
            self._options.check_config(without_hydra(config.composed()))
        return config

    def cell_name(self, config: HydraCell) -> str:
        """Return the app's name, so that two apps with one config have cells of their own."""
        return config.name

    def settings(self, config: HydraCell) -> Settings:
        """Return what hydra.sweeper and hydra.launcher say."""
        return config.settings

    # -- before it trains

    def plan_notes(self, configs: Sequence[HydraCell]) -> list[str]:
        """Return the keys that are logistics and why; raise ConfigError for options that name nothing."""
        notes = check_named(self._options, configs, self._composer.group_names())
        reasons: dict[str, str] = {}
        for config in configs:
            reasons |= config.reasons
        lines = [f"  {key}: {reason}" for key, reason in reasons.items()]
        title = ["these keys decide no number (hydra.sweeper.logistics=[KEY] adds others):"] if lines else []
        return [*title, *lines, *notes]

    def start(self) -> dict[str, Any]:
        """Return the program."""
        found: dict[str, Any] = msgspec.to_builtins(self.program)
        return found

    # -- where it trains

    def code_of(self, flat: Mapping[str, Any], files: Mapping[str, str] | None = None) -> Code:
        """Return the files of a record as they are now; what a cell imports is known when it has trained."""
        return files_now(tuple(files), tuple(self.program.path)) if files is not None else Code("", {})

    def inside(self, work: Callable[[], None]) -> None:
        """Become the program that the user started, and call work in the place of its @hydra.main function.

        What else belongs to the cells of this process is started first: it takes as long to import.
        """
        self.ranks = Ranks()
        start_ranks(self.ranks, self.program.processes)
        self.become(work)

    def become(self, work: Callable[[], None]) -> None:
        """Become the program that the user started, and call work in the place of its @hydra.main function."""
        program = self.program
        replace_multirun(self._at_main(work), lambda function: name_of(function) == program.function)
        become(program)
        raise SystemExit(
            f"{program.name} ended before it called {program.function}, its @hydra.main function, as it had when the"
            " sweep was launched"
        )

    def _at_main(self, work: Callable[[], None]) -> Callable[[Any, Any], None]:
        def at_main(function: Any, loader: Any) -> None:
            self.function, self.loader = function, loader
            work()
            sys.stdout.flush()
            sys.stderr.flush()
            raise SystemExit(0)  # what the program does after its main() is for the process that launched the sweep

        return at_main

    @property
    def program(self) -> Program:
        """Return how the program is started that this process is, or that this worker becomes."""
        if self._program is None:
            self._program = read_program(Path(os.environ[ENVIRONMENT]))
        return self._program

    def prepare(self, folder: Path, copied: Callable[[Path], Path] | None = None) -> dict[str, str]:
        """Write how the program is started into the folder of a launch; return the environment of its workers."""
        program = self.program if copied is None else moved(self.program, copied)
        group = os.environ.get(GROUP) or folder.absolute().parent.name  # the plan, where the app calls wandb.init
        return {ENVIRONMENT: str(write_program(folder, program).absolute()), GROUP: group}

    def frozen(self, config: HydraCell) -> dict[str, str]:
        """Return what a worker makes the cell's config of."""
        assert config.freeze is not None
        return config.freeze()

    def of_task(self, task: Task, threads: int = 0) -> HydraCell:
        """Return the cell of a task; its worker has set the number of threads in the environment.

        Raises ConfigError for overrides of logistics that would make it another one.
        """
        return HydraCell(
            science=task.config,
            logistics=logistics_now(task.frozen, task.config, task.logistics),
            reasons={},
            settings=task.settings,
            name=task.cell.rpartition("-")[0],
            frozen=task.frozen,
        )

    def trainer(self) -> Trainer:
        """Return what runs cells here; only inside the program."""
        from strive.hydra_app.trainer import FunctionTrainer

        return FunctionTrainer(self.function, self.loader, self.program, self.ranks)


def _no_value(key: str, why: str) -> str:
    return (
        f"{key} has no value: {why}. Give it one ({key}=VALUE), or declare that it decides no number:"
        f" hydra.sweeper.logistics=[{key}]"
    )


APP = HydraApp()
