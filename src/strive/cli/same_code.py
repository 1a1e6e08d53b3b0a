"""`strive same-code`: trains one cell again with the code here, and notes the code as the same if the numbers are."""

import argparse
import socket
from datetime import UTC, datetime
from pathlib import Path

from strive.cells import records
from strive.cli.reproduce import add_cell, train_again
from strive.code.same_code import TABLE, Note, notes_with, same_code
from strive.plain_text import printable

HELP = """\
Train one cell again with the code as it is here. If its numbers agree to the
last bit, note in the runs folder that its code and this one train the same:
cells of that code are then no longer stale, and tables take both as one version
and name them.

  %(prog)s CELL             by its id, the id's start or last ten
                                    digits, or its folder
  %(prog)s CELL --runs DIR  the record is in another folder

One cell speaks for all cells of the folder, so take one that reaches the code
that has changed. The note is a row in FOLDER/same_code.json; to take it back,
remove the row."""
EXIT = """\
exit code: 0 if the numbers are identical, 1 if they are not, 2 if there is
nothing to compare, 130 if stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the cell, where its record is, and where the new one goes."""
    add_cell(parser)


def run(options: argparse.Namespace) -> int:
    """Train, compare, and note the result; return the exit code."""
    from strive.cells.reproduce import verdict

    first, again = train_again(options)
    same, lines = verdict(first, again)
    print("\n".join(map(printable, lines)))
    if same:
        print(printable(_note(first, again)))
    return 0 if same else 1


def _note(first: Path, again: Path) -> str:
    """Add a row to the table of the record's runs folder; return what was done."""
    record, runs = records.read_record(first), first.parent.parent
    old, new = record.provenance.code_hash, records.read_record(again).provenance.code_hash
    if new in same_code(old, record.config, runs):
        return (
            f"nothing to note: code {old} and {new} are known to be the same"
            if old != new
            else f"code {old} trained both"
        )
    note = Note(old=old, new=new, cell=record.cell, date=f"{datetime.now(UTC):%Y-%m-%d}", host=socket.gethostname())
    records.write_whole(runs / TABLE.name, notes_with(runs, note))
    return f"noted in {runs / TABLE.name}: code {old} and {new} train the same numbers"
