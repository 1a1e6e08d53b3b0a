"""Command line of what reads records: which sweeps, from which folders or from W&B, and exit codes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from strive import streams
from strive.errors import ConfigError, LoadError, PublishedError, RecordError, ServerError
from strive.results.load import file_of, find_plans, load_sweep
from strive.tables.summary import SweepSummary, summarise_sweep
from strive.trackers.source import WandbSource, open_source

_RUNS = Path("runs")  # where a launch leaves records by default
_DEFAULT = [_RUNS]


def add_arguments(parser: argparse.ArgumentParser, *, curves: bool = False) -> None:
    """Add which sweeps, from where. curves: the command needs learning curves, which take W&B longer."""
    parser.add_argument(
        "sweeps",
        nargs="*",
        metavar="SWEEP",
        help="name of a sweep file, or of one plan below FOLDER/sweeps; default: every sweep that has records",
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        default=_DEFAULT,
        metavar="FOLDER",
        help="folders of records; what the first has counts (default: runs)",
    )
    parser.add_argument(
        "--source",
        metavar="wandb:ENTITY/PROJECT",
        help="read the plans and records that W&B has, instead of folders; wandb:PROJECT: of the key's own entity",
    )
    parser.set_defaults(left_out=[], curves=curves)  # left_out: names of sweeps whose plans cannot be read
    parser.add_argument(
        "--mix", action="store_true", help="average and compare cells of different code or images, too; tables say so"
    )


def sweep_summaries(arguments: argparse.Namespace) -> list[SweepSummary]:
    """Return what the wanted sweeps say; progress goes to stderr, arguments.left_out gets what cannot be read.

    Raises LoadError for a sweep or a folder that is not there, ConfigError for a faulty sweep file.
    """
    source = _source(arguments)
    folders = [source.folder] if source else arguments.runs
    if folders == [_RUNS] and not _RUNS.exists():
        raise LoadError(_nothing(folders))
    plans = find_plans(folders)
    names = _wanted(plans, arguments.sweeps)
    sweeps = []
    for number, name in enumerate(names, 1):
        if sys.stderr.isatty():
            print(f"\r\033[K[{number}/{len(names)}] {name}", end="", file=sys.stderr, flush=True)
        try:
            loaded = load_sweep(name, folders)
        except LoadError as error:
            # One damaged plan must not take the tables of all other sweeps.
            if arguments.sweeps:
                raise
            print(f"left out: {error}", file=sys.stderr)
            arguments.left_out.append(name)
            continue
        # A plan of which nothing was ever trained answers nothing, unless it was asked for by name.
        if arguments.sweeps or (loaded.cells["status"] != "missing").any():
            if source and arguments.curves:
                source.fetch_curves(loaded.cells["cell"])
                loaded = load_sweep(name, folders)  # with what its records can be compared with now
            sweeps.append(summarise_sweep(loaded, mix=arguments.mix))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if not sweeps and arguments.left_out:
        raise LoadError("no sweep is left")
    if not sweeps:
        raise LoadError(f"no sweep of {source} has a record so far" if source else _nothing(folders))
    return sweeps


def _source(arguments: argparse.Namespace) -> WandbSource | None:
    if arguments.source is None:
        return None
    if arguments.runs is not _DEFAULT:
        raise LoadError(
            f"--source {arguments.source} and --runs {' '.join(map(str, arguments.runs))}: give one of them;"
            " --source says where its copy lies, and --runs FOLDER FOLDER reads that beside other folders"
        )
    return open_source(arguments.source)


def _wanted(plans: dict[str, Path], asked: Sequence[str]) -> list[str]:
    """Return the names of plans: each of a sweep file's, or one by its own name."""
    if not asked:
        return list(plans)
    files = {name: file_of(folder) for name, folder in plans.items() if name not in asked}
    found = []
    for wanted in asked:
        matching = [name for name in plans if name == wanted or files.get(name) == wanted]
        if not matching:
            legal = ", ".join(sorted({*plans, *filter(None, files.values())})) or "none"
            raise LoadError(
                f"there is no sweep {wanted}; with a plan: {legal}. A launch of it writes one:"
                f" python src/run.py -m sweeps={wanted}"
            )
        found += matching
    return list(dict.fromkeys(found))


def _nothing(folders: Sequence[Path]) -> str:
    return (
        f"no sweep has a record in {', '.join(map(str, folders))}: train one, python src/run.py -m sweeps=smoke, or"
        " name other folders: --runs results/table3_small comes with the repository"
    )


def guarded(main: Callable[[Sequence[str] | None], int], arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command; a user's mistake is one message and 2."""
    streams.guard()
    try:
        return main(arguments)
    except (LoadError, ConfigError, PublishedError, RecordError, ServerError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
