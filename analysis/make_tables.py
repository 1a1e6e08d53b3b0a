"""From records to the paper's comparison, with statistics: `python analysis/make_tables.py --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from literature import comparison_tables

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cells.records import write_whole
from strive.results_cli import add_arguments, guarded, sweep_summaries
from strive.tables.render import footnotes_csv, latex, latex_tables, markdown, markdown_tables, tidy_csv
from strive.tables.summary import SweepSummary

_HELP = """\
Write the tables of every sweep that has records: Markdown on the terminal, and .md, .tex and .csv.

  python analysis/make_tables.py                              every sweep below runs/
  python analysis/make_tables.py table3                       one sweep
  python analysis/make_tables.py table3 --runs runs results/table3
  python analysis/make_tables.py table3 --source wandb:ENTITY/PROJECT
  python analysis/make_tables.py --check                      are the written tables those of the records?

SWEEP.md         the answer, every table, what is missing
SWEEP.tex        the same for LaTeX; needs the package booktabs alone
SWEEP.csv        a line for each place of the table, in full precision
SWEEP.cells.csv  a line for each cell: `ref` leads from a number to its cells, records, code and device
paper.md, .tex   the paper's comparisons with other methods, our value in its row where there is one"""
_EXIT = """\
exit code: 0; 1 if a sweep with a damaged plan was left out, with --strict or --check for holes and mixtures, with
--check for a table that is not what the records say; 2 for a mistake in the command or in a sweep file.

A mean is taken only where every cell of a place is done. Missing, failed and diverged cells are holes, and said so."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the tables; return the exit code."""
    arguments = _parser().parse_args(argv)
    sweeps = sweep_summaries(arguments)
    files = _files(sweeps, arguments.out)
    if arguments.check:
        return _check(files, sweeps, arguments.out) or bool(arguments.left_out)
    # First of all, so that no reader that leaves can keep a table from being written.
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_whole(arguments.out / name, text.encode(), durable=False)
    for sweep in sweeps:
        print(markdown(sweep))
    print(markdown_tables(comparison_tables(sweeps)))
    print(f"{len(files)} files written to {arguments.out}/", file=sys.stderr)
    problems = _problems(sweeps)
    if problems and arguments.strict:
        print("\n".join(problems), file=sys.stderr)
    return 1 if arguments.left_out or (problems and arguments.strict) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=_HELP, epilog=_EXIT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("tables"), metavar="FOLDER", help="where (default: tables)")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a place has a hole or a mixture")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit 1 if a written table is stale, has holes, or mixes code",
    )
    return parser


def _files(sweeps: Sequence[SweepSummary], out: Path) -> dict[str, str]:
    """Return {file name: text} of all that would be written into a folder."""
    files = {}
    for sweep in sweeps:
        name = sweep.loaded.name
        files[f"{name}.md"] = markdown(sweep)
        files[f"{name}.tex"] = latex(sweep)
        files[f"{name}.csv"] = tidy_csv(sweep)
        files[f"{name}.cells.csv"] = footnotes_csv(sweep, out)
    tables = comparison_tables(sweeps)
    return files | {"paper.md": markdown_tables(tables), "paper.tex": latex_tables(tables)}


def _check(files: dict[str, str], sweeps: Sequence[SweepSummary], out: Path) -> int:
    problems = _problems(sweeps)
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


def _problems(sweeps: Sequence[SweepSummary]) -> list[str]:
    return [f"{sweep.loaded.name}: {problem}" for sweep in sweeps for problem in sweep.problems]


if __name__ == "__main__":
    sys.exit(guarded(main))
