"""The command that launches a sweep again. Imports no torch."""

import os
from pathlib import Path

from strive.cli.folders import RUNS
from strive.sweeps.plan import StoredPlan


def launch_command(plan: StoredPlan, runs: Path, *more: str, changes: bool = True) -> list[str]:
    """Return the words of the command that launches a plan's cells into a runs folder.

    more: further overrides, which come last. changes: with the overrides of the launch that change the cells.
    """
    if start := plan.start:
        program = ["-m", start["module"]] if start["module"] else [os.path.relpath(start["file"])]
        return ["python", *program, *start["argv"][1:], *more]
    return [
        *("python", *(plan.program or ["PROGRAM"]), "-m"),
        *([f"sweeps={plan.file}"] if plan.file else []),
        *(plan.changes if changes else []),
        *more,
        *([] if runs == RUNS or any(text.startswith("runs=") for text in more) else [f"runs={runs}"]),
    ]
