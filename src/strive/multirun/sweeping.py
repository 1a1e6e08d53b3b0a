"""Sweeper's work: finds the app and the sweep file of a multirun, plans it and runs it."""

import importlib
import importlib.resources
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from hydra.plugins.config_source import ConfigSource
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from strive import app
from strive.config.error_text import no_option, no_text
from strive.config.exit_codes import exit_codes
from strive.config.schema import is_typed
from strive.console import CONSOLE
from strive.errors import ConfigError, ExternalError, NoSlurmError
from strive.format import counted
from strive.hydra_app.app import APP
from strive.hydra_app.cell import options_of
from strive.hydra_app.option_checks import check_code
from strive.hydra_app.program import this_program
from strive.launch.notify import notified_of_errors, notify
from strive.multirun.run_sweep import Launcher, SweepRun
from strive.multirun.until_decided import UntilDecided
from strive.options import CellOptions, SlurmOptions, SweeperOptions
from strive.slurm.jobs import live_cells
from strive.sweeps.plan import Retrain, plan_name
from strive.sweeps.planner import Planner
from strive.sweeps.sweep_file import Sweep, parse_sweep

_PAUSES = (5.0, 10.0, 20.0, 40.0)  # between two attempts to query a SLURM that does not answer


class Sweeper(Protocol):
    """What Hydra has given to the sweeper."""

    @property
    def options(self) -> SweeperOptions:
        """Its options; raises ConfigError for wrong ones."""

    hydra_context: HydraContext
    config: DictConfig
    task_function: TaskFunction
    launcher: Any  # a Launcher, with its options


def sweep(sweeper: Sweeper, arguments: Sequence[str]) -> None:
    """Plan all cells of a multirun and train the missing ones. arguments: the overrides, without those of hydra.

    Raises SystemExit, with a message, for a mistake and for a stop by a signal.
    """
    with exit_codes():
        _check_launcher(sweeper.launcher)
        if not is_typed(sweeper.config):
            use_foreign(sweeper)
        else:
            _check_own(sweeper.launcher.options)
        name, rest = _sweep_name(arguments)
        options = sweeper.options
        if name and options.sweep:
            raise ConfigError(f"sweeps={name} and hydra.sweeper.sweep={options.sweep}: one sweep at a time")
        run = _run_of(sweeper)
        found = run.planner.read_sweep(name or options.sweep) if name or options.sweep else None
        title = _title(rest, found)
        with nullcontext() if options.dry_run else notified_of_errors(title):
            ended = (UntilDecided(run) if options.until else run).run(rest, found)
        if ended:
            notify(f"{title}: ended, each cell has its result")


def _check_launcher(launcher: Any) -> None:
    """Raise ConfigError for a launcher of others, and for wrong options of ours."""
    if not isinstance(getattr(launcher, "options", None), CellOptions):
        raise ConfigError(
            f"hydra/launcher is {type(launcher).__name__}, which trains overrides, not frozen cells; legal:"
            " hydra/launcher=strive_local, hydra/launcher=strive_slurm, or hydra/sweeper=basic with Hydra's own"
            " launchers"
        )


def _check_own(options: CellOptions) -> None:
    if options.processes_per_cell > 1 or options.num_gpus > 1:
        raise ConfigError(
            f"hydra.launcher.processes_per_cell={options.processes_per_cell} with {counted(options.num_gpus, 'GPU')}:"
            " a cell of this app trains in one process, and on one GPU at most"
        )


def _run_of(sweeper: Sweeper) -> SweepRun:
    """Return what plans and launches the sweep, as the options say."""
    options = sweeper.options
    planner = Planner(
        app.in_use().composer(sweeper.hydra_context.config_loader, sweeper.config),
        _reader(sweeper),
        retrain=Retrain(options.retrain),
        queued=lambda runs: queued(runs, sweeper.launcher),
        dry_run=options.dry_run,
    )
    return SweepRun(
        planner,
        sweeper.launcher,
        dry_run=options.dry_run,
        as_json=options.json,
        verbose=options.verbose,
        parents=options.parents,
        max_gpu_hours=options.max_gpu_hours,
    )


