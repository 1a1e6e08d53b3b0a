"""`strive answer`: the answer to one sweep's question, and what would decide what is undecided."""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strive.cli.folders import add_source
from strive.errors import RecordError, UsageError
from strive.format import counted

if TYPE_CHECKING:  # imports pandas, which --help and completion do without
    from strive.results.component_effects import ComponentEffect
    from strive.results.conditions import Condition
    from strive.tables.summary import SweepSummary

HELP = """\
Answer the question of a sweep in a sentence, with a line for each comparison:
the difference, its interval, p and the verdict; what is undecided, and the
command that would decide it.

  %(prog)s table3           one sweep
  %(prog)s table3 --json    for a program: docs/agents.md has the keys
  %(prog)s table3 --over-ledger
                         with verdicts that are corrected for every comparison
                         that was ever looked at in the folder"""
EXIT = """\
exit code: 0 decided; 3 undecided; 1 cells are missing, cannot be compared or
contradict each other; 2 for a mistake in the command or in a sweep file."""
_CODES = {"decided": 0, "undecided": 3, "incomplete": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which sweep, from where, and how the answer is printed."""
    add_source(parser)
    parser.usage = "%(prog)s SWEEP [KEY=VALUE ...] [OPTION ...]"
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--over-ledger",
        action="store_true",
        help="correct (Holm) for all comparisons in the folder's ledger, not for this table's alone",
    )


def run(options: argparse.Namespace) -> int:
    """Print the answer; return the exit code. Raises UsageError unless one sweep is meant."""
    from strive.cli.summaries import sweep_summaries, with_looks
    from strive.results.decision import decision_of
    from strive.tables.as_json import VERSION, answer_json, to_json

    try:
        sweeps = sweep_summaries(options)
    except RecordError as error:  # two folders have different results of one cell
        found = {"version": VERSION, "state": "incomplete", "contradictions": [str(error)]}
        print(to_json(found) if options.json else f"No answer.\ncontradicted: {error}")
        return 1
    if len(exact := [sweep for sweep in sweeps if sweep.loaded.name in options.sweeps]) == 1:
        sweeps = exact
    if len(sweeps) > 1:
        raise UsageError(f"which one? {', '.join(sweep.loaded.name for sweep in sweeps)}")
    (sweep,) = with_looks(sweeps)
    if options.over_ledger:
        sweep = _over_ledger(sweep)
    state = decision_of(sweep.conditions, sweep.contradictions, sweep.components).value
    step = next_step(sweep)
    if options.json:
        print(to_json(answer_json(sweep, "ledger" if options.over_ledger else "table", step)))
    else:
        print("\n".join(_lines(sweep, step, over_ledger=options.over_ledger)))
    return _CODES[state]


def _over_ledger(sweep: "SweepSummary") -> "SweepSummary":
    """Return the sweep with verdicts that are corrected for everything in its folder's ledger."""
    from strive.cells.ledger import read_ledger
    from strive.cli.summaries import runs_of
    from strive.results.answer import answer
    from strive.results.comparisons import corrected, corrected_effects
    from strive.tables.summary import compared

    own, ledger = compared(sweep), read_ledger(runs_of(sweep))
    conditions = corrected(sweep.conditions, sweep.layout, own, ledger)
    components = corrected_effects(sweep.components, own, ledger)
    return replace(
        sweep,
        conditions=tuple(conditions),
        components=tuple(components),
        answer=answer(conditions, sweep.layout, components),
        notes=() if sweep.looked is None else (*sweep.notes[:-1], sweep.looked.text(corrected_for_all=True)),
    )


def next_step(sweep: "SweepSummary") -> dict[str, Any] | None:
    """Return what would decide what is undecided: why, and the command as words, or None where none would."""
    from strive.cli.launch_command import launch_command
    from strive.cli.summaries import runs_of
    from strive.results.decision import Decision, decision_of, undecided

    plan, cells = sweep.loaded.plan, sweep.loaded.cells
    runs = _short(runs_of(sweep))
    state = decision_of(sweep.conditions, sweep.contradictions, sweep.components)
    if state is Decision.decided:
        return None
    if sweep.contradictions:
        return {"why": "files contradict each other; put back what was changed", "command": None}
    needed = ~cells["cell"].isin(list(sweep.not_needed))
    missing = int((needed & ~cells["status"].isin(["done", "diverged"])).sum())
    if missing:
        of = " that the looks need" if sweep.layout.looks is not None else ""
        what = f"{counted(missing, 'cell')}{of} {'has' if missing == 1 else 'have'} no result"
        return {"why": what, "command": launch_command(plan, runs, *(["hydra.sweeper.until=decided"] if of else []))}
    if state is Decision.incomplete:
        if (cells["status"][needed] == "diverged").any():
            return {"why": "diverged cells have no number, and the same launch gives none", "command": None}
        return {
            "why": "cells of other code or data are not compared; train the old ones again",
            "command": launch_command(plan, runs, "hydra.sweeper.retrain=stale"),
        }
    if plan.seed in sweep.layout.keys:
        return {"why": "these lines differ in their seed alone; one is no better choice than another", "command": None}
    seeds = [seed for seed in cells[plan.seed] if isinstance(seed, int)] if plan.seed in cells else []
    if not seeds or not undecided(sweep.conditions, sweep.components):
        return {"why": f"the cells have no whole number as {plan.seed}, so no further ones are known", "command": None}
    first, number = max(seeds) + 1, max(5, 2 * len(set(seeds)))
    return {
        "why": "seeds that are added to these and tested with them would spoil the test; a launch of its own, on seeds"
        " that nobody has looked at, may decide it",
        "command": launch_command(plan, runs, f"{plan.seed}=range({first},{first + number})"),
    }


def _short(folder: Path) -> Path:
    """Return a folder relative to the current one, where it lies in it."""
    try:
        return folder.resolve().relative_to(Path.cwd())
    except ValueError:
        return folder


def _lines(sweep: "SweepSummary", step: dict[str, Any] | None, *, over_ledger: bool) -> list[str]:
    from strive.plain_text import printable
    from strive.results.decision import Decision, decision_of, undecided

    compared = [condition for condition in sweep.conditions if condition.baseline]
    state = decision_of(sweep.conditions, sweep.contradictions, sweep.components)
    lines = [f"{sweep.title}: {sweep.loaded.question}" if sweep.loaded.question else sweep.title, sweep.answer, ""]
    effects = [effect for each in sweep.components for effect in each.effects]
    lines += [_legend(sweep, effects=bool(effects), compared=bool(compared), over_ledger=over_ledger)]
    lines += (
        [f"  {_effect(each, sweep)}" for each in effects]
        or [f"  {_compared(each, sweep)}" for each in compared]
        or [f"  {_mean(each, sweep)}" for each in sweep.conditions]
    )
    if state is Decision.undecided and (effects or compared):
        what = "undecided components" if effects else "undecided"
        lines += ["", f"{what}: {', '.join(each.label for each in undecided(sweep.conditions, sweep.components))}"]
    lines += [f"contradicted: {text}" for text in sweep.contradictions]
    if step:
        command = f"\n  {shlex.join(step['command'])}" if step["command"] else ""
        lines += ["", f"{'to decide it' if command else 'no launch decides it'}: {step['why']}{command}"]
    lines += ["", sweep.looked.text(corrected_for_all=over_ledger)] if sweep.looked else []
    return ["\n".join(map(printable, line.split("\n"))) for line in lines]


def _legend(sweep: "SweepSummary", *, effects: bool, compared: bool, over_ledger: bool) -> str:
    """Return what the numbers of the lines below are."""
    from strive.statistics.inference import LEVEL, SIDE

    layout = sweep.layout
    if not effects and not compared:
        cells = f"n cells that differ in {', '.join(layout.pair)}"
        return f"mean (its 95% interval, which says nothing of a difference), over {cells}:"
    worse = f", {layout.value.worse}" if layout.value.better is not None else ""
    over, level, least = "all effects" if effects else "all lines", "95%", 1 - LEVEL
    if over_ledger:
        over = "all comparisons in the ledger"
    if effects:
        what = f"({level} interval for {over} at once), p corrected for {over} (Holm), shown at {least:.3g} or less"
        return f"with minus without{worse} {what}:"
    if layout.margin:
        least = SIDE
    if layout.looks is not None and not over_ledger:
        over, level, least = "all lines and looks", f"{100 * (1 - layout.looks.alpha):g}%", layout.looks.alpha / 2
    # The interval of the looks holds for this table's lines.
    interval = "" if over_ledger and layout.looks is not None else f" ({level} interval for {over} at once)"
    what = "a verdict" if layout.margin else "shown"
    return f"own minus baseline{worse}{interval}, p corrected for {over} (Holm), {what} at {least:.3g} or less:"


def _effect(effect: "ComponentEffect", sweep: "SweepSummary") -> str:
    from strive.tables.entries import p_is

    value, (low, high) = sweep.layout.value, effect.found.simultaneous
    form = f"+.{value.digits}f"
    between = "" if low is None else f" ({low:{form}} to {high:{form}})"
    aliases = f", with its aliases {effect.aliases} added" if effect.aliases else ""
    tested = "no test" if effect.p is None else p_is(effect.p)
    shown = "shown to differ from 0" if effect.decided else "undecided"
    return f"{effect.label}: {effect.found.estimate:{form}}{between} {value.unit}".rstrip() + (
        f", {tested}, {shown}{aliases}"
    )


def _mean(condition: "Condition", sweep: "SweepSummary") -> str:
    value, own = sweep.layout.value, condition.summary
    if own is None:
        return f"{condition.label}: {condition.hole}"
    unit = f" {value.own_unit}".rstrip()
    between = "" if own.low is None else f" ({own.low:.{value.digits}f} to {own.high:.{value.digits}f})"
    best = ", shown to be better than every other" if condition.best else ""
    return f"{condition.label}: {own.mean:.{value.digits}f}{between}{unit}, n = {own.n}{best}"


def _compared(condition: "Condition", sweep: "SweepSummary") -> str:
    from strive.results.answer import shown_text
    from strive.sweeps.labels import in_sentence
    from strive.tables.condition_lines import decision_text
    from strive.tables.entries import p_is, p_text

    value, found, judged = sweep.layout.value, condition.difference, condition.judgement
    start = f"{condition.label} against {in_sentence(condition.baseline)}"
    if found is None:
        looked = f"; {condition.look.at}, {condition.look.verdict}" if condition.look is not None else ""
        return f"{start}: {condition.no_difference}{looked}"
    form = f"+.{value.digits}f"
    low, high = condition.simultaneous or (None, None)
    between = "" if low is None else f" ({low:{form}} to {high:{form}})"
    pairs = counted(found.n, "pair")
    text = f"{start}: {found.mean:{form}}{between} {value.unit}".rstrip()
    if judged is None:
        shown = shown_text(condition, sweep.layout)
        p = "no test" if condition.p_holm is None else p_is(condition.p_holm)
        return f"{text}, {p}, {shown}, {pairs}"
    tests = f"p, not worse {p_text(judged.p_no_loss)}; p, worse {p_text(judged.p_loss)}"
    return f"{text}: {decision_text(condition)} ({tests}; {pairs})"
