"""Folders of records that a command reads, and the sweeps in them that its arguments name. Imports no torch."""

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from strive import app
from strive.cells.metrics import Better
from strive.errors import RecordError, UsageError
from strive.sweeps.override_syntax import flattened, keys_of
from strive.sweeps.plan import StoredPlan, plan_folders, plan_name

RUNS = Path("runs")  # where a launch leaves records by default
_RUNS_KEYS = ("runs", "hydra.sweeper.runs")
_STUDY = "allcnn.app"  # the app of plans that name none


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedSweeps:
    """What a command line asks for."""

    folders: list[Path]  # of records
    sweeps: list[str]  # names of sweep files or of plans
    overrides: list[str]  # others of a launch, without hydra's


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add --runs."""
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folders of records (default: runs); several are read as one",
    )


def add_sweeps(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Add the arguments that name sweeps, and --runs. default: what happens without them."""
    parser.usage = "%(prog)s [SWEEP ...] [KEY=VALUE ...] [OPTION ...]"
    add_sweep_names(parser, "*", f"; default: {default}")
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)  # as the launch has it
    add_runs(parser)


def add_sweep_names(parser: argparse.ArgumentParser, nargs: str, more: str = "") -> None:
    """Add the positional argument of sweeps. more: at the end of its help."""
    argument: Any = parser.add_argument(
        "sweeps",
        nargs=nargs,
        metavar="SWEEP",
        help="name of a sweep file, or of one plan below FOLDER/sweeps; KEY=VALUE as in the launch finds that launch's"
        f" plan{more}",
    )
    argument.completer = complete_sweeps


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from which folders or from W&B, as `cli.summaries` reads them."""
    add_sweeps(parser, default="every sweep that has records")
    parser.add_argument(
        "--source",
        metavar="wandb:ENTITY/PROJECT",
        help="read the plans and records that W&B has, instead of folders; wandb:PROJECT: of the key's own entity",
    )
    parser.add_argument(
        "--value", metavar="METRIC", help="the metric to show of sweeps whose file names none, and of plain multiruns"
    )
    parser.add_argument(
        "--better", choices=[each.value for each in Better], help="its direction, where its name does not tell it"
    )
    parser.add_argument(
        "--mix", action="store_true", help="average and compare cells of different code or data, too; tables say so"
    )
    parser.set_defaults(left_out=[])  # names of sweeps whose plans cannot be read


def asked_for(options: argparse.Namespace, copy: Path | None = None) -> AskedSweeps:
    """Return what the arguments of `add_sweeps` ask for, and put the app of the folders to use.

    runs=FOLDER and sweeps=NAME mean the same as in the launch. copy: the folder to read instead. Raises UsageError.
    """
    given, sweeps, overrides = list[Path](), list[str](), list[str]()
    for text in options.sweeps:
        key, equals, value = text.partition("=")
        if not equals and not text.startswith("~"):
            sweeps.append(text)
        elif key.lstrip("+") in _RUNS_KEYS:
            given = [_folder(text)]
        elif key == "sweeps":
            sweeps.append(value)
        elif not key.lstrip("+~").startswith(("hydra.", "hydra/")):
            overrides.append(text)
    if given and options.runs:
        raise UsageError(f"--runs {' '.join(map(str, options.runs))} and {_RUNS_KEYS[0]}={given[0]}: give one of them")
    folders = folders_of([copy] if copy else given or options.runs)
    return AskedSweeps(folders=folders, sweeps=sweeps, overrides=overrides)


def folders_of(runs: Sequence[Path] | None) -> list[Path]:
    """Return the folders of --runs, and put their app to use; raises UsageError for one that is not there."""
    folders = list(dict.fromkeys(runs or [RUNS]))
    for folder in folders:
        if not folder.is_dir():
            given = f"--runs {folder}: there is no such folder" if runs else "there is no folder runs here"
            raise UsageError(f"{given}; give the folder of the records: --runs FOLDER, after the names of sweeps")
    use_app(folders)
    return folders


def plan_names(asked: AskedSweeps, there: Mapping[str, Path]) -> list[str]:
    """Return the names of the plans that are asked for: all, those of sweep files, or that of a launch's overrides.

    there: all plans, as plan_folders. Raises UsageError where one is not there.
    """
    if asked.overrides:
        return [plan_of_overrides(asked, there)]
    _check_any(asked, there)
    found = [name for wanted in asked.sweeps for name in _matching(wanted, there, asked.folders)]
    return list(dict.fromkeys(found)) if asked.sweeps else list(there)


def _matching(wanted: str, there: Iterable[str], folders: Sequence[Path]) -> list[str]:
    # A plan whose launch changed the sweep's cells has a hash after its name.
    pattern = re.compile(re.escape(wanted.replace("/", "-")) + "(-[0-9a-f]{8})?")
    if matching := [name for name in there if pattern.fullmatch(name)]:
        return matching
    where, known = ", ".join(map(str, folders)), ", ".join(there)
    raise UsageError(f"{wanted or repr(wanted)} was not launched into {where}; launched there: {known}")


def plan_of_overrides(asked: AskedSweeps, there: Mapping[str, Path]) -> str:
    """Return the name of the plan that a launch with exactly these overrides has written.

    there: all plans, as plan_folders. Raises UsageError.
    """
    _check_any(asked, there)
    if len(asked.sweeps) > 1:
        raise UsageError(f"{' '.join(asked.overrides)}: of which sweep? {' and '.join(asked.sweeps)} are given")
    sweep = next(iter(asked.sweeps), "")
    try:
        # Which keys are logistics is known of an app that has named itself; any other's plans say it.
        name = (
            plan_name(asked.overrides, sweep) if app.has_named_itself() else _written_by(asked.overrides, sweep, there)
        )
    except Exception as error:
        raise _usage_error(error) from None
    if name not in there:
        line = " with ".join(filter(None, (sweep, " ".join(asked.overrides))))
        no_plan = f" (there is no plan {name})" if name else ""
        raise UsageError(
            f"{line} was not launched into {', '.join(map(str, asked.folders))}{no_plan};"
            f" launched there: {', '.join(there)}"
        )
    return name


def _written_by(overrides: Sequence[str], sweep: str, there: Mapping[str, Path]) -> str:
    """Return the plan of a sweep with these changes, but for logistics; "" if there is none."""
    typed = {part for text in overrides for part in flattened(text)}
    for name, folder in there.items():
        with suppress(RecordError, OSError):
            plan = StoredPlan.read(folder)
            rest = typed - {*plan.changes}
            known = all(key in plan.logistics for text in rest for key in keys_of(text))
            if sweep in (plan.file, name) and typed >= {*plan.changes} and known:
                return name
    return ""


def _check_any(asked: AskedSweeps, there: Mapping[str, Path]) -> None:
    if not there:
        where = ", ".join(map(str, asked.folders))
        raise UsageError(f"no sweep was launched into {where}; give another runs folder")


def _folder(text: str) -> Path:
    """Return the folder that runs=DIR names, unquoted as Hydra does it."""
    from hydra.core.override_parser.types import Glob, Sweep

    from strive.sweeps.override_syntax import value_of

    try:
        value = value_of(text)
    except Exception as error:
        raise _usage_error(error) from None
    if isinstance(value, Sweep | Glob | list | dict) or "${" in str(value):
        raise UsageError(f"{text} names no one folder; give --runs FOLDER")
    return Path(str(value))


def _usage_error(error: Exception) -> Exception:
    """Return a UsageError for the user's mistake in an override, and any other error unchanged."""
    from strive.config.error_text import complaint

    text = complaint(error)
    return error if text is None else UsageError(text)


class _PlannedApp(msgspec.Struct):
    """What a plan says of its app; plans have more fields."""

    app: str = ""


def use_app(folders: Sequence[Path]) -> None:
    """Make the app that was launched into these folders the current one, where it can be imported.

    What reads records alone needs no app, so one that cannot be imported here is no error.
    """
    if os.environ.get(app.APP):
        return
    module = next(_apps(folders), _STUDY)
    if _importable(module):
        app.use(module)


def _apps(folders: Sequence[Path]) -> Iterator[str]:
    """Yield the app of each plan that can be read."""
    for folder in plan_folders(folders).values():
        with suppress(OSError, msgspec.MsgspecError):
            plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=_PlannedApp)
            yield plan.app or _STUDY


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


# -- completion


def complete_sweeps(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the names of plans that begin so."""
    return [name for name in plan_folders(parsed_args.runs or [RUNS]) if name.startswith(prefix)]


def complete_cells(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the ids of cells that begin so, also by their last ten digits."""
    cells = [path.parent.name for folder in parsed_args.runs or [RUNS] for path in sorted(folder.glob("*/record.json"))]
    return [cell for cell in cells if cell.startswith(prefix)] or [
        cell[-10:] for cell in cells if cell[-10:].startswith(prefix)
    ]
