"""`strive workspace`: the dashboard on W&B, as code."""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from strive.cli.folders import RUNS, add_sweeps, use_app
from strive.errors import LoadError

if TYPE_CHECKING:  # imports pandas, which --help and completion do without
    from strive.trackers.outline import Found

HELP = """\
Write a view of each sweep into a W&B project: its answer, learning curves, what
moves it, failures, speed; and one of all cells that failed. What a view shows
follows from the sweep file: what varies, and its table. It can be made before
anything is trained. The same command again replaces what it made.

  %(prog)s --entity E --project P   every sweep launched into runs
  %(prog)s table3 --project P       one sweep, launched or not
  %(prog)s table3 --dry-run         print it as JSON: no network, no key"""
EXIT = """\
exit code: 0; 1 if a sweep with a damaged plan was left out; 2 for a mistake, or
if W&B takes nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweeps, from where, and where the views go."""
    add_sweeps(parser, default="every sweep launched into FOLDER")
    parser.add_argument("--entity", default="", help="W&B user or team (default: WANDB_ENTITY, or the key's own)")
    parser.add_argument("--project", default="", help="W&B project (default: WANDB_PROJECT, or strive)")
    parser.add_argument("--name", default="strive", help="what names of views begin with (default: strive)")
    parser.add_argument("--dry-run", action="store_true", help="print the views as JSON; no network, no key")


def run(options: argparse.Namespace) -> int:
    """Save or print the views; return the exit code."""
    from strive.trackers.outline import find_outlines

    folders = options.runs or ([RUNS] if RUNS.exists() else [])
    use_app(folders)
    found = find_outlines(options.sweeps, folders)
    for line in found.left_out:
        print(line, file=sys.stderr)
    return _make(found, options) or int(bool(found.left_out))


def _make(found: "Found", options: argparse.Namespace) -> int:
    try:
        from strive.trackers.wandb_save import save
        from strive.trackers.wandb_views import failures_view, spec, sweep_view
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("wandb", "wandb_workspaces"):
            raise
        raise LoadError("the views need W&B's packages: pip install wandb wandb-workspaces") from None
    # As tracker.entity and tracker.project have it.
    entity = options.entity or os.environ.get("WANDB_ENTITY", "")
    project = options.project or os.environ.get("WANDB_PROJECT", "") or "strive"
    views = [*(sweep_view(outline, options.name) for outline in found.outlines), failures_view(options.name)]
    if options.dry_run:
        print(json.dumps([spec(view, entity, project) for view in views], indent=2, ensure_ascii=False))
        return 0
    for saved in save(views, entity, project):
        print(f"{saved.sweep}: {saved.url} ({'replaced' if saved.replaced else 'new'})", flush=True)
    return 0
