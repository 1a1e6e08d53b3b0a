"""Cells without a number, grouped by cause."""

from dataclasses import dataclass

import pandas as pd

_MOST_TEXT = 8000  # characters of a traceback; the cause is at its end
_MOST_TRACEBACKS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureGroup:
    """Cells that ended in the same way."""

    status: str  # for readers
    cause: str  # one line; "" if there is none
    traceback: str
    cells: tuple[str, ...]  # ids


def failure_groups(cells: pd.DataFrame) -> list[FailureGroup]:
    """Group the unfinished cells by status, cause and traceback, in the order of the plan.

    cells: as in Loaded. Long tracebacks are truncated in the middle; after 200 groups tracebacks are omitted.
    """
    rest = cells[cells["status"] != "done"]
    groups: list[FailureGroup] = []
    for (status, cause, traceback), group in rest.groupby(["status", "cause", "traceback"], sort=False, dropna=False):
        text = _shortened(str(traceback).strip()) if len(groups) < _MOST_TRACEBACKS else ""
        groups.append(
            FailureGroup(
                status=str(status).replace("_", " "), cause=str(cause), traceback=text, cells=tuple(group["cell"])
            )
        )
    return groups


def holes_note(*, looks: bool) -> str:
    """Return what a table does without where cells have no number. looks: whether the sweep is looked at."""
    return f"No {'look' if looks else 'mean'} is taken where one of its cells is among these."


def _shortened(text: str) -> str:
    if len(text) <= _MOST_TEXT:
        return text
    first, last = text[: _MOST_TEXT // 4], text[-3 * _MOST_TEXT // 4 :]
    return f"{first}\n... {len(text) - len(first) - len(last)} characters left out ...\n{last}"
