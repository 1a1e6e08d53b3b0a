"""Summary of one sweep: its answer, its tables, and the cells of each condition."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from strive.cells.evidence import chance_text
from strive.cells.history import HISTORY
from strive.cells.ledger import LedgerEntry
from strive.cells.metrics import better_of
from strive.cells.records import PREDICTIONS
from strive.errors import EffectsError
from strive.format import counted
from strive.results.answer import answer
from strive.results.code_versions import hashes_text, versions, versions_text
from strive.results.comparisons import LedgerCounts, comparisons
from strive.results.component_effects import ComponentEffect, ComponentEffects, component_columns, component_effects
from strive.results.conditions import Condition, with_partial
from strive.results.file_check import file_check
from strive.results.judged_lines import conditions_of, not_needed
from strive.results.load import Loaded, not_believed
from strive.results.published import off_paper
from strive.results.record_row import CHANCE, chance_column, metric_column
from strive.results.table_choice import declared_table
from strive.statistics.factorial import Effects, factorial_effects
from strive.sweeps.design import DesignName
from strive.sweeps.labels import ARM, in_sentence
from strive.sweeps.table_spec import TEST_ERROR, TableSpec, Value
from strive.tables.choice_table import choice_table, chosen_by_test
from strive.tables.component_table import component_table
from strive.tables.difference_table import difference_table
from strive.tables.effect_tables import effect_table, level_table
from strive.tables.error_table import compatible, error_table, gap
from strive.tables.hole_table import hole_table
from strive.tables.matrix import matrix, matrix_keys
from strive.tables.table import Entry, Table

_SEED, _VALUE = "the seed", "a value"  # columns beside those of knobs and components, as messages name them


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """One sweep, ready to be rendered."""

    loaded: Loaded
    layout: TableSpec
    title: str  # table3, or table3 with seed=0,1
    answer: str  # one sentence
    conditions: tuple[Condition, ...]  # row by row
    effects: Effects | None
    components: tuple[ComponentEffects, ...]  # of a factorial design of two levels, or of a fraction of it
    tables: tuple[Table, ...]
    notes: tuple[str, ...]  # for the reader, a sentence each
    problems: tuple[str, ...]  # holes and mixtures, a sentence each; --strict and --check fail if there are any
    tidy: pd.DataFrame  # one row for each condition
    footnotes: pd.DataFrame  # one row for each cell of each condition
    contradictions: tuple[str, ...] = ()  # those of the problems that are contradictions between files
    not_needed: frozenset[str] = frozenset()  # cells without which the looks do so far
    looked: LedgerCounts | None = None  # what was looked at in its folder so far; None if nobody has counted


def summarise_sweep(
    loaded: Loaded, *, mix: bool = False, partial: bool = False, value: Value | None = None
) -> SweepSummary:
    """Return the summary of a sweep. mix: also average and compare cells of different code or images. value: the metric
    to show where no sweep file names one.

    partial: tables also show what is done of conditions with a hole.

    Raises ConfigError for a faulty sweep file, PublishedError for a table that is not in paper.yaml.
    """
    table = declared_table(loaded, value=value)
    checked = file_check(loaded)
    if checked.whole:
        loaded = not_believed(loaded, checked.whole)
    conditions = conditions_of(loaded, table, mix=mix)
    beyond = not_needed(loaded, conditions)
    effects, no_effects = _effects(loaded, conditions, table)
    components, no_components = component_effects(conditions, table, mix=mix)
    setup, mixtures = _setup_notes(loaded, table), _mixtures(loaded)
    notes = [*setup, *_notes(loaded, conditions, table), *_look_notes(loaded, beyond)]
    conditions = with_partial(conditions, table, mix=mix) if partial else conditions
    where, aside = _where(loaded, table), _aside(loaded, len(beyond))
    keys = matrix_keys(conditions, table)
    tables = [matrix(conditions, table, keys, where)] if keys else []
    caption = f"{where}{_sampling(loaded, conditions, table)}".strip()
    tables.append(error_table(conditions, table, caption, _counted(loaded, conditions, table), aside))
    tables = [replace(each, latex_notes=(*each.latex_notes, *setup)) for each in tables]
    if any(condition.baseline for condition in conditions):
        tables.append(difference_table(conditions, table, sorted({each.key for each in loaded.choices})))
    if components:
        tables.append(component_table(components, table))
    if effects is not None:
        tables += [effect_table(effects, table), level_table(effects, table)]
    tables += [
        each
        for each in (choice_table(loaded, conditions, table, checked.choices), hole_table(loaded, beyond))
        if each is not None
    ]
    return SweepSummary(
        loaded=loaded,
        layout=table,
        title=_title(loaded),
        answer=answer(conditions, table, components),
        conditions=tuple(conditions),
        effects=effects,
        components=tuple(components),
        tables=tuple(tables),
        notes=tuple(
            filter(None, [*notes, *checked.not_compared, *(mixtures if mix else ()), no_components or no_effects])
        ),
        problems=(
            *(f"{condition.label}: {condition.hole}" for condition in conditions if condition.hole),
            *_open_looks(conditions),
            *mixtures,
            *dict.fromkeys((*loaded.warnings, *checked.contradictions, *_withheld(conditions))),
        ),
        contradictions=tuple(dict.fromkeys((*loaded.contradictions, *checked.contradictions, *_withheld(conditions)))),
        not_needed=beyond,
        tidy=_tidy(loaded, conditions, components, table),
        footnotes=_footnotes(conditions, table),
    )


def compared(sweep: SweepSummary) -> dict[str, LedgerEntry]:
    """Return the entries of the ledger for all that a sweep's tables compare."""
    return comparisons(sweep.loaded.name, sweep.conditions, sweep.layout, sweep.effects, sweep.components)


