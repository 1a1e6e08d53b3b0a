"""Sweeps and tables as JSON values for programs: numbers as numbers, null for none, no NaN.

docs/agents.md has the keys. A key keeps its meaning as long as `version` is the same; keys may be added.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from strive.results.component_effects import ComponentEffect, effect_text
from strive.results.conditions import Condition
from strive.results.decision import Decision, decision_of, undecided
from strive.results.line_look import LineLook
from strive.tables.summary import SweepSummary
from strive.tables.table import Entry, Table

VERSION = 1
Json = dict[str, Any]


def to_json(value: Mapping[str, Any]) -> str:
    """Return the text of a JSON object."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def answer_json(sweep: SweepSummary, correction: str, next_step: Json | None) -> Json:
    """Return the answer of a sweep.

    correction: for which comparisons the verdicts are corrected, table or ledger. next_step: what would decide it.
    """
    loaded, value = sweep.loaded, sweep.layout.value
    state = decision_of(sweep.conditions, sweep.contradictions, sweep.components)
    open_ = [each.label for each in undecided(sweep.conditions, sweep.components)]
    return {
        "version": VERSION,
        "sweep": loaded.name,
        "file": loaded.file or None,
        "changes": loaded.changes,
        "question": loaded.question or None,
        "design": design_of(sweep),
        "state": state.value,
        "answer": sweep.answer,
        "metric": {
            "name": value.name,
            "unit": "percent" if value.percent else value.own_unit or None,
            "better": None if value.better is None else value.better.value,
        },
        "margin": sweep.layout.margin or None,
        "corrected_for": correction,
        "lines": [line_json(each, sweep.conditions) for each in sweep.conditions if each.baseline],
        "conditions": [condition_json(each) for each in sweep.conditions],
        "effects": [effect_json(effect) for each in sweep.components for effect in each.effects],
        "undecided": open_ if state is Decision.undecided else [],
        "holes": [{"condition": each.label, "why": each.hole} for each in sweep.conditions if each.hole],
        "contradictions": list(sweep.contradictions),
        "notes": list(sweep.notes),
        "looked_at": None
        if sweep.looked is None
        else {"comparisons": sweep.looked.comparisons, "scorings": sweep.looked.scorings, "own": sweep.looked.own},
        "next": next_step,
    }


def design_of(sweep: SweepSummary) -> str | None:
    """Return the design that a sweep's file names; None if it names none."""
    design = sweep.layout.design
    return None if design is None else design.name.value


def effect_json(effect: ComponentEffect) -> Json:
    """Return an effect of a factorial design. The interval is simultaneous over all effects of the design."""
    return {
        "effect": effect.label,
        "aliases": [effect_text(word) for word in effect.words[1:]],
        "estimate": effect.found.estimate,
        "interval": list(effect.found.simultaneous),
        "p": effect.p,
        "decided": effect.decided,
    }


def line_json(condition: Condition, conditions: Sequence[Condition]) -> Json:
    """Return a comparison with a baseline. An interval is simultaneous over the lines of the table."""
    found, judged = condition.difference, condition.judgement
    base = next((each for each in conditions if each.label == condition.baseline), None)
    return {
        "condition": condition.label,
        "baseline": condition.baseline,
        "estimate": None if found is None else found.mean,
        "interval": None if condition.simultaneous is None else list(condition.simultaneous),
        "interval_alone": None if found is None or found.low is None else [found.low, found.high],
        "pairs": None if found is None else found.n,
        "dead_pairs": condition.dead_pairs,
        "p": condition.p_holm,
        "p_no_loss": None if judged is None else judged.p_no_loss,
        "p_loss": None if judged is None else judged.p_loss,
        "verdict": None if judged is None else judged.verdict.name,
        "decided": condition.decided,
        "look": None if condition.look is None else look_json(condition.look),
        "why_not": condition.no_difference or None,
        "cells": list(condition.cells["cell"]),
        "baseline_cells": [] if base is None else list(base.cells["cell"]),
    }


def look_json(look: LineLook) -> Json:
    """Return where a line that is looked at several times stands. Looks count from 1."""
    line = look.line
    return {
        "look": None if line.look is None else line.look + 1,
        "looks": list(look.looks),
        "n": look.n,
        "next_look": None if line.next_look is None else line.next_look + 1,
        "reason": line.reason or None,
    }


def condition_json(condition: Condition) -> Json:
    """Return a condition with its mean."""
    own = condition.summary
    return {
        "condition": condition.label,
        "key": dict(condition.key),
        "n": len(condition.values),
        "mean": None if own is None else own.mean,
        "sd": None if own is None else own.sd,
        "interval": None if own is None or own.low is None else [own.low, own.high],
        "best": condition.best,
        "dead": condition.dead,
        "hole": condition.hole or None,
        "parameters": condition.parameters,
        "cells": [
            {"cell": cell, "status": status, "cause": cause or None, "record": record or None}
            for cell, status, cause, record in zip(
                *(condition.cells[name] for name in ("cell", "status", "cause", "record")), strict=True
            )
        ],
    }


def tables_json(sweeps: Iterable[tuple[SweepSummary, Json]], further: Sequence[Table]) -> Json:
    """Return sweeps with their answers and tables. further: tables that belong to no single sweep."""
    return {
        "version": VERSION,
        "sweeps": [answer | {"tables": [table_json(table) for table in sweep.tables]} for sweep, answer in sweeps],
        "further": [table_json(table) for table in further],
    }


def table_json(table: Table) -> Json:
    """Return a table: each entry is its text and, where it is a number, its value."""
    return {
        "name": table.name,
        "title": table.title,
        "caption": " ".join(filter(None, (table.caption, table.aside))),
        "columns": [
            {"title": each.title, "numeric": each.numeric, "help": each.help or None} for each in table.columns
        ],
        "rows": [[_entry(entry) for entry in row.entries] for row in table.rows],
        "notes": list(table.notes),
        "numbers": {name: _entry(entry) for name, entry in table.in_caption.items()},
    }


def _entry(entry: Entry) -> Json:
    return {"text": entry.text, "value": entry.value}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: null for what is not finite, and Python's numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
