"""Sweeps as one HTML file that works offline: each question with its answer, tables, figures and cells."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from strive.report.curves import learning_curves
from strive.report.html_table import MOST_LINES, web_table
from strive.report.pictures import MOST_BYTES, Picture, pictures
from strive.report.plots import WebFigure, component_plot, effect_plot, mean_plot, paper_plot
from strive.report.provenance import NumberProvenance, number_provenance, refs
from strive.results.failures import FailureGroup, failure_groups
from strive.tables.costs import cost_table
from strive.tables.summary import SweepSummary
from strive.tables.table import Column, Table

_PAGE = Path(__file__).with_name("assets")
_FIRST = ("overview", "errors", "differences", "components")  # tables before the figures
_OWN_SECTION = ("holes",)  # tables with a section of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class _WebTable:
    """A table on the page."""

    name: str  # its id
    table: Table
    html: Markup
    left_out: int  # number of omitted lines

    @property
    def help(self) -> list[Column]:
        return [column for column in self.table.columns if column.help]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """One sweep on the page."""

    name: str  # its id
    sweep: SweepSummary
    count: str  # number of its cells, by status
    filters: dict[str, tuple[str, list[str]]]  # {knob: (title, values)}
    first: list[_WebTable]
    figures: list[tuple[str, WebFigure]]  # (id, figure)
    further: list[_WebTable]
    cost: _WebTable | None
    failures: list[FailureGroup]
    pictures: list[Picture]
    setup: list[tuple[str, str]]  # knobs that all cells share
    provenance: NumberProvenance


def render_report(
    sweeps: Sequence[SweepSummary], comparison: Sequence[Table], url_of: Callable[[Path], str] = lambda _: ""
) -> str:
    """Return the page. The same records give the same text.

    url_of: returns the tracker's address for a cell folder, "" if it has none.
    """
    sections = []
    room = MOST_BYTES
    for number, sweep in enumerate(sweeps, 1):
        sections.append(_section(f"s{number}", sweep, room, url_of))
        room -= sum(len(picture.uri) * 3 // 4 for picture in sections[-1].pictures)
    compared = [_web_table("paper", table) for table in comparison]
    figures = {name: figure for section in sections for name, figure in section.figures}
    tables = [table for section in sections for table in (*section.first, *section.further, section.cost) if table]
    scripts = [_script("report.js")]
    if figures:
        # Plotly is most of the page's size, so it is added only if there are figures.
        scripts.insert(0, Markup(get_plotlyjs()))  # from a pinned package, and without </script
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=_title(sweeps),
            count=_count_of([status for sweep in sweeps for status in sweep.loaded.cells["status"]]),
            sections=sections,
            comparison=compared,
            content={
                "figures": {name: _figure(figure) for name, figure in figures.items()},
                "tables": {table.name: _lines(table.table) for table in (*tables, *compared)},
            },
            scripts=scripts,
            policy=_policy(scripts),
            css=_script("report.css"),
            most_lines=MOST_LINES,
        )
    )


def _section(name: str, sweep: SweepSummary, room: int, url_of: Callable[[Path], str]) -> _Section:
    cells = sweep.loaded.cells
    found = number_provenance(sweep, url_of)
    links = refs(found.groups)
    tables = [_web_table(name, table, links) for table in sweep.tables if table.name not in _OWN_SECTION]
    split = max((number for number, each in enumerate(tables, 1) if each.table.name in _FIRST), default=1)
    figures = [
        component_plot(sweep) or effect_plot(sweep) or mean_plot(sweep),
        paper_plot(sweep),
        learning_curves(sweep),
    ]
    cost = cost_table(sweep)
    return _Section(
        name=name,
        sweep=sweep,
        count=_count_of(list(cells["status"])),
        filters=_filters(sweep),
        first=tables[:split],
        figures=[(f"{name}-{figure.name}", figure) for figure in figures if figure is not None],
        further=tables[split:],
        cost=None if cost is None else _web_table(name, cost),
        failures=failure_groups(cells),
        pictures=pictures(list(zip(cells["cell"], cells["folder"], strict=True)), max(0, room)),
        setup=[(key, sweep.loaded.labels.text(key, value)) for key, value in sweep.loaded.common.items()],
        provenance=found,
    )


def _web_table(section: str, table: Table, links: frozenset[str] = frozenset()) -> _WebTable:
    name = f"{section}-{table.name}"
    return _WebTable(
        name=name, table=table, html=web_table(table, name, links), left_out=max(0, len(table.rows) - MOST_LINES)
    )


def _filters(sweep: SweepSummary) -> dict[str, tuple[str, list[str]]]:
    """Return the filters for tables and figures: the knobs with two or more values."""
    values: dict[str, dict[str, None]] = {}
    rows = [row.factors for table in sweep.tables for row in table.rows]
    for factors in (*(condition.labels.texts(condition.key) for condition in sweep.conditions), *rows):
        for key, text in factors.items():
            values.setdefault(key, {}).setdefault(text)
    return {key: (sweep.loaded.labels.title(key), list(texts)) for key, texts in values.items() if len(texts) > 1}


def _figure(figure: WebFigure) -> dict[str, Any]:
    return {"panels": [panel.traces for panel in figure.panels], "layout": figure.layout, "most": figure.most}


def _lines(table: Table) -> dict[str, Any]:
    """Return the data that the page uses to filter and sort a table."""
    rows = table.rows[:MOST_LINES]
    return {
        "factors": [dict(row.factors) for row in rows],
        "values": [[entry.value for entry in row.entries] for row in rows],
    }


def _title(sweeps: Sequence[SweepSummary]) -> str:
    return sweeps[0].title if len(sweeps) == 1 else f"{len(sweeps)} sweeps"


def _count_of(statuses: Sequence[str]) -> str:
    """Return the counts as text, such as "57 of 60 cells done, 1 diverged, 2 missing"."""
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    done = counts.pop("done", 0)
    if not counts:
        return f"all {done} cells done" if done != 1 else "1 cell, done"
    rest = [f"{count} {status.replace('_', ' ')}" for status, count in counts.items()]
    return ", ".join([f"{done} of {len(statuses)} cells done", *rest])


def _environment() -> Environment:
    # All text from records is untrusted, so autoescaping is on.
    return Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _script(name: str) -> Markup:
    return Markup((_PAGE / name).read_text(encoding="utf-8"))


def _policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that allows only these scripts and no loading."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{each}'" for each in hashes),
            "style-src 'unsafe-inline'",  # plotly writes style attributes
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