def _title(arguments: Sequence[str], found: Sweep | None) -> str:
    """Return the plan's name, by which `strive status` knows it; the sweep's where overrides cannot be read."""
    name = found.name if found else ""
    try:
        return plan_name(arguments, name)
    except Exception:  # the plan says what is wrong
        return name or "multirun"


def use_foreign(sweeper: Sweeper) -> None:
    """Make the app whose function the sweeper was given the app in use."""
    options, launcher = sweeper.options, sweeper.launcher.options
    program = this_program(sweeper.task_function)
    check_code(options.code, program.folder)
    typed = {text.partition("=")[0].lstrip("+") for text in sweeper.config.hydra.overrides.hydra}
    APP.begin(replace(options_of(options, launcher), typed=frozenset(typed)), program)
    app.use(app.ANY_HYDRA_APP)


def queued(runs: Path, launcher: Launcher) -> Mapping[str, str]:
    """Return {cell id: SLURM job} of earlier launches; asks a SLURM that does not answer again."""
    pauses = iter(_PAUSES)
    while True:
        try:
            return live_cells(runs)
        except ExternalError as error:
            if not isinstance(getattr(launcher, "options", None), SlurmOptions):
                CONSOLE.print(f"what earlier launches have in SLURM's queue is not known: {error}")
                return {}
            pause = next(pauses, None)
            if pause is None or isinstance(error, NoSlurmError):
                raise
            CONSOLE.print(f"{error}; asked again in {pause:g} s")
            time.sleep(pause)


def _reader(sweeper: Sweeper) -> Callable[[str], Sweep]:
    """Return what reads the sweep file of a name, from conf/sweeps, or of a path."""
    loader = sweeper.hydra_context.config_loader

    def read(name: str) -> Sweep:
        legal = loader.get_group_options("sweeps")
        if name in legal:
            # A sweep file is plain YAML without a defaults list, so its text is parsed directly.
            file = _file_of(loader.repository.get_sources(), f"sweeps/{name}")  # type: ignore[attr-defined]
            sweep = parse_sweep(name, _text_of(file))
            # Where the sweep files of the study lie, its code says; of another program only the launch knows it.
            return replace(sweep, path=os.path.abspath(file)) if app.in_use().start() else sweep
        if name == sweeper.options.sweep:
            return _read_path(name)
        if not os.path.exists(name):
            raise ConfigError(no_option("sweeps", name, legal))
        raise ConfigError(f"sweeps={name} is a path; write hydra.sweeper.sweep={name}")

    return read


def _read_path(name: str) -> Sweep:
    folders = dict.fromkeys((Path.cwd(), Path(sys.argv[0]).absolute().parent))
    file = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if file is None:
        raise ConfigError(
            f"hydra.sweeper.sweep={name}: there is no such file, seen from {' and from '.join(map(str, folders))}"
        )
    return replace(parse_sweep(file.stem, _text_of(file)), path=os.path.abspath(file))


def _file_of(sources: Sequence[ConfigSource], key: str) -> Path:
    """Return the first file with this name on Hydra's search path."""
    source = next(each for each in sources if each.is_config(key))
    folder = importlib.resources.files(source.path) if source.scheme() == "pkg" else source.path
    return Path(str(folder), f"{key}.yaml")


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:  # in a file that another sweep chooses from
        raise ConfigError(no_text(file, error)) from None


def _sweep_name(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return NAME from sweeps=NAME ("" if there is none), and the other overrides."""
    names = [text.partition("=")[2] for text in arguments if text.partition("=")[0] == "sweeps"]
    rest = [text for text in arguments if text.partition("=")[0] != "sweeps"]
    if not names:
        return "", rest
    name = names[-1]
    if "," in name or "(" in name:
        raise ConfigError(f"sweeps={name}: one sweep at a time; start a command for each")
    return name, rest
