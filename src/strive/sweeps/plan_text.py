"""Text of a plan and of a sweep's results, for the terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from strive import app
from strive.cells.evidence import remark
from strive.cells.records import Record, Status
from strive.cells.task import CellOutcome
from strive.format import counted, duration, short_names, shortened, wrapped
from strive.plain_text import one_line, printable
from strive.sweeps.arm_differences import ArmDifference, KeyDifference
from strive.sweeps.estimate import Estimate
from strive.sweeps.labels import in_sentence
from strive.sweeps.plan import Action, Plan, Planned, common_and_own
from strive.sweeps.varied import Varied, VariedColumn

WIDTH = 80  # columns that a plan fits into, whatever shows it
_SHOWN = 20  # names listed before the rest is counted
_FEW = 30  # a plan with fewer cells lists each
_TITLES = {
    Action.train: "train",
    Action.resume: "resume",
    Action.retry: "retry",
    Action.retrain: "retrain, the old record is kept",
    Action.wait: "wait for, trained elsewhere",
    Action.leave: "leave, failed before",
    Action.done: "done",
}


def plan_lines(plan: Plan, estimates: Sequence[Estimate], *, at_once: int = 0, verbose: bool = False) -> Iterator[str]:
    """Yield the lines of a dry run: counts, the reasons for them, and the cells where these are few.

    at_once: as for hours_lines. verbose: whether each cell is listed, and nothing is shortened.
    """
    if plan.question:
        yield f"{plan.sweep}: {plan.question}"
    varied = Varied.of(plan.cells, plan.swept)
    yield from counts_lines(plan, varied)
    yield from hours_lines(plan, estimates, at_once)
    yield from _reason_lines(plan, _CellLines(plan.cells, varied, verbose) if _lists(plan, verbose) else None, verbose)
    yield from _design_lines(plan)
    shown = plan.excluded if verbose else plan.excluded[:_SHOWN]
    for overrides, reason in shown:
        yield f"excluded: {overrides}: {reason}"
    if len(shown) < len(plan.excluded):
        yield f"and {len(plan.excluded) - len(shown)} more are excluded"
    for chosen in plan.choices:
        per = " ".join(f"{key}={value}" for key, value in chosen.per.items())
        yield f"chosen from {', '.join(chosen.sweeps)}: {chosen.key}={chosen.value} for {per}: {chosen.why}"
    yield from plan.images
    yield from plan.notes


def _lists(plan: Plan, verbose: bool) -> bool:
    return verbose or len(plan.cells) < _FEW


def plan_json(plan: Plan, estimates: Sequence[Estimate]) -> str:
    """Return the plan as one line of JSON; docs/agents.md has its keys."""
    common, own = common_and_own([_known(planned) for planned in plan.cells])
    content = {
        "version": 1,
        "sweep": plan.sweep,
        "file": plan.file or None,
        "changes": plan.changes,
        "question": plan.question or None,
        "runs": str(plan.runs),
        "after": list(plan.after),
        "counts": {action.value: len(found) for action in Action if (found := plan.having(action))},
        "common": common,
        "cells": [
            {
                "cell": planned.cell or None,
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


def _known(planned: Planned) -> dict[str, Any]:
    """Return the values of a cell, without one that is still to be chosen."""
    return {key: value for key, value in app.in_use().flat(planned.config).items() if key != planned.open_key}


def _reason_lines(plan: Plan, lines: "_CellLines | None", verbose: bool) -> Iterator[str]:
    """Yield for each action and reason how many cells have it, and the cells. lines: None leaves the cells out."""
    numbers: dict[tuple[Action, str], list[int]] = {}
    for number, planned in enumerate(plan.cells):
        numbers.setdefault((planned.action, planned.reason), []).append(number)
    groups = [(key, numbers[key]) for action in _TITLES for key in numbers if key[0] is action]
    shown = groups if verbose or lines is not None else groups[:_SHOWN]
    for (action, reason), cells in shown:
        # The causes of failures are anybody's words, and `strive status` has them in full.
        why = "" if reason == action.value else f": {reason if verbose else one_line(reason)}"
        text = f"{_TITLES[action]} ({len(cells)}){why}"
        yield text if verbose else shortened(text, WIDTH)
        if lines is not None:
            for number in cells:
                yield from lines.of(number)
    if len(shown) < len(groups):
        rest = sum(len(cells) for _, cells in groups[len(shown) :])
        yield f"and {counted(rest, 'cell')} for {len(groups) - len(shown)} further reasons"
    if lines is None:
        yield f"{_EACH}=true lists each cell"


_EACH = "hydra.sweeper.verbose"


class _CellLines:
    """The lines of a plan's cells, with what varies in columns."""

    def __init__(self, cells: Sequence[Planned], varied: Varied, verbose: bool) -> None:
        self._cells, self._verbose = cells, verbose
        self._columns = [column for column in varied.columns if column.number > 1]
        whole = [[column.labelled(number) for column in self._columns] for number in range(len(cells))]
        self._texts = whole if verbose else [[shortened(text, _LONGEST) for text in texts] for texts in whole]
        self._widths = [max(map(len, column)) for column in zip(*self._texts, strict=True)]
        self._short, _ = short_names([planned.cell for planned in cells])

    def of(self, number: int) -> Iterator[str]:
        """Yield one line for a cell, or several where its values are too long for one."""
        cell, texts = self._cells[number].cell, self._texts[number]
        padded = "  ".join(text.ljust(width) for text, width in zip(texts, self._widths, strict=True))
        for values in (padded, "  ".join(texts)):
            for name in dict.fromkeys((cell, self._short[cell])):
                line = "  ".join(filter(str.strip, ["", values, name]))
                if self._verbose or len(line) + 2 <= WIDTH:
                    yield f"  {line}".rstrip()
                    return
        yield f"  {cell}"
        yield from wrapped("      " + "  ".join(texts))


