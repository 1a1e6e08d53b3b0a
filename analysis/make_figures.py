"""The study's figures, as `strive figures` draws them."""

import sys
from collections.abc import Sequence

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cli import figures
from strive.cli.main import guarded, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Write them; return the exit code."""
    return figures.run(parse(figures, "python analysis/make_figures.py", argv))


if __name__ == "__main__":
    sys.exit(guarded(main))
