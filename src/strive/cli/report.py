"""`strive report`: one page with the answers of all sweeps."""

import argparse
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from strive.cells.records import make_folder, write_whole
from strive.cli.folders import add_source
from strive.format import counted

if TYPE_CHECKING:  # imports pandas, which --help and completion do without
    from strive.tables.summary import SweepSummary
    from strive.tables.table import Table

HELP = """\
Write one HTML file with the question and the answer of every sweep that has
records, what is missing, its tables, figures, pictures and costs, and links
to records. It opens from disk and needs neither network nor JavaScript.

  %(prog)s           every sweep launched into runs
  %(prog)s table3 --runs runs old --out table3.html
  %(prog)s table3 --source wandb:ENTITY/PROJECT"""
EXIT = """\
exit code: 0; 1 if a sweep with a damaged plan was left out or if files
contradict each other; 2 for a mistake in the command or in a sweep file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and where the page goes."""
    add_source(parser)
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")


def run(
    options: argparse.Namespace, further: "Callable[[Sequence[SweepSummary]], Sequence[Table]] | None" = None
) -> int:
    """Write the page; return the exit code. further: an app's own tables for the end of the page."""
    with _nothing_collected():
        from strive.cli.summaries import named_contradictions, sweep_summaries, with_looks
        from strive.report.page import render_report
        from strive.trackers.upload_state import upload_url

        sweeps = with_looks(sweep_summaries(options, curves=True))
        tables = list(further(sweeps)) if further else []
        content = render_report(sweeps, tables, options.out.parent, upload_url).encode()
    make_folder(options.out.parent)
    write_whole(options.out, content, durable=False)
    count = counted(len(sweeps), "sweep")
    print(f"{options.out}: {count}, {len(content) / 1e6:.1f} MB")
    return 1 if named_contradictions(sweeps) or options.left_out else 0


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep Python from looking for garbage: almost all that a page makes lives until it is written."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
