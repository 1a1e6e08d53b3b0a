"""The command that launches a sweep again. Imports no torch."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from strive.cli.folders import RUNS
from strive.sweeps.audit import file_text
from strive.sweeps.override_syntax import override
from strive.sweeps.plan import StoredPlan

_SWEEP = "hydra.sweeper.sweep"
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)  # Hydra takes it without quotes
_RUNS = "hydra.sweeper.runs"


def launch_command(plan: StoredPlan, runs: Path, *more: str, changes: bool = True) -> list[str]:
    """Return the words of the command that launches a plan's cells into a runs folder.

    more: further overrides, which come last, in place of the launch's own for their keys. changes: with the overrides
    of the launch that change the cells.
    """
    if start := plan.start:
        program = ["-m", start["module"]] if start["module"] else [os.path.relpath(start["file"])]
        words = start["argv"][1:]
        typed = [text.partition("=")[2] for text in words if text.startswith(f"{_RUNS}=")]
        there = Path(typed[-1] if typed else RUNS).resolve() == runs.resolve()
        return ["python", *program, *_with(words, [*more, *([] if there else [_of_path(_RUNS, str(runs))])])]
    return [
        *("python", *(plan.program or ["PROGRAM"]), "-m"),
        *_file(plan),
        *_with(plan.changes if changes else [], more),
        *([] if runs == RUNS or any(text.startswith("runs=") for text in more) else [f"runs={runs}"]),
    ]


def _file(plan: StoredPlan) -> list[str]:
    """Return the override that names the sweep file; none for a plan without one."""
    if plan.path:
        return [_of_path(_SWEEP, file_text(plan))]
    return [f"sweeps={plan.file}"] if plan.file else []


def _of_path(key: str, path: str) -> str:
    return f"{key}={path}" if _PLAIN.fullmatch(path) else override(key, path)


def _with(words: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return words of a command line with further overrides; one of a key that `+` has brought in brings it in, too."""
    own = {_key(text) for text in more}
    added = {_key(word) for word in words if word.startswith("+")}
    kept = [word for word in words if "=" not in word or _key(word) not in own]
    return [*kept, *(f"+{text}" if _key(text) in added else text for text in more)]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
