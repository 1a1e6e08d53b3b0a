"""`strive prune`: removes what nobody needs any more from a runs folder. Imports no torch."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from strive.cli.folders import add_runs, folders_of
from strive.format import size_text
from strive.plain_text import printable
from strive.status.disk_use import DiskEntry, DiskKind, bytes_of, disk_use, kind_lines

HELP = """\
Say what nobody needs any more in a runs folder and how much room it takes:
checkpoints of cells that have their result, launches before the newest of a
sweep, copies of code that no launch uses, temporary files of killed processes.
Nothing is removed without --yes; results never without --unplanned, too.

  %(prog)s               what would go
  %(prog)s --list        the same, each path
  %(prog)s --yes         remove it
  %(prog)s --unplanned   also results of cells that are in no sweep's plan"""
EXIT = """\
exit code: 0; 1 if something could not be removed; 2 for a mistake in the
command. What is at work, here, on SLURM or on another machine, is left alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folders, what goes, and whether it does."""
    add_runs(parser)
    parser.add_argument("--list", action="store_true", help="print each path")
    parser.add_argument("--unplanned", action="store_true", help="also cells with a result that no plan names")
    parser.add_argument("--yes", action="store_true", help="remove it")


def run(options: argparse.Namespace) -> int:
    """Print what may go, and remove it if that is asked for; return the exit code."""
    folders = folders_of(options.runs)
    uses = [use for runs in folders for use in disk_use(runs, unplanned=options.unplanned)]
    gone = [use for use in uses if use.kind.may_go or use.kind is DiskKind.unplanned]
    names = ", ".join(map(str, folders))
    print(printable(f"{names}: {size_text(bytes_of(uses))}, of which {size_text(bytes_of(gone))} may go"))
    for line in kind_lines(gone):
        print(line)
    if options.list:
        for use in gone:
            print(printable(str(use.path)))
    if not gone:
        return 0
    if not options.yes:
        print("nothing was removed; --yes removes it" + ("" if options.list else ", --list names each"))
        return 0
    return _remove(gone)


def _remove(uses: Sequence[DiskEntry]) -> int:
    failed = 0
    for use in uses:
        try:
            if use.path.is_dir() and not use.path.is_symlink():
                shutil.rmtree(use.path)
            else:
                os.unlink(use.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            failed += 1
            print(printable(f"{use.path}: {error.strerror}"), file=sys.stderr)
    print(f"removed {len(uses) - failed:,} of {len(uses):,}")
    return 1 if failed else 0
