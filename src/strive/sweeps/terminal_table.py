"""Table of a sweep's results for the terminal: one row for each cell."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich import box
from rich.table import Table

from strive import app
from strive.cells.evidence import remark
from strive.cells.metrics import value_text
from strive.cells.records import Record, Status
from strive.format import without_common
from strive.plain_text import printable
from strive.sweeps.plan import Planned
from strive.sweeps.varied import Varied

_MOST_METRICS = 4  # columns
_MOST_TEXT = 16  # characters of a text that are not shortened


def terminal_table(cells: Sequence[Planned], finished: Mapping[str, Record], swept: Sequence[str] = ()) -> Table:
    """Return the table: a column for each key that varies, and for each metric. swept: keys to show in any case."""
    labels = app.in_use().labels()
    varied = Varied.of(cells, swept)
    first = varied.configs[0]
    shown = [key for key in labels.titles if key in first and key not in (*varied.keys, *labels.in_first_word)]
    # A key that with this value is no part of a cell's id is one that the cells do without.
    usual = app.in_use().absent()
    common = [key for key in shown if key not in usual or first[key] != usual[key]]
    metrics = labels.metrics or _metrics(finished.values())
    table = Table(title=printable("  ".join(f"{labels.titles[key]} {first[key]}" for key in common)), box=box.SIMPLE)
    settings = []
    for column in varied.columns:
        # Where the terminal is narrow, long texts go on in a second line: what differs may stand at their end.
        settings.append(without_common(column.texts, _MOST_TEXT) if column.is_text else column.texts)
        least = min(max(map(len, settings[-1])), _MOST_TEXT if column.is_text else 99)
        align: Literal["left", "right"] = "left" if column.is_text else "right"
        table.add_column(column.title, justify=align, no_wrap=not column.is_text, overflow="fold", min_width=least)
    results = [_numbers(finished.get(planned.cell), metrics) for planned in cells]
    for number, name in enumerate((*metrics, "seconds", "status")):
        side: Literal["left", "right"] = "left" if name == "status" else "right"
        least = max(len(row[number]) for row in results)
        table.add_column(name.replace("_", " "), justify=side, no_wrap=True, min_width=least)
    for number, row in enumerate(results):
        table.add_row(*map(printable, [*(texts[number] for texts in settings), *row]))
    return table


def _metrics(records: Iterable[Record]) -> list[str]:
    """Return the names of the metrics to show, in the order in which the app returned them."""
    found = dict.fromkeys(name for record in records for name in record.metrics)
    return list(found)[:_MOST_METRICS]


def _numbers(record: Record | None, metrics: Sequence[str]) -> list[str]:
    if record is None or record.failure is not None:
        return ["-"] * (len(metrics) + 1) + [record.status.value if record else "no result"]
    dead = record.status is Status.done and remark(record)
    texts = [_text(name, record.metrics.get(name)) if name in record.metrics else "-" for name in metrics]
    return [*texts, f"{record.provenance.seconds:.0f}", f"{record.status.value}, dead" if dead else record.status.value]


def _text(name: str, value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else value_text(name, value)