def _title(loaded: Loaded) -> str:
    name = loaded.file or "multirun"
    return f"{name} with {' '.join(loaded.changes)}" if loaded.changes else name


def _withheld(conditions: Sequence[Condition]) -> list[str]:
    """Return why the looks give no verdict."""
    return list(dict.fromkeys(condition.withheld for condition in conditions if condition.withheld))


def _open_looks(conditions: Sequence[Condition]) -> Iterator[str]:
    """Yield why the looks at some lines are not over, a sentence each."""
    for condition in conditions:
        if condition.look is not None and condition.look.waits and not condition.hole:
            yield f"{condition.label}: undecided, {condition.look.at}; {condition.look.line.reason}"


def _look_notes(loaded: Loaded, beyond: frozenset[str]) -> Iterator[str]:
    """Yield a note on cells that were trained before the looks were fixed, and on those that no look needs."""
    if loaded.fixed_looks is not None and (before := loaded.fixed_looks.done_before):
        were = "was" if before == 1 else "were"
        what = f"{counted(before, 'cell')} of the first look {were} done already"
        yield f"When the looks were fixed, {what}: who fixed them may have seen results."
    trained = loaded.cells["cell"].isin(list(beyond)) & (loaded.cells["status"] == "done")
    if number := int(trained.sum()):
        are, them, lines = ("is", "it", "its line was") if number == 1 else ("are", "them", "their lines were")
        done = counted(number, "done cell")
        yield f"{done} {are} in no number: {lines} decided or left alone without {them}, or may yet need {them}."


def _where(loaded: Loaded, table: TableSpec) -> str:
    """Return what the numbers are measured on, and whether test data chose a value, as sentences."""
    parts = [data_names(loaded), loaded.labels.measured.get(table.value.name, ""), steps_text(loaded, ", ")]
    where = ", ".join(filter(None, parts))
    by = {chosen.by for chosen in loaded.choices} | set(map(str, table.select.values()))
    return f"{where}{'.' if where else ''}{chosen_by_test(by)}".strip()


def _aside(loaded: Loaded, beyond: int) -> str:
    """Return number of cells, device and dates, as sentences. beyond: number of cells that no look needs."""
    cells = loaded.cells
    devices = ", ".join(sorted(filter(None, cells["device"].unique())))
    dates = sorted(filter(None, cells["finished"]))
    days = " to ".join(dict.fromkeys(text[:10] for text in (dates[:1] + dates[-1:])))
    trained = f" Trained on {devices}, {days}." if dates else ""
    done = int((cells["status"] == "done").sum())
    all_cells = f"{counted(len(cells), 'cell')} done" + (f", {beyond} not needed by the looks" if beyond else "")
    return f"{done} of {all_cells}.{trained}"


