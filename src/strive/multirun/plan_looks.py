"""The LookState of a plan, before it is written."""

from dataclasses import replace
from typing import TYPE_CHECKING

from strive.sweeps.plan import Action, Plan, stored_plan
from strive.sweeps.sweep_file import Sweep

if TYPE_CHECKING:  # imports pandas, which sweeps without looks are launched without
    from strive.results.look_state import LookState


def looks_of(plan: Plan, sweep: Sweep | None) -> "LookState | None":
    """Return where the lines of the sweep's table stand; None if its file has no looks.

    Raises ConfigError for cells that do not go with the looks, RecordError for a damaged looks.json.
    """
    if sweep is None or sweep.table is None or sweep.table.looks is None:
        return None
    from strive.results.fixed_looks import FixedLooks
    from strive.results.load import load_plan
    from strive.results.look_state import LookState

    loaded = load_plan(stored_plan(plan), plan.sweep, [plan.runs] if plan.runs.is_dir() else [])
    loaded = replace(loaded, fixed_looks=FixedLooks.read(plan.folder))
    return LookState.at_launch(loaded, without=[planned.cell for planned in plan.having(Action.retrain)])
