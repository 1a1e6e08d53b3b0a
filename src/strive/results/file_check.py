"""Comparison of a plan with its sweep file."""

from pathlib import Path

from strive.results.load import Loaded
from strive.results.table_choice import SWEEPS, parse, read_file
from strive.sweeps.audit import audit_choices, audit_file, changed_file, is_of_this_app


def file_check(loaded: Loaded, sweeps: Path = SWEEPS) -> tuple[list[str], list[str]]:
    """Return a plan's contradictions with its sweep file and the records that chose its values, and unchecked parts.

    Raises ConfigError for a faulty sweep file.
    """
    if not is_of_this_app(loaded.plan):
        return [], []
    now = read_file(loaded.file, sweeps) if loaded.file and (sweeps / f"{loaded.file}.yaml").exists() else None
    planned = parse(loaded.file, loaded.text, f"{loaded.file}.yaml, as the plan has it") if loaded.text else None
    sweep = planned or now
    if sweep is None:
        return [], []
    problems = changed_file(loaded.plan, sweeps)
    here = f"sweeps/{loaded.file}.yaml"
    place = "the sweep file in plan.json" if planned and (now is None or problems) else here
    problems += audit_file(loaded.plan, sweep, place)
    choices = audit_choices(loaded.plan, sweep, loaded.folders)
    return [*problems, *choices.problems], list(choices.notes)
