"""Checks of the options of hydra.sweeper and hydra.launcher: does each name a key, a file or a value that is there?"""

import copy
import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from strive.cells.records import record_path
from strive.config.error_text import complaint
from strive.config.identity import hash_of
from strive.errors import ConfigError
from strive.hydra_app.cell import HydraCell, Options
from strive.hydra_app.logistics import matches
from strive.hydra_internals import apply_overrides, parsed_overrides
from strive.options import SweeperOptions

CHECKPOINT = "{checkpoint}"  # as a value of resume_overrides: the path of strive.load
_SHOWN = 20  # keys that an error lists


def check_named(options: Options, cells: Sequence[HydraCell], groups: Sequence[str]) -> list[str]:
    """Return notes on options that name nothing in these cells; raise ConfigError for those that were typed.

    A list in an app's own config is for all its sweeps, so a key of it that one of them lacks is no mistake.
    groups: the config groups of the app.
    """
    keys = dict.fromkeys(key for cell in cells for key in cell.flat)
    if options.seed != SweeperOptions.seed and options.seed not in keys:
        raise ConfigError(f"hydra.sweeper.seed: {options.seed} names no key of these cells{_there(options.seed, keys)}")
    notes = []
    unknown = [pattern for pattern in options.logistics if not any(matches(key, pattern) for key in keys)]
    for option, names in (("logistics", unknown), ("absent", [key for key in options.absent if key not in keys])):
        for name in names:
            line = f"hydra.sweeper.{option}: {name} names no key of these cells"
            if f"hydra.sweeper.{option}" in options.typed:
                raise ConfigError(line + _there(name, keys))
            notes.append(line)
    _check_resumes(options.resume_overrides, cells, groups)
    return [*notes, *_renamed(options.absent, cells)]


def code_files(patterns: Sequence[str], folder: str) -> list[Path]:
    """Return the files of hydra.sweeper.code, below the folder where the program was started."""
    paths = [path for pattern in patterns for path in sorted(glob.glob(os.path.join(folder, pattern), recursive=True))]
    return [Path(path) for path in paths if os.path.isfile(path)]


def check_code(patterns: Sequence[str], folder: str) -> None:
    """Raise ConfigError for a pattern of hydra.sweeper.code that names no file."""
    for pattern in patterns:
        if not code_files([pattern], folder):
            is_folder = os.path.isdir(os.path.join(folder, pattern))
            why = f"is a folder; {pattern}/** are its files" if is_folder else "names no file"
            legal = f"legal are paths and patterns such as data/*.yaml, seen from {folder}"
            raise ConfigError(f"hydra.sweeper.code: {pattern} {why}; {legal}")


def _check_resumes(texts: Sequence[str], cells: Sequence[HydraCell], groups: Sequence[str]) -> None:
    """Raise ConfigError for hydra.launcher.resume_overrides that some cell cannot take."""
    if not texts:
        return
    try:
        parsed = parsed_overrides([text.replace(f"={CHECKPOINT}", "=checkpoint") for text in texts])
        for override in parsed:
            if override.key_or_group in groups or override.is_sweep_override() or override.is_delete():
                raise ConfigError(f"{override.input_line} sets no value; legal are KEY=VALUE and +KEY=VALUE")
        for cell in {frozenset(cell.flat): cell for cell in cells}.values():
            assert cell.composed is not None
            apply_overrides(parsed, copy.deepcopy(cell.composed()))
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"hydra.launcher.resume_overrides: {complaint(error)}") from None


def _renamed(absent: Mapping[str, Any], cells: Sequence[HydraCell]) -> Iterator[str]:
    """Yield a note if cells were done with a key whose absence is declared: by its absence they have another id."""
    if not absent:
        return
    lost = []
    for cell in cells:
        there = {key: value for key, value in absent.items() if key in cell.logistics}
        runs = Path(cell.settings.runs)
        before, now = (f"{cell.name}-{hash_of({**cell.science, **more})}" for more in (there, {}))
        if there and record_path(runs, before).exists() and not record_path(runs, now).exists():
            lost.append(before)
    if lost:
        yield (
            f"hydra.sweeper.absent={{{', '.join(f'{key}: {value}' for key, value in absent.items())}}}: {len(lost)} of"
            f" these cells are done with the key, such as {lost[0]}, and would be trained again; leave it out to keep"
            " them"
        )


def _there(name: str, keys: Iterable[str]) -> str:
    """Return the keys that may have been meant, or some that are there."""
    known = list(keys)
    below = [key for key in known if key.startswith(f"{name}.")]
    if close := below or difflib.get_close_matches(name.rstrip(".*"), known, n=3):
        return f"; did you mean {' or '.join(close[:_SHOWN])}?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"; their keys: {', '.join(known[:_SHOWN])}{more}"
