"""A program on `@strive.main`: its arguments, its function as one cell without -m, and its exit code."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from strive import streams
from strive.cells import active
from strive.command_line import command
from strive.config.exit_codes import exit_codes
from strive.errors import ConfigError
from strive.hydra_internals import parsed_arguments
from strive.sweeps.override_syntax import check_options

# Options with which Hydra does something other than running the function once.
_OTHER_MODES = ("run", "multirun", "cfg", "info", "shell_completion", "help", "hydra_help")
_IS_SWEEP = "sweeps=NAME is many cells: add -m"


def as_program(function: Callable[[Any], Any], options: dict[str, Any]) -> Callable[..., Any]:
    """Return the function that a program calls to run. options: of hydra.main.

    With a config as its argument it is the function itself, as below hydra.main.
    """
    below_hydra = hydra.main(**options)(_as_cell(function))

    @wraps(function)
    def main(*config: Any) -> Any:
        if config:
            return below_hydra(*config)
        streams.guard()
        # Otherwise Hydra exits itself, after a stack trace or an error without the legal values.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        with exit_codes():
            _arrange_arguments()
            below_hydra()

    return main


def _as_cell(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(function)
    def task(config: Any) -> Any:
        # In a sweep's worker it is inside a cell already.
        if active.current() is not None or not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.RUN:
            return function(config)
        with exit_codes():  # by SystemExit, for which Hydra prints no line of its own
            if any(text.startswith("sweeps=") for text in HydraConfig.get().overrides.task):
                raise ConfigError(_IS_SWEEP)
            from strive.hydra_app.single import run_single

            run_single(function, config)

    return task


def _arrange_arguments() -> None:
    """Move the overrides after the options, as Hydra requires, and let sweeps=NAME mean -m.

    Raises ConfigError for text on which Hydra would fail without saying why.
    """
    options = parsed_arguments(f"{command()} [-m] [KEY=VALUE ...] (--help: all of them)")
    modes = [name for name in _OTHER_MODES if getattr(options, name, None) not in (None, False)]
    if len({*modes} - {"help", "hydra_help"}) > 1:
        raise ConfigError(
            "give one of -m, --cfg, --info, --run and --shell-completion; each is all that a command does"
        )
    overrides = options.overrides
    is_sweep = not modes and any(text.startswith("sweeps=") for text in overrides)
    rest = [text for text in sys.argv[1:] if text not in overrides]
    sys.argv[1:] = [*["-m"] * is_sweep, *rest, *overrides]
    check_options(overrides)
