"""The study's page: that of `strive report`, with the paper's comparisons."""

import sys
from collections.abc import Sequence

from literature import comparison_tables

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cli import report
from strive.cli.main import guarded, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Write them; return the exit code."""
    return report.run(parse(report, "python analysis/make_report.py", argv), comparison_tables)


if __name__ == "__main__":
    sys.exit(guarded(main))
