"""A plan and a sweep's end, as a person reads them."""

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table

from strive.records import Record, Status
from strive.sweeping.hours import Estimate
from strive.sweeping.plan import Action, Plan, Planned
from strive.sweeping.task import Ended

_TITLES = {
    Action.train: "train",
    Action.resume: "resume",
    Action.retry: "retry",
    Action.retrain: "retrain, the old record is kept",
    Action.wait: "wait for, trained elsewhere",
    Action.leave: "leave, failed before",
    Action.done: "done",
}


def plan_lines(plan: Plan, estimates: Sequence[Estimate]) -> Iterator[str]:
    """Yield the lines that say what would be done, and why."""
    if plan.question:
        yield f"{plan.sweep}: {plan.question}"
    for action, title in _TITLES.items():
        yield from _action_lines(title, plan.having(action))
    for overrides, reason in plan.excluded:
        yield f"excluded: {overrides}: {reason}"
    for chosen in plan.choices:
        per = " ".join(f"{key}={value}" for key, value in chosen.per.items())
        yield f"chosen from {', '.join(chosen.sweeps)}: {chosen.key}={chosen.value} for {per}: {chosen.why}"
    yield from plan.notes
    yield counts_line(plan)
    yield from hours_lines(plan, estimates)


def _action_lines(title: str, cells: Sequence[Planned]) -> Iterator[str]:
    if not cells:
        return
    yield f"{title} ({len(cells)})"
    for planned in cells:
        arm = f"{planned.arm}: " if planned.arm else ""
        yield f"  {arm}{planned.cell}  {planned.reason}"


def counts_line(plan: Plan) -> str:
    """Return how many cells there are of each kind."""
    parts = [f"{len(found)} to {action.value}" for action in Action if action.trains and (found := plan.having(action))]
    parts += [f"{len(found)} elsewhere" for found in [plan.having(Action.wait)] if found]
    parts += [f"{len(found)} failed before and left" for found in [plan.having(Action.leave)] if found]
    done = len(plan.having(Action.done))
    return f"{len(plan.cells)} cells: {', '.join([f'{done} done already', *(parts or ['nothing to train'])])}"


def hours_lines(plan: Plan, estimates: Sequence[Estimate]) -> Iterator[str]:
    """Yield how long the plan takes on each device that such nets were measured on."""
    if not any(planned.action.trains for planned in plan.cells):
        return
    if not estimates:
        yield f"time: not known, no cell with these nets was trained into {plan.runs} yet"
    for estimate in estimates:
        guessed = f", {estimate.guessed} cells guessed from their multiply-adds" if estimate.guessed else ""
        yield f"time: {duration(3600 * estimate.hours)} of one {estimate.device} (measured{guessed})"


def duration(seconds: float) -> str:
    """Return a time span as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def result_table(cells: Sequence[Planned], finished: Mapping[str, Record]) -> Table:
    """Return the table of test errors: one row a cell."""
    rows = [_row(planned, finished.get(planned.cell)) for planned in cells]
    # What all cells share stands above the table: nine columns do not fit on every terminal.
    same = {name for name in _FACTORS if len({row[name] for row in rows}) == 1}
    title = "  ".join(f"{name} {rows[0][name]}" for name in _FACTORS if name in same and rows[0][name])
    table = Table(title=title, box=box.SIMPLE)
    shown = [name for name in rows[0] if name not in same]
    for name in shown:
        table.add_column(name, justify="right" if name in _NUMERIC else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    return table


_FACTORS = ("arm", "data", "augment", "lr", "seed")
_NUMERIC = ("lr", "seed", "parameters", "test error", "seconds")


def _row(planned: Planned, record: Record | None) -> dict[str, str]:
    config, result = planned.config, record.result if record else None
    return {
        "arm": planned.arm,
        "net": config.model.name,
        "data": config.data.name,
        "augment": config.augment.kind.value,
        "lr": f"{config.optimizer.lr:g}",
        "seed": str(config.seed),
        "parameters": f"{result.parameters:,}" if result else "-",
        "test error": f"{100 * result.test_error:.2f}%" if result else "-",
        "seconds": f"{record.provenance.train_seconds:.0f}" if record and result else "-",
        "status": record.status.value if record else "no result",
    }


def failure_lines(cells: Sequence[Planned], finished: Mapping[str, Record], ended: Mapping[str, Ended]) -> list[str]:
    """Return one line for every cell without a result: what, why, and where to read more."""
    lines = []
    for planned in cells:
        if planned.cell in finished:
            continue
        end = ended.get(planned.cell)
        status = end.status.value if end and end.status else planned.action.value
        cause = end.cause if end and end.cause else planned.reason
        log = f"\n    {end.log}" if end and end.log else ""
        lines.append(f"{planned.cell}: {'' if cause.startswith(status) else status + ': '}{cause}{log}")
    return lines


def has_failed(ended: Ended) -> bool:
    """Return whether a cell has ended without a result."""
    return ended.status is not None and ended.status not in (Status.done, Status.diverged)