def _counted(loaded: Loaded, conditions: Sequence[Condition], table: TableSpec) -> dict[str, Entry]:
    """Return the numbers of the caption."""
    counts = {"cells": len(loaded.cells), "done": int((loaded.cells["status"] == "done").sum())}
    found = {name: Entry(text=f"{count:,}", value=count) for name, count in counts.items()}
    steps = {int(count) for count in loaded.cells["epochs_planned"].unique() if count > 0}
    if len(steps) == 1:
        found[f"{loaded.labels.step}s"] = Entry(text=f"{(count := steps.pop()):,}", value=count)
    sizes, largest = _sampling_error(conditions, table)
    if sizes:
        found["sampling_error"] = Entry(text=f"{largest:.{table.value.digits}f}", value=largest)
    return found


def _sampling(loaded: Loaded, conditions: Sequence[Condition], table: TableSpec) -> str:
    """Return the sampling error of a single test error, as a sentence; "" if the number of test examples is unknown."""
    sizes, largest = _sampling_error(conditions, table)
    if not sizes:
        return ""
    many = " or ".join(f"{size:,}" for size in sorted(sizes))
    what = loaded.labels.measured.get(table.value.name, "examples")
    return (
        f" Intervals, tests and verdicts are about further seeds on the same {many} {what}. What other {what} would"
        f" change is in none of them: its standard error is up to {largest:.{table.value.digits}f} {table.value.unit}"
        f" for a single value, √(e(1-e)/N) of an error e on N {what}."
    )


def _sampling_error(conditions: Sequence[Condition], table: TableSpec) -> tuple[set[int], float]:
    """Return how many test examples there are, {} if unknown, and the largest sampling error of a single test error."""
    sizes, errors = set[int](), [0.0]
    if table.value.name != TEST_ERROR.name:
        return sizes, 0.0
    for condition in conditions:
        numbers = condition.cells["num_tested"].dropna()
        if condition.summary is not None and len(numbers):
            number, share = int(numbers.min()), condition.summary.mean / table.value.factor
            sizes.add(number)
            errors.append(table.value.factor * math.sqrt(share * (1 - share) / number))
    return sizes, max(errors)


def data_names(loaded: Loaded) -> str:
    """Return the names of the data sets; "" if the app has no key for that."""
    names = loaded.cells[loaded.labels.data].unique() if loaded.labels.data in loaded.cells else ()
    return ", ".join(sorted(map(str, names)))


def steps_text(loaded: Loaded, between: str) -> str:
    """Return how long cells train, such as "350 epochs"; "" if the plan does not say. between: several numbers."""
    steps = [count for count in sorted(loaded.cells["epochs_planned"].unique()) if count > 0]
    return f"{between.join(map(str, steps))} {loaded.labels.step}s" if steps else ""


def _effects(loaded: Loaded, conditions: Sequence[Condition], table: TableSpec) -> tuple[Effects | None, str]:
    """Return the analysis of variance, or the reason why there is none; "" if the sweep is not factorial."""
    factors = [key for key in table.keys if key != ARM and loaded.cells[key].map(str).nunique() > 1]
    design = table.design if table.design is not None and table.design.name is DesignName.factorial else None
    count = len(factors) + (len(design.components) if design is not None else 0)
    if (ARM in table.keys and design is None) or count < 2 or table.pair != (loaded.plan.seed,):
        return None, ""
    if table.looks is not None:
        return None, "No analysis of variance: with looks, conditions have different numbers of seeds."
    if any(condition.hole for condition in conditions):
        return None, "No analysis of variance: it needs every cell of the sweep."
    cells = pd.concat([condition.cells for condition in conditions])
    columns = component_columns(cells, design) if design is not None else {}
    frame = cells[factors].assign(**columns)
    frame[_SEED] = cells[loaded.plan.seed]
    frame[_VALUE] = cells[metric_column(table.value.name)] * table.value.factor
    try:
        return factorial_effects(frame, _VALUE, [*columns, *factors], _SEED), ""
    except EffectsError as error:
        return None, f"No analysis of variance: {error}."


def _setup_notes(loaded: Loaded, table: TableSpec) -> list[str]:
    """Return what differs from the paper's set-up, a sentence; none where its numbers are not shown or nothing does."""
    if not table.paper:
        return []
    varied = {*table.keys, *table.pair, *table.select, *(chosen.key for chosen in loaded.choices)}
    other = off_paper(table.paper, loaded.cells.iloc[0].to_dict(), varied)
    return [f"Not the paper's set-up, so the gap is no failure to reproduce: {', '.join(other)}."] if other else []


