"""Comparison of a plan with its sweep file: sweeps.audit, with the choices made again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from strive.results.load import Loaded
from strive.results.table_choice import parse, read_file
from strive.sweeps.audit import (
    audit_choices,
    audit_file,
    changed_file,
    exchanged_arms,
    file_text,
    is_of_this_app,
    sweep_file,
    sweep_files,
)
from strive.sweeps.choice import Choice


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCheck:
    """The result of the comparison."""

    contradictions: tuple[str, ...] = ()  # of the plan with its sweep file and with the records that chose its values
    whole: tuple[str, ...] = ()  # those of them that leave no cell of the plan to be believed
    not_compared: tuple[str, ...] = ()  # what could not be compared, and why
    choices: Mapping[tuple[str, str], Choice] = field(default_factory=dict)  # {(key, repr(per)): as chosen again}


def file_check(loaded: Loaded, sweeps: Path | None = None) -> FileCheck:
    """Compare a plan with its sweep file, and choose its values again. sweeps: as for declared_table.

    Raises ConfigError for a faulty sweep file.
    """
    sweeps = sweeps or sweep_files()
    if not is_of_this_app(loaded.plan):
        return FileCheck(contradictions=tuple(changed_file(loaded.plan, sweeps)))
    file = sweep_file(loaded.plan, sweeps)
    now = read_file(loaded.file, file) if loaded.file and file.exists() else None
    planned = parse(loaded.file, loaded.text, f"{loaded.file}.yaml, as the plan has it") if loaded.text else None
    sweep = planned or now
    if sweep is None:
        return FileCheck()
    problems = changed_file(loaded.plan, sweeps)
    place = "the sweep file in plan.json" if planned and (now is None or problems) else file_text(loaded.plan)
    differences = [*audit_file(loaded.plan, sweep, place)]
    exchanged = list[str]()
    if planned is not None and now is not None and not differences:
        exchanged += exchanged_arms(loaded.plan, now, file_text(loaded.plan))
    choices = audit_choices(loaded.plan, sweep, loaded.folders)
    return FileCheck(
        contradictions=(*problems, *differences, *exchanged, *choices.problems),
        # Without a copy in the plan nobody knows whether the plan or the file has changed.
        whole=(*(differences if planned else ()), *exchanged, *choices.whole),
        not_compared=choices.notes,
        choices=choices.choices,
    )
