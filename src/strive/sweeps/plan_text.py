"""Text of a plan and of a sweep's results, for the terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from strive.cells.evidence import remark
from strive.cells.records import Record, Status
from strive.cells.task import CellOutcome
from strive.config import identity
from strive.format import duration
from strive.plain_text import printable
from strive.sweeps.arm_differences import ArmDifference, KeyDifference
from strive.sweeps.estimate import Estimate
from strive.sweeps.plan import Action, Plan, Planned, common_and_own

_SHOWN = 20  # names listed before the rest is counted
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
    """Yield the lines that describe the planned actions and their reasons."""
    if plan.question:
        yield f"{plan.sweep}: {plan.question}"
    arguments = _varying_arguments(plan.cells)
    for action, title in _TITLES.items():
        yield from _action_lines(title, plan.having(action), arguments)
    yield from _design_lines(plan)
    for overrides, reason in plan.excluded:
        yield f"excluded: {overrides}: {reason}"
    for chosen in plan.choices:
        per = " ".join(f"{key}={value}" for key, value in chosen.per.items())
        yield f"chosen from {', '.join(chosen.sweeps)}: {chosen.key}={chosen.value} for {per}: {chosen.why}"
    yield from plan.images
    yield from plan.notes
    yield counts_line(plan)
    yield from hours_lines(plan, estimates)


def plan_json(plan: Plan, estimates: Sequence[Estimate]) -> str:
    """Return the plan as one line of JSON; docs/agents.md has its keys."""
    common, own = common_and_own([identity.flat(planned.config) for planned in plan.cells])
    content = {
        "version": 1,
        "sweep": plan.sweep,
        "file": plan.file or None,
        "changes": plan.changes,
        "question": plan.question or None,
        "runs": str(plan.runs),
        "counts": {action.value: len(found) for action in Action if (found := plan.having(action))},
        "common": common,
        "cells": [
            {
                "cell": planned.cell,
                "arm": planned.arm or None,
                "action": planned.action.value,
                "reason": planned.reason,
                "values": values,
            }
            for planned, values in zip(plan.cells, own, strict=True)
        ],
        "excluded": [{"overrides": overrides, "reason": reason} for overrides, reason in plan.excluded],
        "chosen": [msgspec.to_builtins(chosen) for chosen in plan.choices],
        "notes": [*plan.images, *plan.notes],
        "hours": [
            {"device": each.device, "hours": each.hours, "measured": each.measured, "guessed": each.guessed}
            for each in estimates
        ],
    }
    return json.dumps(content, allow_nan=False)


def _action_lines(title: str, cells: Sequence[Planned], arguments: Sequence[str]) -> Iterator[str]:
    if not cells:
        return
    yield f"{title} ({len(cells)})"
    for planned in cells:
        arm = f"{planned.arm}: " if planned.arm else ""
        own = identity.arguments_of(identity.flat(planned.config)) if arguments else {}
        # The ids of a user's nets differ only in their last digits.
        texts = [f"  {identity.argument_name(key)}={own[key]}" for key in arguments if key in own]
        yield f"  {arm}{planned.cell}{''.join(texts)}  {planned.reason}"


def _design_lines(plan: Plan) -> Iterator[str]:
    """Yield the keys in which each arm of a design differs from its reference."""
    if not plan.design:
        return
    yield f"{plan.design}; all that decides numbers and differs between an arm and its reference:"
    for each in plan.differences[:_SHOWN]:
        parts = [_keys_text(each.set), *(f"{word} {_keys_text(keys)}" for word, keys in _others(each) if keys)]
        yield f"  {each.arm}, from {each.reference}: {'; '.join(filter(None, parts))}"
    if len(plan.differences) > _SHOWN:
        yield f"  and {len(plan.differences) - _SHOWN} more arms"


def _others(each: ArmDifference) -> list[tuple[str, Sequence[KeyDifference]]]:
    return [("chosen from other sweeps,", each.chosen), ("what follows from these,", each.following)]


def _keys_text(keys: Sequence[KeyDifference]) -> str:
    texts = (
        f"{key.key} differs" if key.varies else f"{key.key} {_value(key.own)} instead of {_value(key.reference)}"
        for key in keys
    )
    return ", ".join(texts)


def _value(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def _varying_arguments(cells: Sequence[Planned]) -> list[str]:
    spread = [identity.arguments_of(identity.flat(planned.config)) for planned in cells]
    keys = dict.fromkeys(key for each in spread for key in each)
    return [key for key in keys if any(each.get(key) != spread[0].get(key) for each in spread)]


def counts_line(plan: Plan) -> str:
    """Return the number of cells for each action."""
    parts = [f"{len(found)} to {action.value}" for action in Action if action.trains and (found := plan.having(action))]
    parts += [f"{len(found)} elsewhere" for found in [plan.having(Action.wait)] if found]
    parts += [f"{len(found)} failed before and left" for found in [plan.having(Action.leave)] if found]
    done = plan.having(Action.done)
    diverged = sum(planned.reason.startswith(Status.diverged.value) for planned in done)
    before = [f"{len(done) - diverged} done already", *([f"{diverged} diverged already"] if diverged else [])]
    return f"{len(plan.cells)} cells: {', '.join([*before, *(parts or ['nothing to train'])])}"


def hours_lines(plan: Plan, estimates: Sequence[Estimate]) -> Iterator[str]:
    """Yield the duration of the plan on each device with measurements of such nets."""
    to_train = [planned for planned in plan.cells if planned.action.trains]
    if not any(planned.flops for planned in to_train):
        return  # nothing to train, or a foreign app, of which nothing is known before
    if not estimates:
        yield f"time: not known, no cell with these nets was trained into {plan.runs} yet"
    for estimate in estimates:
        guessed = f", {estimate.guessed} cells guessed from their multiply-adds" if estimate.guessed else ""
        yield f"time: {duration(3600 * estimate.hours)} of one {estimate.device} (measured{guessed})"


def remark_lines(finished: Mapping[str, Record]) -> list[str]:
    """Return one line for each cell that diverged or whose net never left chance, below a line with their number."""
    remarks = {cell: f"{record.status.value}: {why}" for cell, record in finished.items() if (why := remark(record))}
    if not remarks:
        return []
    diverged = sum(record.status is Status.diverged for record in finished.values())
    counts = [f"{diverged} diverged"] * bool(diverged) + [f"{len(remarks) - diverged} dead"] * (len(remarks) > diverged)
    lines = [f"  {cell}: {why}" for cell, why in remarks.items()]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"of {len(finished)} cells with a result {' and '.join(counts)}:", *lines[:_SHOWN], *more]


def failure_lines(
    cells: Sequence[Planned], finished: Mapping[str, Record], ended: Mapping[str, CellOutcome]
) -> list[str]:
    """Return one line for each cell without a result or with a failed retraining: the reason and where to read more."""
    lines = []
    for planned in cells:
        end = ended.get(planned.cell)
        if planned.cell in finished and not (end and _has_failed(end)):
            continue
        if end is None:
            why = f"{planned.action.value}: {planned.reason}"
        else:
            cause = printable(end.cause)
            why = f"{end.status.value}: {cause}" if end.status else cause
        kept = "; its earlier result is kept" if planned.cell in finished else ""
        lines.append(f"{planned.cell}: {why}{kept}" + (f"\n    {end.log}" if end and end.log else ""))
    return lines


def _has_failed(ended: CellOutcome) -> bool:
    return ended.status not in (Status.done, Status.diverged)
