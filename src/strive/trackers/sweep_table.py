"""The table of a sweep, for trackers: a line for each condition, and the answer in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strive.cells.ledger import add_to_ledger
from strive.errors import StriveError
from strive.sweeps.plan import runs_folder

if TYPE_CHECKING:
    from strive.results.load import Loaded


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTable:
    """What NAME.csv of `strive tables` has, without its empty columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    answer: str


def table_of_plan(folder: Path) -> SweepTable | None:
    """Return the table of the sweep whose plan is in a folder; None where it has none, or nothing is done yet."""
    # pandas, which what shows cells does without while they train
    from strive.results.load import load_sweep

    runs = runs_folder(folder)
    try:
        return sweep_table(load_sweep(folder.name, [runs]), runs)
    except StriveError:
        return None


def sweep_table(loaded: "Loaded", runs: Path) -> SweepTable | None:
    """Return the table of a sweep, as `table_of_plan`. runs: the folder of its plan."""
    from strive.tables.summary import compared, summarise_sweep

    try:
        sweep = summarise_sweep(loaded)
    except StriveError:
        return None  # `strive tables` says why
    if not any(condition.values for condition in sweep.conditions):
        return None
    add_to_ledger(runs, compared(sweep).values())  # whoever opens W&B looks at these comparisons
    tidy = sweep.tidy.astype(object).replace("", None).dropna(axis="columns", how="all")
    rows = tidy.where(tidy.notna(), None).to_numpy().tolist()
    return SweepTable(columns=[str(name) for name in tidy.columns], rows=rows, answer=sweep.answer)
