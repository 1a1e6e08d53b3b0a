"""Interface of trackers: W&B, CSV and TensorBoard show what cells have on disk while they train. Imports no torch."""

from enum import StrEnum
from pathlib import Path

from strive.sweeps.plan import StoredPlan
from strive.trackers.cell_files import CellFiles


class Shown(StrEnum):
    """How far a tracker is with a cell."""

    whole = "uploaded"
    already = "there already"
    partly = "not ended, uploaded so far"
    nothing = "not begun"
    elsewhere = "shown by another process"
    waiting = "waiting"  # it is looked at again, even where its files stay as they are
    failed = "failed"


class CellTracker:
    """Gets each cell's history and record as they grow.

    Whatever it raises is said once. The cell is shown again half a minute later; after a ServerError or an OSError, and
    where the constructor raises, nothing is shown until then.
    """

    def show(self, files: CellFiles, *, last: bool) -> Shown:
        """Take in a cell's files, at first and whenever they have changed. last: nothing comes after it."""
        raise NotImplementedError

    def show_plan(self, folder: Path, *, last: bool) -> Shown:
        """Take in the folder of a plan, after its cells where it is the last time."""
        return Shown.whole

    def close(self) -> None:
        """Write what is left."""


def plan_in(folder: Path) -> StoredPlan | None:
    """Return the plan in a folder, None in that of a cell alone. Raises RecordError."""
    try:
        return StoredPlan.read(folder)
    except FileNotFoundError:
        return None
