"""`strive check`: are the numbers and tables in pages and papers those of the records?"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strive.cells.records import write_whole
from strive.cli.folders import add_runs, folders_of
from strive.errors import LoadError, UsageError

if TYPE_CHECKING:  # imports pandas, which --help and completion do without
    from strive.tables.prose import RecordValues

HELP = """\
Say whether the numbers and tables in a text are those of the records.

  %(prog)s README.md                    compare with the records in runs
  %(prog)s README.md --runs results/a   with those of another folder
  %(prog)s README.md --write            bring it up to date
  %(prog)s paper.tex numbers.tex        every \\strive{KEY} has a number?

In Markdown a number stands between <!-- strive: KEY --> and <!-- / -->, as in
  <!-- strive: table3/all_cnn_c/test_error -->30.13<!-- / -->%%
and a table, on lines of its own, between <!-- strive: table3/errors --> and
<!-- / -->. The keys stand in numbers.tex, which `strive tables` writes."""
EXIT = """\
exit code: 0 if all agree, or do after --write; 1 for a number or a table that
is stale, a key that does not exist and a mark without its end; 2 for a mistake
in the command. --write changes nothing but what stands between marks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files, and where their records are."""
    parser.usage = "%(prog)s FILE [FILE ...] [OPTION ...]"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Markdown, or LaTeX if it ends in .tex")
    add_runs(parser)
    parser.add_argument("--write", action="store_true", help="bring what is stale up to date")
    parser.add_argument("--mix", action="store_true", help="as for `strive tables`")


def run(options: argparse.Namespace) -> int:
    """Compare the files; return the exit code."""
    texts = {path: _read(path) for path in dict.fromkeys(options.files)}
    folders = folders_of(options.runs)
    from strive.tables.prose import checked, sweeps_in

    latex = {path: path.suffix.lower() == ".tex" for path in texts}
    wanted = [sweep for path, text in texts.items() for sweep in sweeps_in(text, latex=latex[path])]
    known = _known(dict.fromkeys(wanted), folders, mix=options.mix)
    problems, count, changed = list[str](), 0, 0
    for path, text in texts.items():
        found = checked(text, known, latex=latex[path])
        count += found.count
        problems += [f"{path}:{each}" for each in found.faults]
        if found.stale and options.write:
            _write(path, found.text)
            changed += len(found.stale)
            print(f"{path}: {len(found.stale)} brought up to date")
        else:
            problems += [f"{path}:{each}" for each in found.stale]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems and not changed:
        print(f"{count} {'number or table is' if count == 1 else 'numbers and tables are'} what the records give")
    return 1 if problems else 0


def _known(sweeps: Iterable[str], folders: Sequence[Path], *, mix: bool) -> "RecordValues":
    """Return what the records of these sweeps give."""
    from strive.results.load import load_sweep
    from strive.tables.cited_numbers import Number, numbers_of, tables_of
    from strive.tables.prose import RecordValues
    from strive.tables.summary import summarise_sweep
    from strive.tables.table import Table

    numbers, tables, unknown = dict[str, Number](), dict[str, Table](), dict[str, str]()
    for name in sweeps:
        try:
            summary = summarise_sweep(load_sweep(name, folders), mix=mix)
        except LoadError as error:
            unknown[name] = str(error)
            continue
        numbers |= numbers_of(summary)
        tables |= tables_of(summary)
    return RecordValues(numbers=numbers, tables=tables, unknown=unknown)


def _read(path: Path) -> str:
    """Return a file's text with its own ends of lines."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text in UTF-8 ({error})") from None


def _write(path: Path, text: str) -> None:
    """Replace a file in one step. It keeps its permissions, and a link stays one."""
    path = path.resolve()
    mode = path.stat().st_mode
    write_whole(path, text.encode())
    os.chmod(path, mode)
