"""`strive tables`: from records to tables, with statistics."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strive.cells.records import make_folder, write_whole
from strive.cli.folders import add_source
from strive.console import CONSOLE, OUTPUT

if TYPE_CHECKING:  # imports pandas, which --help and completion do without
    from strive.tables.summary import SweepSummary
    from strive.tables.table import Table

HELP = """\
Write the tables of every sweep that has records into a folder: .md, .tex, .csv.
A terminal shows each in short, a pipe its Markdown; last come the answers and
the files.

  %(prog)s                   every sweep launched into runs
  %(prog)s table3            one sweep
  %(prog)s --runs runs old   from several folders, read as one
  %(prog)s --check           are the written tables those of the records?
  %(prog)s table3 --source wandb:ENTITY/PROJECT

SWEEP.md         the answer, every table, what is missing
SWEEP.tex        the same for LaTeX; needs booktabs, graphicx and siunitx
SWEEP.csv        a line for each place of the table, in full precision
SWEEP.cells.csv  a line for each cell: `ref` leads from a number to its cells,
                 records, code and device
numbers.tex      every number as \\strive{SWEEP/CONDITION/METRIC}, for a text;
                 numbers of other sweeps stay in it"""
NUMBERS = "numbers.tex"
EXIT = """\
exit code: 0; 1 if a sweep with a damaged plan was left out or if files
contradict each other, with --check for a table that is not what the records
say, with --strict for holes, mixtures and looks that are not over; 2 for a
mistake in the command or in a sweep file.

A mean is taken only where every cell of a place is done. Missing, failed and
diverged cells are holes, and the tables name them. --partial shows the mean of
those that are done, without a verdict."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and where the tables go."""
    add_source(parser)
    parser.add_argument("--out", type=Path, default=Path("tables"), metavar="FOLDER", help="where (default: tables)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown: docs/agents.md")
    parser.add_argument(
        "--partial", action="store_true", help="show what is done of a place with a hole, grey, with n of N"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 if a place has a hole or a mixture, or its looks are not over"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a written table is stale")


def run(
    options: argparse.Namespace, further: "Callable[[Sequence[SweepSummary]], Sequence[Table]] | None" = None
) -> int:
    """Write or check the tables; return the exit code.

    further: what an app has more to compare these sweeps with, as tables for paper.md and paper.tex.
    """
    from strive.cli.summaries import sweep_summaries, with_looks
    from strive.tables.on_terminal import in_short
    from strive.tables.render import latex_tables, markdown_tables

    sweeps = with_looks(sweep_summaries(options), write=not options.check)
    files = _files(sweeps, options.out)
    tables = list(further(sweeps)) if further else []
    files |= {NUMBERS: _numbers(sweeps, options.out / NUMBERS)}
    if tables:
        files |= {"paper.md": markdown_tables(tables), "paper.tex": latex_tables(tables)}
    if options.check:
        return _check(files, options.out) or _ended(sweeps, options)
    # First of all, so that no reader that leaves can keep a table from being written.
    make_folder(options.out)
    for name, text in files.items():
        write_whole(options.out / name, text.encode(), durable=False)
    if options.json:
        print(_json(sweeps, tables))
    elif sys.stdout.isatty():
        for sweep in sweeps:
            for part in in_short(sweep, str(options.out / f"{sweep.loaded.name}.md"), OUTPUT.width):
                OUTPUT.print(part, soft_wrap=False)
    else:
        for name in (*(f"{sweep.loaded.name}.md" for sweep in sweeps), "paper.md"):
            print(files.get(name, ""))
    answers = (f"{sweep.title}: {sweep.answer}" for sweep in sweeps)
    for line in (*answers, f"{options.out}/: {', '.join(files)}"):
        CONSOLE.print(line, soft_wrap=not CONSOLE.is_terminal)
    return _ended(sweeps, options)


def _ended(sweeps: "Sequence[SweepSummary]", options: argparse.Namespace) -> int:
    """Return the exit code for what the sweeps are; names on stderr what is wrong with them."""
    from strive.cli.summaries import named_contradictions

    problems = [f"{sweep.loaded.name}: {problem}" for sweep in sweeps for problem in sweep.problems]
    if problems and options.strict:
        print("\n".join(problems), file=sys.stderr)
        return 1
    return int(named_contradictions(sweeps) or bool(options.left_out))


def _files(sweeps: "Sequence[SweepSummary]", out: Path) -> dict[str, str]:
    """Return {file name: text} of all that would be written into a folder."""
    from strive.tables.render import footnotes_csv, latex, markdown, tidy_csv

    files = {}
    for sweep in sweeps:
        name = sweep.loaded.name
        files[f"{name}.md"] = markdown(sweep)
        files[f"{name}.tex"] = latex(sweep)
        files[f"{name}.csv"] = tidy_csv(sweep)
        files[f"{name}.cells.csv"] = footnotes_csv(sweep, out)
    return files


def _json(sweeps: "Sequence[SweepSummary]", further: "Sequence[Table]") -> str:
    from strive.cli.answer import next_step
    from strive.tables.as_json import answer_json, tables_json, to_json

    return to_json(tables_json([(sweep, answer_json(sweep, "table", next_step(sweep))) for sweep in sweeps], further))


def _numbers(sweeps: "Sequence[SweepSummary]", path: Path) -> str:
    """Return the content of numbers.tex; names on stderr what has the same key as something else."""
    from strive.tables.cited_numbers import collisions, numbers_of
    from strive.tables.latex_numbers import latex_numbers

    found = {sweep.loaded.name: numbers_of(sweep) for sweep in sweeps}
    for numbers in found.values():
        for text in collisions(numbers.values()):
            print(f"no number for a text: {text}", file=sys.stderr)
    return latex_numbers(found, path.read_text(encoding="ascii", errors="replace") if path.exists() else "")


def _check(files: dict[str, str], out: Path) -> int:
    """Return 1, and say which, if a file is not the one that would be written now."""
    problems = list[str]()
    for name, text in files.items():
        path = out / name
        if not path.exists():
            problems.append(f"{path}: is not there; write it without --check")
        elif path.read_bytes() != text.encode():
            problems.append(f"{path}: is stale, the records say something else; write it again without --check")
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(files)} files in {out}/ say what the records say")
    return 1 if problems else 0