def _notes(loaded: Loaded, conditions: Sequence[Condition], table: TableSpec) -> list[str]:
    notes = list[str]()
    if loaded.excluded:
        reasons = ", ".join(dict.fromkeys(reason for _, reason in loaded.excluded))
        notes.append(f"Left out by the sweep file: {counted(len(loaded.excluded), 'cell')} ({reasons}).")
    inexact = loaded.cells[loaded.cells["inexact"].fillna("") != ""]
    if len(inexact):
        they, their = ("it", "its record") if len(inexact) == 1 else ("they", "their records")
        notes.append(
            f"{counted(len(inexact), 'cell')} went on in other surroundings than {they} began in, so the numbers may"
            f" differ from those of a training without a break: see `inexact` in {their}."
        )
    return [*notes, *_same_code(loaded.cells), *_dead(conditions, table), *_not_checked(loaded.cells)]


def _same_code(cells: pd.DataFrame) -> Iterator[str]:
    """Yield a note if several versions of the code, which count as one, trained the cells."""
    done = cells[cells["status"] == "done"]
    if done["code_hash"].nunique() > 1 and versions(done) == 1:
        yield f"Trained by versions of the code that are known to give the same numbers: {hashes_text(done)}."


def _dead(conditions: Sequence[Condition], table: TableSpec) -> Iterator[str]:
    """Yield a note for each mean that contains replicates that never left chance."""
    for condition in conditions:
        if condition.dead:
            what = next((joint.title for joint in condition.labels.names), "cell")
            it, is_ = ("it", "It is") if condition.dead == 1 else ("them", "They are")
            yield (
                f"{in_sentence(condition.label)}: {condition.dead} of {counted(len(condition.cells), what)} ended no"
                f" better than chance, {_at_chance(condition.cells[condition.cells['dead'].map(bool)], table.value)}."
                f" {is_} called dead, and every number of this condition contains {it}."
            )


def _at_chance(dead: pd.DataFrame, value: Value) -> str:
    """Return what dead cells have in common; their first one says what chance gives."""
    names = [name.removeprefix(CHANCE) for name in map(str, dead) if name.startswith(CHANCE)]
    for name in sorted(names, key=lambda each: each != value.name):
        chance = float(dead[chance_column(name)].iloc[0])
        better = value.better if name == value.name else better_of(name)
        if better is not None and not math.isnan(chance):
            return f"with a {name.replace('_', ' ')} {chance_text(name, chance, better)}"
    return "by one of the metrics"


def _not_checked(cells: pd.DataFrame) -> Iterator[str]:
    """Yield notes on the numbers that could not be checked because a file was missing."""
    done = cells[cells["status"] == "done"]
    for name, numbers, file in (
        ("test_error", "test errors", PREDICTIONS),
        ("epochs", "epochs, training and held-out errors", HISTORY),
    ):
        count = sum(name in str(text).split(", ") for text in done["not_checked"])
        if count:
            where = f"{file} is not beside {'its record' if count == 1 else 'their records'}"
            yield f"Not checked: the {numbers} of {count} of {counted(len(done), 'cell')}, as {where}."


def _mixtures(loaded: Loaded) -> list[str]:
    """Return problems with cells that belong together but were trained by different code or on different images."""
    problems = []
    finished = loaded.cells[loaded.cells["status"] == "done"]
    for builders, group in _groups(finished, [key for key in loaded.labels.builders if key in finished]):
        if (count := versions(group)) > 1:
            net = f" of {builders}" if builders else ""
            problems.append(f"the cells{net} were trained by {count} versions of the code: {versions_text(group)}")
    for _, group in _groups(finished, sorted(loaded.data_keys)):
        if (count := group["data_fingerprint"].nunique()) > 1:
            what = loaded.labels.examples
            problems.append(f"{count} versions of the {what}: {_counts(group, 'data_fingerprint')}")
    return problems


