"""`strive figures`: from records to figures for a paper."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from strive.cells.records import make_folder, write_whole
from strive.cli.folders import add_source

if TYPE_CHECKING:  # matplotlib takes a second to import, and --help and completion do without
    from matplotlib.figure import Figure

HELP = """\
Draw the figures of every sweep that has records, as .pdf, .svg and .png, each
7 inches wide for a page and as SWEEP-...-column 3.3 inches for one column.

  %(prog)s           every sweep launched into runs
  %(prog)s table3    one sweep
  %(prog)s table3 --runs runs old --out figures
  %(prog)s table3 --source wandb:ENTITY/PROJECT

SWEEP-matrix   the matrix of two keys: each mean with its interval and verdict
SWEEP-curves   training and validation by epoch: every seed thin, the mean thick
SWEEP-effects  the difference from the baseline, its simultaneous 95%%
               interval, the margin and the verdict; else the means
SWEEP-seeds    every seed's value, the mean, and the paper's value
SWEEP-figures.tex    the figures with their captions, for \\input

What does not fit on a page goes on in SWEEP-curves-2 and so on. The same
records give the same bytes."""
EXIT = """\
exit code: 0; 1 if a sweep with a damaged plan was left out or if files
contradict each other; 2 for a mistake in the command or in a sweep file.

A mean is drawn only where every cell of a place is done. Missing, failed and
diverged cells are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and where the figures go."""
    add_source(parser)
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="FOLDER", help="where (default: figures)")
    parser.add_argument(
        "--titles", action="store_true", help="title, question and caption inside, for figures that stand alone"
    )


def run(options: argparse.Namespace) -> int:
    """Draw and write the figures; return the exit code."""
    from strive.cli.summaries import named_contradictions, sweep_summaries, with_looks
    from strive.figures.effects import FIGURES
    from strive.figures.style import COLUMN, PAGE

    sweeps = with_looks(sweep_summaries(options, curves=True))
    for sweep in sweeps:
        floats = [f"% {sweep.title}: needs \\usepackage{{graphicx}}"]
        for kind, draw in FIGURES.items():
            for form, end in ((PAGE, ""), (COLUMN, "-column")):
                stem = f"{sweep.loaded.name}-{kind}{end}"
                figures = draw(sweep, replace(form, titles=options.titles))
                for number, figure in enumerate(figures, 1):
                    _write(options.out, name := _page_name(stem, number), figure, sweep.title)
                    if not options.titles and form is (COLUMN if kind == "matrix" else PAGE):
                        floats.append(_float(name, figure, wide=form is PAGE))
                _remove_pages(options.out, stem, len(figures) + 1)
            if not figures and kind == "curves":
                print(
                    f"{sweep.loaded.name}-{kind}: nothing to draw, no cell has a history in its folder", file=sys.stderr
                )
        _write_file(options.out / f"{sweep.loaded.name}-figures.tex", "\n".join(floats).encode("ascii", "replace"))
    return 1 if named_contradictions(sweeps) or options.left_out else 0


def _write(out: Path, name: str, figure: "Figure", title: str) -> None:
    from strive.figures.style import FORMATS, to_bytes

    for form in FORMATS:
        _write_file(out / f"{name}.{form}", to_bytes(figure, form, title))
    print(f"{out / name}" + "".join(f" .{form}" for form in FORMATS))


def _write_file(path: Path, content: bytes) -> None:
    try:
        make_folder(path.parent)
        write_whole(path, content, durable=False)
    except OSError as error:
        why = f"cannot be written, {error.strerror}; name another folder with --out"
        raise OSError(error.errno, why, str(path)) from None


def _float(name: str, figure: "Figure", *, wide: bool) -> str:
    """Return a figure with its caption as LaTeX."""
    from strive.tables.latex_text import running

    kind = f"figure{'*' * wide}"
    width = rf"\{'textwidth' if wide else 'columnwidth'}"
    lines = [
        rf"\begin{{{kind}}}[tbp]",
        rf"  \centering\includegraphics[width={width}]{{{name}}}",
        rf"  \caption{{{running(str(figure.get_label()))}}}",
        rf"  \label{{fig:{name}}}",
        rf"\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def _page_name(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


def _remove_pages(out: Path, stem: str, number: int) -> None:
    """Remove what an earlier call wrote from this page on: it is stale."""
    from strive.figures.style import FORMATS

    while found := [path for form in FORMATS if (path := out / f"{_page_name(stem, number)}.{form}").exists()]:
        for path in found:
            path.unlink()
            print(f"{path} removed, the sweep has no such page any more")
        number += 1
