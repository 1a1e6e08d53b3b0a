"""Status of sweeps as text and tables for a terminal. Imports no torch."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from strive.cells.lease import Owner
from strive.cells.state import CellState
from strive.format import counted, duration, short_names, shortened
from strive.launch.launch_folder import Launch
from strive.launch.running_cells import RunningCell, RunningCells
from strive.plain_text import printable
from strive.status.cell_status import CellStatus
from strive.sweeps.plan import StoredPlan

_COLUMNS = ("cells", "done", "diverged", "dead", "running", "waiting", "failed", "open")
NOT_A_RESULT = (CellState.failed, CellState.unreadable, CellState.contradictory)
_SHOWN = 20  # names of missing cells that are listed
_REASON_COLUMNS = 45  # columns of a terminal that the reason of a stopped cell takes
Silent = Mapping[str, float]  # {cell: seconds since its owner last sent a heartbeat}


def sweep_report(
    plan: StoredPlan,
    statuses: Sequence[CellStatus],
    *,
    launch: Launch | None = None,
    queue_error: str = "",
    problems: Sequence[str] = (),
    looks: Sequence[str] = (),
    tracebacks: bool = False,
    running: RunningCells | None = None,
    silent: Silent | None = None,
    width: int | None = None,
) -> Iterator[RenderableType]:
    """Yield the report on one sweep.

    problems: what contradicts the plan. looks: where the lines of its table stand. tracebacks: show those of failed
    cells. running: what is known of cells in training. silent: the running cells without a heartbeat. width: columns of
    the terminal; None: the output is no terminal, and nothing is cut.
    """
    by_state = {state: [each for each in statuses if each.state is state] for state in CellState}
    yield _line(f"{plan.sweep}: {plan.question or _varied(plan)}", style="bold")
    yield _line(counts(statuses))
    yield from map(_line, looks)
    yield from _stale(statuses)
    if launch is not None:
        yield _line(f"last launch: {_launched(launch)}")
    if queue_error and any(not each.state.finished for each in statuses):
        yield _line(f"what SLURM has queued cannot be seen: {queue_error}")
    yield from _data_versions(plan, statuses)
    if problems:
        yield _title("the plan is contradicted")
        yield from (_line(problem, style="red") for problem in problems)
    yield from _running(by_state[CellState.running], running or RunningCells(), silent or {}, width)
    yield from _waiting(by_state[CellState.waiting])
    yield from _failed([each for each in statuses if each.state in NOT_A_RESULT], tracebacks)
    yield from _results_to_look_at("diverged", by_state[CellState.diverged])
    yield from _results_to_look_at("dead, although done", [each for each in statuses if each.dead])
    yield from _stopped(by_state[CellState.stopped], width)
    yield from _missing(by_state[CellState.missing])


def _stale(statuses: Sequence[CellStatus]) -> Iterator[RenderableType]:
    codes = Counter(each.stale for each in statuses if each.stale)
    if number := codes.total():
        come = "comes" if number == 1 else "come"
        yield _line(f"{number} of them {come} from other code than this ({', '.join(sorted(codes))})")


def overview(sweeps: Sequence[tuple[StoredPlan, Sequence[CellStatus]]], width: int | None = None) -> Table:
    """Return a table with one line for each sweep. width: as for sweep_report.

    Diverged and dead cells have a column where there is one: they are no news otherwise, and a terminal is narrow.
    """
    every = [each for _, statuses in sweeps for each in statuses]
    some = {
        "diverged": any(each.state is CellState.diverged for each in every),
        "dead": any(each.dead for each in every),
    }
    names = [name for name in _COLUMNS if some.get(name, True)]
    longest = max((len(plan.sweep) for plan, _ in sweeps), default=0)
    table = _table()
    table.add_column("sweep", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for plan, statuses in sweeps:
        count = Counter(each.state for each in statuses)
        varied = _cell(_varied(plan))
        if width is not None:
            # Numbers are of no use cut, names are.
            varied.truncate(max(0, width - longest - sum(len(name) + 2 for name in names) - 2), overflow="ellipsis")
        table.add_row(
            _cell(plan.sweep),
            str(len(statuses)),
            str(count[CellState.done]),
            *([str(count[CellState.diverged] or "")] if some["diverged"] else []),
            *([str(sum(each.dead for each in statuses) or "")] if some["dead"] else []),
            *(str(count[state] or "") for state in (CellState.running, CellState.waiting)),
            str(sum(count[state] for state in NOT_A_RESULT) or ""),
            str(count[CellState.stopped] + count[CellState.missing] or ""),
            varied,
        )
    return table


def counts(statuses: Sequence[CellStatus]) -> str:
    """Return how many cells are in which state, in one line."""
    count = Counter(each.state for each in statuses)
    failed = Counter(each.status.value for each in statuses if each.state is CellState.failed and each.status)
    kinds = {CellState.failed: f" ({', '.join(f'{number} {status}' for status, number in failed.most_common())})"}
    if dead := sum(each.dead for each in statuses):
        kinds[CellState.done] = f" ({dead} of them dead)"
    parts = [f"{count[state]} {state.value}{kinds.get(state, '')}" for state in CellState if count[state]]
    return f"{counted(len(statuses), 'cell')}: {', '.join(parts) or 'none'}"


def advice(statuses: Sequence[CellStatus], launch: Sequence[str]) -> str:
    """Return how to train the cells without a result, "" while any is trained. launch: the words of its command."""
    if all(each.state.finished for each in statuses):
        return ""
    if any(each.state in (CellState.running, CellState.waiting) for each in statuses):
        return ""
    return f"to train what has no result: {shlex.join(launch)}"


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, overflow="fold")


def _indented(text: str, columns: int = 2) -> Padding:
    return Padding(_line(text), (0, 0, 0, columns), expand=False)


def _cell(text: str) -> Text:
    return Text(printable(text))


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _varied(plan: StoredPlan) -> str:
    """Return what the cells differ in: all that tells one multirun's name from another's."""
    keys = plan.varying
    return f"varies {', '.join(key.rpartition('.')[2] for key in keys)}" if keys else "one cell"


def _data_versions(plan: StoredPlan, statuses: Sequence[CellStatus]) -> Iterator[RenderableType]:
    """Name a data set of which finished cells have seen several versions."""
    data = {cell.cell: str(plan.config(cell).get(plan.labels.data, "")) for cell in plan.cells}
    seen = Counter((data[each.cell], each.images) for each in statuses if each.images)
    for name in dict.fromkeys(name for name, _ in seen):
        versions = {images: number for (of, images), number in seen.items() if of == name}
        if len(versions) > 1:
            each = ", ".join(f"{number} of {images}" for images, number in versions.items())
            what = f"{plan.labels.examples} of {name}" if name else plan.labels.examples
            yield _line(f"finished cells have seen {len(versions)} versions of the {what}: {each}")


def _launched(launch: Launch) -> str:
    state = {True: "running", False: "ended", None: "on another machine, cannot be seen from here"}[launch.alive]
    return f"{launch.launcher}, {launch.time}, process {launch.pid} on {launch.host} ({state})"


def _running(
    statuses: Sequence[CellStatus], running: RunningCells, silent: Silent, width: int | None
) -> Iterator[RenderableType]:
    if not statuses:
        return
    yield _title("running")
    more, shown = {}, RunningCells()
    for each in statuses:
        shown[each.cell] = _progress(each, running.get(each.cell))
        more[each.cell] = _further_columns(each, shown[each.cell].columns, silent)
    yield from shown.table(_names(statuses, width), width=width, room=len(shown), more=more)


def _progress(status: CellStatus, seen: RunningCell | None) -> RunningCell:
    """Return how far a cell is as its files were seen, or else as its owner has noted."""
    assert status.owner is not None
    found = seen or RunningCell(since=0.0)  # its clock is not used here
    if status.owner.note and not found.noted:
        found.note(0.0, status.owner.note)
    return found


def _further_columns(status: CellStatus, known: Mapping[str, str], silent: Silent) -> dict[str, str]:
    """Return {column: text} of who trains a cell, and how far it is where the known columns do not say it."""
    assert status.owner is not None
    who = _whom(status.owner)
    who += ", suspended" if status.suspended else ""
    who += f", no heartbeat seen for {duration(silent[status.cell])}" if status.cell in silent else ""
    more = {"worker": who}
    if status.seconds_left is not None and not known.get("left"):
        more["left"] = duration(status.seconds_left)
    if status.epochs and not (known.get("epoch") or known.get("step")):
        more["epoch"] = f"{status.epochs_done}/{status.epochs}"
    return more


def _whom(owner: Owner) -> str:
    return f"{owner.host} {f'SLURM job {owner.job}' if owner.job else f'process {owner.pid}'}"


def _waiting(statuses: Sequence[CellStatus]) -> Iterator[RenderableType]:
    if not statuses:
        return
    yield _title("waiting")
    for why, number in Counter(each.why for each in statuses).most_common():
        yield _line(f"{number} for {why}")


def _failed(statuses: Sequence[CellStatus], tracebacks: bool) -> Iterator[RenderableType]:
    if not statuses:
        return
    yield _title("failed")
    for each in statuses:
        yield _line(f"{each.status.value if each.status else each.state.value}  {each.cell}", style="red")
        yield _indented(next(iter(each.why.strip().splitlines()), "no reason was recorded"))
        if each.log:
            yield _indented(each.log)
        if tracebacks:
            yield from (_indented(line.expandtabs(), 4) for line in each.traceback.splitlines())


def _results_to_look_at(title: str, statuses: Sequence[CellStatus]) -> Iterator[RenderableType]:
    """Yield the cells whose results need attention."""
    if not statuses:
        return
    yield _title(title)
    for each in statuses:
        yield _line(each.cell)
        yield _indented(each.why)


def _stopped(statuses: Sequence[CellStatus], width: int | None) -> Iterator[RenderableType]:
    if not statuses:
        return
    yield _title("stopped; the next launch goes on with them")
    names = _names(statuses, width)
    for each in statuses:
        where = f"after epoch {each.epochs_done} of {each.epochs}: " if each.epochs else ""
        name = names[each.cell] if width is None else shortened(names[each.cell], max(16, width - _REASON_COLUMNS))
        yield _line(f"{name}  {where}{each.why}")


def _missing(statuses: Sequence[CellStatus]) -> Iterator[RenderableType]:
    if not statuses:
        return
    yield _title("missing")
    for why, number in Counter(each.why for each in statuses if each.why).most_common():
        yield _line(f"{number} of them: {why}")
    yield from (_line(each.cell) for each in islice(statuses, _SHOWN))
    if len(statuses) > _SHOWN:
        yield _line(f"and {len(statuses) - _SHOWN} more")


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _names(statuses: Iterable[CellStatus], width: int | None) -> Mapping[str, str]:
    """Return {cell: what to call it}: on a terminal what distinguishes it from the others, in a file or pipe its id."""
    cells = [each.cell for each in statuses]
    if width is None:
        return {cell: cell for cell in cells}
    return short_names(cells)[0]
