"""Means of a sweep's table while it trains, of the cells that are done; never a verdict."""

from strive.errors import StriveError
from strive.format import counted
from strive.results.load import Loaded
from strive.tables.summary import SweepSummary, summarise_sweep

_MOST_LINES = 12


def standing(loaded: Loaded) -> list[str]:
    """Return the lines; none where nothing is done, or where no table can be made yet."""
    try:
        sweep = summarise_sweep(loaded, partial=True)
    except StriveError:
        return []  # strive tables says why
    lines = _lines(sweep)
    if not lines:
        return []
    shown = lines[:_MOST_LINES]
    if len(lines) > len(shown):
        shown.append(f"  and {counted(len(lines) - len(shown), 'more line')}")
    return [f"{sweep.layout.value.title} so far, a mean of what is done and no answer:", *shown]


def _lines(sweep: SweepSummary) -> list[str]:
    """Return a line for each condition of which some cell is done, the best mean first where there is a direction."""
    value = sweep.layout.value
    found = [(some, each) for each in sweep.conditions if (some := each.summary or each.partial) is not None]
    if value.better is not None:
        found.sort(key=lambda pair: value.sign * pair[0].mean)
    width = max((len(each.label) for _, each in found), default=0)
    return [
        f"  {each.label:{width}}  {some.mean:.{value.digits}f}  {some.n} of {len(each.cells)}" for some, each in found
    ]
