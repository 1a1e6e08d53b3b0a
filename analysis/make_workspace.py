"""The study's views on W&B, as `strive workspace` makes them."""

import sys
from collections.abc import Sequence

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.cli import workspace
from strive.cli.main import guarded, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Write them; return the exit code."""
    return workspace.run(parse(workspace, "python analysis/make_workspace.py", argv))


if __name__ == "__main__":
    sys.exit(guarded(main))
