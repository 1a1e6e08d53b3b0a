"""The study's tables: those of `strive tables`, and paper.md and paper.tex with the paper's comparisons."""

import sys
from collections.abc import Sequence

from literature import comparison_tables

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cli import tables
from strive.cli.main import guarded, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Write them; return the exit code."""
    return tables.run(parse(tables, "python analysis/make_tables.py", argv), comparison_tables)


if __name__ == "__main__":
    sys.exit(guarded(main))
