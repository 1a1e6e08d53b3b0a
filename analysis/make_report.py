"""One page with the answers of all sweeps: `python analysis/make_report.py --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from literature import comparison_tables

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cells.records import write_whole
from strive.report.page import render_report
from strive.results_cli import add_arguments, guarded, sweep_summaries
from strive.trackers.upload_state import upload_url

_HELP = """\
Write one HTML file with the question and the answer of every sweep that has records, its tables, learning curves,
differences, costs and failed cells. It opens from disk and needs no network.

  python analysis/make_report.py                              every sweep below runs/
  python analysis/make_report.py table3 --runs runs results/table3 --out table3.html
  python analysis/make_report.py table3 --source wandb:ENTITY/PROJECT"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    arguments = _parser().parse_args(argv)
    sweeps = sweep_summaries(arguments)
    content = render_report(sweeps, comparison_tables(sweeps), upload_url).encode()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, content, durable=False)
    count = "1 sweep" if len(sweeps) == 1 else f"{len(sweeps)} sweeps"
    print(f"{arguments.out}: {count}, {len(content) / 1e6:.1f} MB")
    return 1 if arguments.left_out else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python analysis/make_report.py",
        description=_HELP,
        epilog="exit code: 0; 1 if a sweep with a damaged plan was left out; 2 for a mistake in command or sweep file.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, curves=True)
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(main))
