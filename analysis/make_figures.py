"""From records to figures for a paper: `python analysis/make_figures.py --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cells.records import write_whole
from strive.figures.effects import FIGURES
from strive.figures.style import FORMATS, to_bytes
from strive.results_cli import add_arguments, guarded, sweep_summaries

_HELP = """\
Draw the figures of every sweep that has records, as .pdf, .svg and .png.

  python analysis/make_figures.py                             every sweep below runs/
  python analysis/make_figures.py table3                      one sweep
  python analysis/make_figures.py table3 --runs runs results/table3 --out figures
  python analysis/make_figures.py table3 --source wandb:ENTITY/PROJECT

SWEEP-curves   training and validation by epoch: every seed thin, the mean thick
SWEEP-effects  the difference from the baseline, its 95% interval, the margin and the verdict; else the means
SWEEP-seeds    every seed's value, the mean, and the paper's value

What does not fit on a page goes on in SWEEP-curves-2 and so on. The same records give the same bytes."""
_EXIT = """\
exit code: 0; 2 for a mistake in the command or in a sweep file.

A mean is drawn only where every cell of a place is done. Missing, failed and diverged cells are said so."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and write the figures; return the exit code."""
    arguments = _parser().parse_args(argv)
    for sweep in sweep_summaries(arguments):
        for kind, draw in FIGURES.items():
            stem = f"{sweep.loaded.name}-{kind}"
            figures = draw(sweep)
            for number, figure in enumerate(figures, 1):
                _write(arguments.out, _page_name(stem, number), figure, sweep.title)
            if not figures:
                print(f"{stem}: nothing to draw, no cell has a history.jsonl beside its record", file=sys.stderr)
            _remove_pages(arguments.out, stem, len(figures) + 1)
    return 1 if arguments.left_out else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=_HELP, epilog=_EXIT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, curves=True)
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="FOLDER", help="where (default: figures)")
    return parser


def _write(out: Path, name: str, figure: Figure, title: str) -> None:
    for form in FORMATS:
        path = out / f"{name}.{form}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(path, to_bytes(figure, form, title), durable=False)
        except OSError as error:
            why = f"cannot be written, {error.strerror}; name another folder with --out"
            raise OSError(error.errno, why, str(path)) from None
    print(f"{out / name}" + "".join(f" .{form}" for form in FORMATS))


def _page_name(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


def _remove_pages(out: Path, stem: str, number: int) -> None:
    """Remove what an earlier call wrote from this page on: it is stale."""
    while found := [path for form in FORMATS if (path := out / f"{_page_name(stem, number)}.{form}").exists()]:
        for path in found:
            path.unlink()
            print(f"{path} removed, the sweep has no such page any more")
        number += 1


if __name__ == "__main__":
    sys.exit(guarded(main))