_LONGEST = 40  # characters of one value


def _design_lines(plan: Plan) -> Iterator[str]:
    """Yield the keys in which each arm of a design differs from its reference."""
    if not plan.design:
        return
    yield f"{plan.design}; all that decides numbers and differs between an arm and its reference:"
    for each in plan.differences[:_SHOWN]:
        parts = [_keys_text(each.set), *(f"{word} {_keys_text(keys)}" for word, keys in _others(each) if keys)]
        yield f"  {in_sentence(each.arm)}, from {in_sentence(each.reference)}: {'; '.join(filter(None, parts))}"
    if len(plan.differences) > _SHOWN:
        yield f"  and {counted(len(plan.differences) - _SHOWN, 'more arm')}"


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


def counts_lines(plan: Plan, varied: Varied | None = None) -> Iterator[str]:
    """Yield what the cells are the product of, and how many there are for each action, on one line where that fits.

    varied: of the plan's cells, if it is known.
    """
    varied = varied or Varied.of(plan.cells, plan.swept)
    factors = " x ".join(_factor_texts(varied.factors(len(plan.excluded))))
    left_out = f", {len(plan.excluded)} excluded" if factors and plan.excluded else ""
    counts = _counts(plan)
    if not factors:
        yield counts
    elif len(line := f"{factors}{left_out} = {counts}") <= WIDTH:
        yield line
    else:
        yield from wrapped(f"{factors}{left_out} =")
        yield counts


def _factor_texts(columns: Sequence[VariedColumn]) -> Iterator[str]:
    """Yield how many values each column has, with words for what a key's name, of any number, leaves open."""
    values = " values"
    for column in columns:
        if column.key == app.in_use().seed:
            yield counted(column.number, "seed")
        elif column.key:
            yield f"{column.number}{values} of {column.title}"
            values = ""
        else:
            yield counted(column.number, column.title)


def _counts(plan: Plan) -> str:
    parts = [f"{len(found)} to {action.value}" for action in Action if action.trains and (found := plan.having(action))]
    parts += [f"{len(found)} elsewhere" for found in [plan.having(Action.wait)] if found]
    parts += [f"{len(found)} failed before and left" for found in [plan.having(Action.leave)] if found]
    done = plan.having(Action.done)
    diverged = sum(planned.reason.startswith(Status.diverged.value) for planned in done)
    before = [f"{len(done) - diverged} done already", *([f"{diverged} diverged already"] if diverged else [])]
    return f"{counted(len(plan.cells), 'cell')}: {', '.join([*before, *(parts or ['nothing to train'])])}"


def hours_lines(plan: Plan, estimates: Sequence[Estimate], at_once: int = 0) -> Iterator[str]:
    """Yield how long the plan takes: on this machine if that is where it trains, and on each device that was measured.

    at_once: threads that its cells use together here, or GPUs that they have; 0: they do not train here.
    """
    to_train = [planned for planned in plan.cells if planned.action.trains]
    if not to_train:
        return
    if not estimates and any(planned.flops for planned in to_train):
        yield f"time: not known, no cell with these nets was trained into {plan.runs} yet"
    here = next((each for each in estimates if each.here and at_once), None)
    for estimate in estimates:
        if estimate is here:
            hours = estimate.hours * max(estimate.threads, 1) / at_once
            yield f"time: about {duration(3600 * hours)} on this machine ({estimate.basis})"
        elif here is None or not estimate.here:  # its cells of other numbers of threads take about as long
            yield f"time: {duration(3600 * estimate.hours)} of one {estimate.device} ({estimate.basis})"


def remark_lines(finished: Mapping[str, Record]) -> list[str]:
    """Return one line for each cell that diverged or whose net never left chance, below a line with their number."""
    remarks = {cell: f"{record.status.value}: {why}" for cell, record in finished.items() if (why := remark(record))}
    if not remarks:
        return []
    diverged = sum(record.status is Status.diverged for record in finished.values())
    counts = [f"{diverged} diverged"] * bool(diverged) + [f"{len(remarks) - diverged} dead"] * (len(remarks) > diverged)
    lines = [f"  {cell}: {why}" for cell, why in remarks.items()]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"of {counted(len(finished), 'cell')} with a result {' and '.join(counts)}:", *lines[:_SHOWN], *more]


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
