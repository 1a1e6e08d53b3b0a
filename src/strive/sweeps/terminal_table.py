"""Table of a sweep's results for the terminal: one row for each cell."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.table import Table

from strive import app
from strive.cells.evidence import remark
from strive.cells.metrics import value_text
from strive.cells.records import Record, Status
from strive.config import identity
from strive.plain_text import printable
from strive.sweeps.factors import independent, names_option
from strive.sweeps.plan import Planned

_MOST_METRICS = 4  # columns


def terminal_table(cells: Sequence[Planned], finished: Mapping[str, Record], swept: Sequence[str] = ()) -> Table:
    """Return the table: a column for each key that varies, and for each metric. swept: keys to show in any case."""
    labels = app.in_use().labels()
    configs = [identity.with_argument_keys(identity.flat(planned.config)) for planned in cells]
    keys = dict.fromkeys(key for config in configs for key in config if key not in identity.BUILDERS)
    varying = [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]
    factors = [key for key in varying if key not in labels.in_first_word and identity.decides(key)]
    factors = independent(factors, configs, first=[key for key in factors if key in swept or labels.first_word])
    shown = [key for key in labels.titles if key in keys and key not in (*varying, *labels.in_first_word)]
    # A key that with this value is no part of a cell's id is one that the cells do without.
    usual = app.in_use().absent()
    common = [key for key in shown if key not in usual or configs[0][key] != usual[key]]
    metrics = labels.metrics or _metrics(finished.values())
    title = printable("  ".join(f"{labels.titles[key]} {configs[0][key]}" for key in common))
    table = Table(title=title, box=box.SIMPLE)
    texts = [*["arm"] * any(planned.arm for planned in cells), *filter(None, [labels.first_word])]
    for name in texts:
        table.add_column(name, no_wrap=True)
    rows = []
    for planned, config in zip(cells, configs, strict=True):
        names = {"arm": planned.arm, labels.first_word: planned.cell.partition("-")[0]}
        values = [_value_text(key, config) for key in factors]
        rows.append([*(names[name] for name in texts), *values, *_numbers(finished.get(planned.cell), metrics)])
    for number, key in enumerate(factors, len(texts)):
        left = any(isinstance(config.get(key), str) for config in configs)
        # Where the terminal is narrow, long texts are cut, never numbers.
        least = None if left else max(len(row[number]) for row in rows)
        table.add_column(_heading(key, factors), justify="left" if left else "right", no_wrap=True, min_width=least)
    for number, name in enumerate((*metrics, "seconds", "status"), len(texts) + len(factors)):
        side: Literal["left", "right"] = "left" if name == "status" else "right"
        least = max(len(row[number]) for row in rows)
        table.add_column(name.replace("_", " "), justify=side, no_wrap=True, min_width=least)
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def _value_text(key: str, config: Mapping[str, Any]) -> str:
    """Return a value as a column shows it: a class by its last name, for its module is long and says less."""
    text = str(config.get(key, "-"))
    return text.rpartition(".")[2] if key.endswith("_target_") else text


def _metrics(records: Iterable[Record]) -> list[str]:
    """Return the names of the metrics to show, in the order in which the app returned them."""
    found = dict.fromkeys(name for record in records for name in record.metrics)
    return list(found)[:_MOST_METRICS]


def _heading(key: str, keys: Sequence[str]) -> str:
    """Return the last word of a key; what its group says where that word does not, and the key where two are alike."""
    group, _, name = key.rpartition(".")
    if names_option(key):
        return group
    return key if [other.rpartition(".")[2] for other in keys].count(name) > 1 else name


def _numbers(record: Record | None, metrics: Sequence[str]) -> list[str]:
    if record is None or record.failure is not None:
        return ["-"] * (len(metrics) + 1) + [record.status.value if record else "no result"]
    dead = record.status is Status.done and remark(record)
    texts = [_text(name, record.metrics.get(name)) if name in record.metrics else "-" for name in metrics]
    return [*texts, f"{record.provenance.seconds:.0f}", f"{record.status.value}, dead" if dead else record.status.value]


def _text(name: str, value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else value_text(name, value)
