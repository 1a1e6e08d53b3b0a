"""Sweeps as one HTML file that needs nothing else: each question with its answer, tables, figures and cells."""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from strive.report.figures import PageFigure, page_figures
from strive.report.html_table import MOST_LINES, Places, web_table
from strive.report.pictures import MOST_BYTES, Picture, pictures
from strive.report.provenance import NumberProvenance, number_provenance, record_links, refs
from strive.results.failures import FailureGroup, failure_groups, holes_note
from strive.results.record_row import MISSING
from strive.tables.costs import cost_table
from strive.tables.latex_floats import floats
from strive.tables.summary import SweepSummary
from strive.tables.table import Column, Table

_ASSETS = Path(__file__).with_name("assets")
_ANSWERS = ("overview", "components", "differences", "errors")  # tables that answer, the first there is comes first
_OWN_SECTION = ("holes",)  # tables with a section of their own
_NOT_NEEDED = "not needed by the looks so far"


@dataclass(frozen=True, kw_only=True, slots=True)
class _PageTable:
    """A table on the page."""

    name: str  # its id
    table: Table
    html: Markup
    latex: str
    left_out: int  # number of omitted lines

    @property
    def title(self) -> str:
        return self.table.title

    @property
    def help(self) -> list[Column]:
        return [column for column in self.table.columns if column.help]


@dataclass(frozen=True, kw_only=True, slots=True)
class _PagePictures:
    """The pictures in the folders of a sweep's cells."""

    name: str  # its id
    pictures: list[Picture]
    title: str = "Pictures"


_Block = _PageTable | PageFigure | _PagePictures


@dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """One sweep on the page."""

    name: str  # its id
    sweep: SweepSummary
    count: str  # number of its cells, by status
    without_number: str  # the number of those without one, as a sentence
    filters: dict[str, tuple[str, list[str]]]  # {knob: (title, values)}
    first: list[_Block]  # what answers the question
    further: list[_Block]  # what stands behind it
    failures: list[FailureGroup]
    holes_note: str
    problems: list[str]  # further ones: holes stand in the tables
    records: dict[str, str]  # {cell: address of its record}
    setup: list[tuple[str, str]]  # knobs that all cells share
    provenance: NumberProvenance
    places: Places


def render_report(
    sweeps: Sequence[SweepSummary],
    comparison: Sequence[Table],
    folder: Path,
    url_of: Callable[[Path], str] = lambda _: "",
) -> str:
    """Return the page. The same records give the same text.

    folder: the page's, from which links to records lead. url_of: returns the tracker's address for a cell folder, "" if
    it has none.
    """
    sections: list[_Section] = []
    room = MOST_BYTES
    for number, sweep in enumerate(sweeps, 1):
        sections.append(_section(f"s{number}", sweep, room, folder, url_of))
        room -= sum(
            len(picture.uri) * 3 // 4
            for block in sections[-1].first
            if isinstance(block, _PagePictures)
            for picture in block.pictures
        )
    script = _asset("report.js")
    page = _environment().get_template("report.html")
    return page.render(
        title=sweeps[0].title if len(sweeps) == 1 else f"{len(sweeps)} sweeps",
        count=_count_of([status for sweep in sweeps for status in _statuses(sweep)]),
        sections=sections,
        comparison=[_page_table("paper", table, Places()) for table in comparison],
        places={section.name: section.places.factors for section in sections},
        script=script,
        policy=_policy(script),
        css=_asset("report.css"),
        most_lines=MOST_LINES,
    )


