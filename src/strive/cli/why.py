"""`strive why`: why the ids of two cells differ. Imports no torch."""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from strive.cells.find_record import matching, one_result, record_at
from strive.cells.records import read_record
from strive.cli.folders import add_runs, complete_cells, folders_of
from strive.config import identity
from strive.errors import RecordError, UsageError
from strive.format import counted
from strive.plain_text import printable
from strive.sweeps.plan import StoredCell, StoredPlan, plan_folders

HELP = """\
Say why two cells have different ids: the keys that decide numbers and differ,
with both values. A cell may be trained or only planned.

  %(prog)s CELL CELL           an id, the start of it, its last ten digits,
                               or the folder of a record
  %(prog)s CELL CELL --runs runs old

A value is printed as JSON: 1 and 1.0 are two values, and so are 1 and true."""
EXIT = """\
exit code: 0, also where they do not differ; 2 if there is no such cell."""
_ABSENT = "(no such key)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two cells and where they are."""
    parser.usage = "%(prog)s CELL CELL [OPTION ...]"
    for name in ("cell", "other"):
        argument: Any = parser.add_argument(name, metavar="CELL", help="its id, a part of it, or its folder")
        argument.completer = complete_cells
    add_runs(parser)


def run(options: argparse.Namespace) -> int:
    """Print the keys in which the cells differ; return the exit code."""
    folders = folders_of(options.runs)
    (one, ours), (other, theirs) = (_config_of(name, folders) for name in (options.cell, options.other))
    print("\n".join(map(printable, _lines(one, ours, other, theirs))))
    return 0


def _config_of(name: str, folders: Sequence[Path]) -> tuple[str, Mapping[str, Any]]:
    """Return the id of the cell that is meant, and what decides its numbers, from its record or else from a plan."""
    if (path := record_at(name)) is not None:
        record = read_record(path)
        return record.cell, record.config
    planned = _planned(folders)
    trained = {path.parent.name for folder in folders for path in folder.glob("*/record.json")}
    where = ", ".join(map(str, folders))
    if not planned and not trained:
        raise UsageError(f"there is neither a record nor a plan in {where}; --runs FOLDER looks in another folder")
    cell = matching(name, planned.keys() | trained, where)
    path = one_result(cell, folders)
    if path is not None:
        return cell, read_record(path).config
    plan, stored = planned[cell]
    return cell, plan.science(stored)


def _planned(folders: Sequence[Path]) -> dict[str, tuple[StoredPlan, StoredCell]]:
    """Return {cell: a plan that has it, and what that says of it} of all plans that can be read."""
    found: dict[str, tuple[StoredPlan, StoredCell]] = {}
    for folder in plan_folders(folders).values():
        with suppress(RecordError, OSError):
            plan = StoredPlan.read(folder)
            found |= {cell.cell: (plan, cell) for cell in plan.cells}
    return found


def _lines(one: str, ours: Mapping[str, Any], other: str, theirs: Mapping[str, Any]) -> list[str]:
    if one == other:
        return [f"{one} is one cell"]
    keys = _differing(ours, theirs)
    if not keys:
        return [one, other, "do not differ in any key that decides numbers"]
    rows = [(key, _text(ours, key), _text(theirs, key)) for key in keys]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [
        one,
        other,
        f"differ in {counted(len(keys), 'key')} that decide{'s' if len(keys) == 1 else ''} numbers:",
        *(f"  {key:<{widths[0]}}  {before:<{widths[1]}}  {after}" for key, before, after in rows),
    ]


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ as JSON, in order."""
    both = [identity.with_argument_keys(config) for config in (ours, theirs)]
    keys = [key for key in dict.fromkeys((*both[0], *both[1])) if key not in identity.BUILDERS]
    return [key for key in keys if len({_text(config, key) for config in both}) > 1]


def _text(config: Mapping[str, Any], key: str) -> str:
    config = identity.with_argument_keys(config)
    return json.dumps(config[key], sort_keys=True, ensure_ascii=False) if key in config else _ABSENT
