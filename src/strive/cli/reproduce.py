"""`strive reproduce`: trains one cell again from its record, and compares the numbers."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strive import app, signals
from strive.cells import records
from strive.cells.find_record import find_record
from strive.cli.folders import add_runs, complete_cells, folders_of
from strive.errors import ConfigError, RecordError
from strive.plain_text import printable

HELP = """\
Train one cell again from its record, and say whether its numbers agree to the
last bit.

  %(prog)s CELL             by its id, the id's start or last ten
                                    digits, or its folder
  %(prog)s CELL --runs DIR  the record is in another folder
  %(prog)s CELL KEY=VALUE   with other logistics: where data lies ...
  %(prog)s CELL --keep      compare with an earlier reproduction

The cell trains with the threads, the compilation and, where this machine has
it, the device of the record: these decide the last bits. An interrupted command
goes on from its checkpoint. A record of an earlier reproduction is kept in its
folder, as record-1.json and so on."""
EXIT = """\
exit code: 0 if the result is identical, 1 if it is not, 2 if there is nothing
to compare, 130 if stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the cell, where its record is, and where the new one goes."""
    add_cell(parser)
    parser.add_argument("--keep", action="store_true", help="if it was trained again before, only compare with that")


def run(options: argparse.Namespace) -> int:
    """Train, compare and print the differences; return the exit code."""
    from strive.cells.reproduce import verdict

    first, again = train_again(options, keep=options.keep)
    same, lines = verdict(first, again)
    print("\n".join(map(printable, lines)))
    return 0 if same else 1


def add_cell(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that trains one cell again."""
    parser.usage = "%(prog)s CELL [KEY=VALUE ...] [OPTION ...]"
    argument: Any = parser.add_argument("cell", metavar="CELL", help="its id, a part of it, or its folder")
    argument.completer = complete_cells
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="logistics to change, such as data.root=DIR")
    add_runs(parser)
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="folder for the new record (default: reproduced, in the runs folder)",
    )


def train_again(options: argparse.Namespace, *, keep: bool = False) -> tuple[Path, Path]:
    """Train the cell of `add_cell` again; return the paths of its record and of the new one.

    keep: an earlier reproduction will do. Raises StriveError for a user's mistake, StoppedError if stopped.
    """
    from strive.cells.reproduce import config_again, without_result

    overrides = _overrides(options.overrides)
    first = find_record(folders_of(options.runs), options.cell)
    record = records.read_record(first)
    if record.failure is not None:
        raise RecordError(without_result(record))
    into = options.into or first.parent.parent / "reproduced"
    again = records.record_path(into, record.cell)
    if again.resolve() == first.resolve():
        raise ConfigError(f"--into={into} is where the record lies that would be compared with; name another folder")
    if keep and again.exists():
        return first, again
    if app.has_named_itself():
        _train(record, config_again(record, into, overrides), first.parent.parent, again)
    else:
        from strive.cli.frozen_again import train_frozen

        train_frozen(record, first.parent.parent, again, options.overrides)
    return first, again


def _train(record: records.Record, config: Any, runs: Path, again: Path) -> None:
    from strive.cells.reproduce import known_differences

    differences = known_differences(record, config, runs)
    print(f"trains {record.cell} again, into {config.runs}", file=sys.stderr)
    if differences:
        print("\n".join(["not as it was, so the last bits may differ:", *differences]), file=sys.stderr)
    signals.listen()
    trainer = app.in_use().trainer()
    trainer.run_cell(config, replaces=records.file_hash(again) if again.exists() else "")


def _overrides(texts: Sequence[str]) -> dict[str, str]:
    """Return {key: value}."""
    pairs = [text.partition("=") for text in texts]
    for text, (_, equals, _) in zip(texts, pairs, strict=True):
        if not equals:
            raise ConfigError(f"{text} is no KEY=VALUE; one cell at a time")
    return {key: value for key, _, value in pairs}