def _section(name: str, sweep: SweepSummary, room: int, folder: Path, url_of: Callable[[Path], str]) -> _Section:
    cells, statuses = sweep.loaded.cells, _statuses(sweep)
    records = record_links(sweep, folder)
    found = number_provenance(sweep, records, url_of)
    places, links = Places(), refs(found.groups)
    shown = [table for table in sweep.tables if table.name not in _OWN_SECTION]
    tables = [_page_table(name, table, places, links, sweep.loaded.name) for table in shown]
    if (cost := cost_table(sweep)) is not None:
        tables.append(_page_table(name, cost, places))
    answer, *figures = page_figures(sweep, name, places)
    first = min(tables, key=lambda each: _ANSWERS.index(each.table.name) if each.table.name in _ANSWERS else 99)
    seen = pictures(list(zip(cells["cell"], cells["folder"], strict=True)), max(0, room))
    rest = [each for each in tables if each is not first]
    split = max((number for number, each in enumerate(rest, 1) if each.table.name in _ANSWERS), default=0)
    holes = {f"{condition.label}: {condition.hole}" for condition in sweep.conditions}
    return _Section(
        name=name,
        sweep=sweep,
        count=_count_of(statuses),
        without_number=_missing(statuses),
        filters=_filters(sweep),
        first=[first, answer, *([_PagePictures(name=f"{name}-pictures", pictures=seen)] if seen else [])],
        further=[*rest[:split], *figures, *rest[split:]],
        failures=failure_groups(cells[[status != _NOT_NEEDED for status in statuses]]),
        holes_note=holes_note(looks=bool(sweep.not_needed)),
        problems=[problem for problem in sweep.problems if problem not in holes],
        records=records,
        setup=[(key, sweep.loaded.labels.text(key, value)) for key, value in sweep.loaded.common.items()],
        provenance=found,
        places=places,
    )


def _page_table(
    section: str, table: Table, places: Places, links: frozenset[str] = frozenset(), label: str = ""
) -> _PageTable:
    """Return a table as the page shows it. label: the sweep's name, for its TeX; "" for a table without TeX."""
    name = f"{section}-{table.name}"
    return _PageTable(
        name=name,
        table=table,
        html=web_table(table, name, places, links),
        latex="\n".join(floats(table, label)).strip() if label else "",
        left_out=max(0, len(table.rows) - MOST_LINES),
    )


def _filters(sweep: SweepSummary) -> dict[str, tuple[str, list[str]]]:
    """Return the filters for tables and figures: the knobs with two or more values."""
    values: dict[str, dict[str, None]] = {}
    rows = [row.factors for table in sweep.tables for row in table.rows]
    for factors in (*(condition.labels.texts(condition.key) for condition in sweep.conditions), *rows):
        for key, text in factors.items():
            values.setdefault(key, {}).setdefault(text)
    return {key: (sweep.loaded.labels.title(key), list(texts)) for key, texts in values.items() if len(texts) > 1}


def _count_of(statuses: Sequence[str]) -> str:
    """Return the counts as text, such as "57 of 60 cells done, 1 diverged, 2 missing"."""
    done, rest = _counts(statuses)
    if not rest:
        return f"all {done} cells done" if done != 1 else "1 cell, done"
    return ", ".join([f"{done} of {len(statuses)} cells done", *rest])


def _missing(statuses: Sequence[str]) -> str:
    """Return how many of the cells that are needed have no number, as a sentence."""
    needed = [status for status in statuses if status != _NOT_NEEDED]
    done, rest = _counts(needed)
    return f"{len(needed) - done} of {len(needed)} cells without a number: {', '.join(rest)}."


def _statuses(sweep: SweepSummary) -> list[str]:
    """Return how each cell of a sweep stands; of one that was not trained, whether the looks do without it so far."""
    cells = sweep.loaded.cells
    return [
        _NOT_NEEDED if cell in sweep.not_needed and status == MISSING else status
        for cell, status in zip(cells["cell"], cells["status"], strict=True)
    ]


def _counts(statuses: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many cells are done, and the number of the others by status, as texts."""
    counts = Counter(statuses)
    done = counts.pop("done", 0)
    last = sorted(counts.items(), key=lambda each: each[0] == _NOT_NEEDED)
    return done, [f"{count} {status.replace('_', ' ')}" for status, count in last]


def _environment() -> Environment:
    # All text from records is untrusted, so autoescaping is on.
    return Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> Markup:
    return Markup((_ASSETS / name).read_text(encoding="utf-8"))


def _policy(script: str) -> str:
    """Return a content security policy that allows only this script and no loading."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{digest}'",
            "style-src 'unsafe-inline'",  # the figures have style attributes
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
