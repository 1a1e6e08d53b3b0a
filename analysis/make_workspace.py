"""The dashboard on W&B, as code: `python analysis/make_workspace.py --help`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.errors import LoadError
from strive.results_cli import guarded
from strive.trackers.outline import Found, find_outlines

_RUNS = Path("runs")
_HELP = """\
Write a view of each sweep into a W&B project: its answer, learning curves, what moves it, failures, speed; and one of
all cells that failed. What a view shows follows from the sweep file: what varies, and its table. It can be made before
anything is trained. The same command again replaces what it made.

  python analysis/make_workspace.py --entity E --project P            every sweep launched into runs/
  python analysis/make_workspace.py table3 --entity E --project P     one sweep, launched or not
  python analysis/make_workspace.py table3 --dry-run                  print it as JSON: no network, no key"""


def main(argv: Sequence[str] | None = None) -> int:
    """Save or print the views; return the exit code."""
    arguments = _parser().parse_args(argv)
    found = find_outlines(arguments.sweeps, arguments.runs or ([_RUNS] if _RUNS.exists() else []))
    for line in found.left_out:
        print(line, file=sys.stderr)
    return _make(found, arguments) or int(bool(found.left_out))


def _make(found: Found, arguments: argparse.Namespace) -> int:
    try:
        from strive.trackers.wandb_save import save
        from strive.trackers.wandb_views import failures_view, spec, sweep_view
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("wandb", "wandb_workspaces"):
            raise
        raise LoadError(f"{package} is not installed: pip install 'strive[wandb]'") from None
    # As tracker.entity and tracker.project have it.
    entity = arguments.entity or os.environ.get("WANDB_ENTITY", "")
    project = arguments.project or os.environ.get("WANDB_PROJECT", "") or "strive"
    views = [*(sweep_view(outline, arguments.name) for outline in found.outlines), failures_view(arguments.name)]
    if arguments.dry_run:
        print(json.dumps([spec(view, entity, project) for view in views], indent=2, ensure_ascii=False))
        return 0
    for saved in save(views, entity, project):
        print(f"{saved.sweep}: {saved.url} ({'replaced' if saved.replaced else 'new'})", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python analysis/make_workspace.py",
        description=_HELP,
        epilog="exit code: 0; 1 if a sweep with a damaged plan was left out; 2 for a mistake, or if W&B takes nothing.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sweeps",
        nargs="*",
        metavar="SWEEP",
        help="name of a sweep file, or of one plan below FOLDER/sweeps; default: every sweep launched into FOLDER",
    )
    parser.add_argument("--runs", nargs="+", type=Path, metavar="FOLDER", help="where sweeps went (default: runs)")
    parser.add_argument("--entity", default="", help="W&B user or team (default: WANDB_ENTITY, or the key's own)")
    parser.add_argument("--project", default="", help="W&B project (default: WANDB_PROJECT, or strive)")
    parser.add_argument("--name", default="strive", help="what names of views begin with (default: strive)")
    parser.add_argument("--dry-run", action="store_true", help="print the views as JSON; no network, no key")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(main))
