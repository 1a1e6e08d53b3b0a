"""Sweeps with their statistics, as tables, figures and the report need them: from folders, or from W&B."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from strive.cells.ledger import add_to_ledger, read_ledger
from strive.cells.metrics import Better
from strive.cli.folders import asked_for, plan_names
from strive.errors import LoadError, UsageError
from strive.results.comparisons import LedgerCounts, scored
from strive.results.load import load_sweep
from strive.results.table_choice import UnclearValueError
from strive.sweeps.plan import plan_folders, runs_folder
from strive.sweeps.table_spec import Value, value_of
from strive.tables.summary import SweepSummary, compared, summarise_sweep
from strive.trackers.source import WandbSource, open_source


def sweep_summaries(options: argparse.Namespace, *, curves: bool = False) -> list[SweepSummary]:
    """Return the sweeps that are asked for; progress goes to stderr, options.left_out gets what cannot be read.

    curves: they are needed with learning curves, which take W&B longer.

    Raises UsageError and LoadError for a sweep or a folder that is not there, ConfigError for a faulty sweep file.
    """
    source, value = _source(options), _value(options)
    asked = asked_for(options, source.folder if source else None)
    by_name = bool(asked.sweeps or asked.overrides)
    names = plan_names(asked, plan_folders(asked.folders))
    sweeps = []
    for number, name in enumerate(names, 1):
        if sys.stderr.isatty():
            print(f"\r\033[K[{number}/{len(names)}] {name}", end="", file=sys.stderr, flush=True)
        try:
            loaded = load_sweep(name, asked.folders)
        except LoadError as error:
            # One damaged plan must not take the tables of all other sweeps.
            if by_name:
                raise
            print(f"left out: {error}", file=sys.stderr)
            options.left_out.append(name)
            continue
        # A plan of which nothing was ever trained answers nothing, unless it was asked for by name.
        if by_name or (loaded.cells["status"] != "missing").any():
            if source and curves:
                source.fetch_curves(loaded.cells["cell"])
                loaded = load_sweep(name, asked.folders)  # with what its records can be compared with now
            try:
                partial = getattr(options, "partial", False)
                sweeps.append(summarise_sweep(loaded, mix=options.mix, partial=partial, value=value))
            except UnclearValueError as error:
                if by_name:
                    raise
                print(f"left out: {name}: {error}", file=sys.stderr)
                options.left_out.append(name)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if not sweeps and options.left_out:
        raise LoadError("no sweep is left")
    if not sweeps:
        where = str(source or ", ".join(map(str, asked.folders)))
        raise LoadError(f"no sweep has a record in {where}; --runs FOLDER reads another folder")
    return sweeps


def with_looks(sweeps: Sequence[SweepSummary], *, write: bool = True) -> list[SweepSummary]:
    """Return the sweeps with the number of comparisons that were looked at in their folders, these among them.

    write: add these to the ledger; a ledger that cannot be written is one line on stderr.
    """
    folders = [runs_of(sweep) for sweep in sweeps]
    ledgers = {runs: read_ledger(runs) for runs in dict.fromkeys(folders)}
    own = [compared(sweep) for sweep in sweeps]
    for sweep, runs, entries in zip(sweeps, folders, own, strict=True):
        ledger = ledgers[runs]
        new = [*entries.values(), *scored(sweep.loaded, ledger)]
        if write and (why := add_to_ledger(runs, new)):
            print(f"note: {why}", file=sys.stderr)
        ledger |= {entry.id: entry for entry in new}
    looked = [LedgerCounts.of(ledgers[runs], entries) for runs, entries in zip(folders, own, strict=True)]
    return [
        replace(sweep, looked=each, notes=(*sweep.notes, each.text()))
        for sweep, each in zip(sweeps, looked, strict=True)
    ]


def runs_of(sweep: SweepSummary) -> Path:
    """Return the runs folder that a sweep's plan was read from."""
    return runs_folder(plan_folders(sweep.loaded.folders)[sweep.loaded.name])


def named_contradictions(sweeps: Sequence[SweepSummary]) -> bool:
    """Print the contradictions of the sweeps on stderr; return whether there are any."""
    texts = [f"{sweep.loaded.name}: {text}" for sweep in sweeps for text in sweep.contradictions]
    print("".join(f"contradicted: {text}\n" for text in texts), end="", file=sys.stderr)
    return bool(texts)


def _value(options: argparse.Namespace) -> Value | None:
    if options.value is None:
        if options.better:
            raise UsageError(f"--better {options.better}: of which metric? Add --value NAME")
        return None
    return value_of(options.value, Better(options.better) if options.better else None)


def _source(options: argparse.Namespace) -> WandbSource | None:
    if options.source is None:
        return None
    if options.runs:
        raise UsageError(
            f"--source {options.source} and --runs {' '.join(map(str, options.runs))}: give one of them;"
            " --source says where its copy lies, and --runs FOLDER FOLDER reads that beside other folders"
        )
    return open_source(options.source)
