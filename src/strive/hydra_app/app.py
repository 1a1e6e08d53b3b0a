"""Any Hydra application as the platform's app: implements `strive.app.App`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from strive.app import CellFacts, TableLayout, Trainer
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
from strive.hydra_app.program import ENVIRONMENT, Program, become, moved, name_of, read_program, write_program
from strive.hydra_app.rank_processes import start_ranks
from strive.hydra_app.split import matches
from strive.hydra_internals import replace_multirun, without_hydra


class HydraApp:
    """The Hydra application that the user started, or that this worker process is."""

    Config = None
    CODE = ""
    NO_CODE: frozenset[str] = frozenset()
    SIDE_BY_SIDE = False
    DATA_PLACES: tuple[str, ...] = ()
    TABLE = TableLayout()

    def __init__(self) -> None:
        self._options = Options(settings=Settings(runs="runs"))
        self._composer: Any = None
        self._program: Program | None = None

    def begin(self, options: Options, program: Program) -> None:
        """Set what hydra.sweeper and hydra.launcher say of all cells, and the program that they belong to."""
        self._options = options
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

    def is_open(self, key: str) -> bool:
        """Return True: an option of a group may bring any key, and Hydra says so if there is none."""
        return True

    def typed_key(self, key: str) -> str:
        """Return the key as it is."""
        return key

    def meaning_of(self, key: str) -> tuple[type, str, str] | None:
        """Return None: nothing declares it."""
        return None

    def recorded_value(self, key: str, value: Any) -> Any:
        """Return the value as it is."""
        return value

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

    def config_of(self, flat_config: Mapping[str, Any]) -> HydraCell:
        """Return a cell with these values, which can be compared but not trained."""
        deciding = {key: value for key, value in flat_config.items() if self.decides(key)}
        science = identity.without(self.absent(), deciding)
        logistics = {key: value for key, value in flat_config.items() if key not in science}
        return HydraCell(science=science, logistics=logistics, reasons={}, settings=self._options.settings, name="")

    def checked(self, config: HydraCell) -> HydraCell:
        """Return the cell, unless hydra.sweeper.check raises for it."""
        if self._options.check is not None:
            assert config.composed is not None
            try:
                self._options.check(without_hydra(config.composed()))
            except Exception as error:  # the user's own check, which says by any exception what cannot be
                raise ConfigError(f"hydra.sweeper.check: {type(error).__name__}: {error}") from error
        return config

    def filled_in(self, config: HydraCell) -> HydraCell:
        """Return the cell."""
        return config

    as_recorded = as_called = filled_in

    def cell_name(self, config: HydraCell) -> str:
        """Return the app's name, so that two apps with one config have cells of their own."""
        return config.name

    label = cell_name

    def epochs(self, config: HydraCell) -> int:
        """Return 0: it is not known."""
        return 0

    def speed_group(self, config: HydraCell) -> str:
        """Return the beginning of the ids of this app."""
        return f"{config.name}-"

    def settings(self, config: HydraCell) -> Settings:
        """Return what hydra.sweeper and hydra.launcher say."""
        return config.settings

    # -- before it trains

    def facts(self, config: HydraCell) -> CellFacts:
        """Return nothing: how much there is to train is not known."""
        return CellFacts(num_train=0, flops=0)

    def facts_key(self, config: HydraCell) -> str:
        """Return "": all cells have equal facts."""
        return ""

    data_of = facts_key

    def data_key(self, config: Mapping[str, Any]) -> str:
        """Return "": what a cell loads is not known."""
        return ""

    pack_key = data_key

    def plan_notes(self, configs: Sequence[HydraCell]) -> list[str]:
        """Return the keys that are logistics, and why."""
        reasons: dict[str, str] = {}
        for config in configs:
            reasons |= config.reasons
        lines = [f"  {key}: {reason}" for key, reason in reasons.items()]
        return ["these keys decide no number (hydra.sweeper.logistics=[KEY] adds others):", *lines] if lines else []

    def other_data(self, config: HydraCell, record: Any) -> str | None:
        """Return None: what is on disk is not known before a cell has read it."""
        return None

    def seed_key(self) -> str:
        """Return the key of hydra.sweeper.seed."""
        return self._options.seed

    def start(self) -> dict[str, Any]:
        """Return the program."""
        found: dict[str, Any] = msgspec.to_builtins(self.program)
        return found

    def command(self, code: Path | None) -> list[str]:
        """Return the script, or -m and the module."""
        return ["-m", self.program.module] if self.program.module else [self.program.file]

    # -- where it trains

    def code_of(self, config: Any) -> Code:
        """Return an unknown code: what a cell imports is known when it has trained."""
        return Code("", {})

    def code_now(self, config: Any, files: Mapping[str, str]) -> Code:
        """Return these files as they are now."""
        return files_now(tuple(files), tuple(self.program.path))

    def surroundings(self, config: HydraCell) -> dict[str, Any]:
        """Return nothing: what a cell's record says of its machine is found where it trains."""
        return {}

    def device_key(self, device: str) -> str:
        """Return "auto": the app chooses its device."""
        return "auto"

    def for_worker(self, config: HydraCell, threads: int) -> HydraCell:
        """Return the cell: its worker has set the number of threads in the environment."""
        return config

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

    def of_task(self, task: Task) -> HydraCell:
        """Return the cell of a task."""
        return HydraCell(
            science=task.config,
            logistics=task.logistics,
            reasons={},
            settings=task.settings,
            name=task.cell.rpartition("-")[0],
            frozen=task.frozen,
        )

    def trainer(self) -> Trainer:
        """Return what runs cells here; only inside the program."""
        from strive.hydra_app.trainer import FunctionTrainer

        return FunctionTrainer(self.function, self.loader, self.program, self.ranks)


APP = HydraApp()