def _groups(cells: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (the values as text, the cells) of the cells that agree in these keys; all of them if there are none."""
    if not keys or cells.empty:
        yield "", cells
        return
    for values, group in cells.groupby([cells[key].map(str) for key in keys]):
        yield ", ".join(filter(None, map(str, values))), group


def _counts(cells: pd.DataFrame, column: str) -> str:
    return ", ".join(
        f"{value} ({counted(count, 'cell')})" for value, count in Counter(map(str, cells[column])).most_common()
    )


def _tidy(
    loaded: Loaded, conditions: Sequence[Condition], components: Sequence[ComponentEffects], table: TableSpec
) -> pd.DataFrame:
    """Return one row for each condition, and then for each effect of a component; missing numbers are empty."""
    rows = []
    metric = {"value": table.value.name, "unit": "percent" if table.value.percent else table.value.own_unit}
    for condition in conditions:
        row: dict[str, object] = {"sweep": loaded.name, "ref": condition.ref, "label": condition.label}
        row |= {key: str(value) for key, value in condition.key.items()}
        row |= metric
        row |= {
            "cells": len(condition.cells),
            "n": len(condition.values),
            "hole": condition.hole,
            "parameters": condition.parameters,
        }
        row |= _parts("", condition.summary, ("mean", "sd", "low", "high", "next_low", "next_high"))
        row |= {"baseline": condition.baseline, "no_difference": condition.no_difference}
        row |= _parts("difference_", condition.difference, ("n", "mean", "sd", "low", "high"))
        low, high = condition.simultaneous or (None, None)
        row |= {"simultaneous_low": low, "simultaneous_high": high, "stepwise": condition.stepwise}
        row |= {"dead_pairs": condition.dead_pairs}
        if table.looks is not None:
            row |= _look_parts(condition)
        row |= {"difference_p_holm": condition.p_holm, "margin": table.margin if condition.judgement else None}
        row |= _parts("", condition.judgement, ("verdict", "p_no_loss", "p_loss"))
        row |= _parts("paper_", condition.paper, ("error", "parameters", "certain", "place"))
        row |= {"gap": gap(condition), "paper_compatible": compatible(condition)}
        row |= {"dead": condition.dead, "not_checked": int((condition.cells["not_checked"] != "").sum())}
        rows.append(row)
    effects = [{"sweep": loaded.name} | metric | _effect_parts(each) for place in components for each in place.effects]
    return pd.DataFrame([*rows, *effects], dtype=object if effects else None)


def _effect_parts(effect: ComponentEffect) -> dict[str, object]:
    """Return an effect as a difference: of the cells with its components from those without."""
    found = effect.found
    row = {"label": f"effect of {effect.label}", "aliases": effect.aliases, "difference_mean": found.estimate}
    row |= {key: str(value) for key, value in effect.place.items()}
    row |= dict(zip(("difference_low", "difference_high"), found.alone, strict=True))
    row |= dict(zip(("simultaneous_low", "simultaneous_high"), found.simultaneous, strict=True))
    return row | {"stepwise": effect.stepwise, "difference_p_holm": effect.p}


def _look_parts(condition: Condition) -> dict[str, object]:
    """Return where a line with looks stands. Looks count from 1."""
    if condition.look is None:
        return {"look": None, "look_n": None, "next_look": None, "reason": condition.withheld}
    line = condition.look.line
    look, following = (None if each is None else each + 1 for each in (line.look, line.next_look))
    return {"look": look, "look_n": line.n, "next_look": following, "reason": line.reason}


def _parts(prefix: str, source: object, names: Sequence[str]) -> dict[str, object]:
    """Return {prefix and name: its value}; all None if there is no source."""
    return {prefix + name: getattr(source, name, None) for name in names}


_CELL_COLUMNS = (
    "cell",
    "status",
    "cause",
    "record",
    "record_sha256",
    "code_hash",
    "data_fingerprint",
    "device",
    "host",
    "torch",
)
_WHEN = ("not_checked", "dead", "finished", "train_seconds", "inexact")


def _footnotes(conditions: Sequence[Condition], table: TableSpec) -> pd.DataFrame:
    """Return the cells of each condition, in the order of the conditions."""
    cells = pd.concat([condition.cells for condition in conditions], ignore_index=True)
    columns = dict.fromkeys((*table.pair, *_CELL_COLUMNS, metric_column(table.value.name), *_WHEN))
    frame = cells[[name for name in columns if name in cells]].copy()
    frame["dead"] = ["dead" if dead else "" for dead in frame["dead"]]
    frame.insert(0, "place", [condition.label for condition in conditions for _ in range(len(condition.cells))])
    frame.insert(0, "ref", [condition.ref for condition in conditions for _ in range(len(condition.cells))])
    return frame
