"""Renders a sweep as Markdown, LaTeX and CSV. All content comes from records and is escaped."""

import os
from collections.abc import Sequence
from pathlib import Path

from strive.plain_text import one_line
from strive.tables.csv_text import csv_text
from strive.tables.latex_floats import floats, label
from strive.tables.latex_text import running
from strive.tables.markdown import bullets, heading, legend, paragraph, table_lines
from strive.tables.summary import SweepSummary
from strive.tables.table import Table

_COMPARISONS = "The paper's comparisons"


def markdown(sweep: SweepSummary) -> str:
    """Return the whole sweep as Markdown: question and answer, tables, notes, problems."""
    blocks = [heading(sweep.title, 1), paragraph(sweep.loaded.question), paragraph(sweep.answer, bold=True)]
    blocks += _markdown_blocks(sweep.tables)
    for title, texts in (("Notes", sweep.notes), ("Missing or mixed", sweep.problems)):
        blocks += [heading(title, 2), bullets(texts)] if texts else []
    if any(row.ref for table in sweep.tables for row in table.rows):
        blocks.append(
            paragraph(f"[1] leads to the cells behind a line: the rows of {sweep.loaded.name}.cells.csv with ref 1.")
        )
    return _joined(blocks)


def markdown_tables(tables: Sequence[Table], title: str = _COMPARISONS) -> str:
    """Return tables that belong to no single sweep as Markdown."""
    return _joined([heading(title, 1), *_markdown_blocks(tables)]) if tables else ""


def latex(sweep: SweepSummary) -> str:
    """Return the sweep's tables as LaTeX for a document with booktabs, followed by notes and problems."""
    name = sweep.loaded.name
    lines = [
        f"% {one_line(sweep.title)}: {one_line(sweep.loaded.question)}",
        f"% {one_line(sweep.answer)}",
        r"% Needs \usepackage{booktabs}. `cells [1]` behind a line leads to its cells: the rows of",
        f"% {one_line(name)}.cells.csv with ref 1.",
        *(block for table in sweep.tables for block in floats(table, name)),
    ]
    texts = (*sweep.notes, *(f"Missing or mixed: {problem}." for problem in sweep.problems))
    items = [rf"  \item[\textendash] {running(text)}" for text in texts]
    if items:
        # Refers to the table's number, because a float may be on another page than the list.
        of = rf"\noindent Notes to Table~\ref{{{label(sweep.tables[0], name)}}}, {running(sweep.title)}:"
        lines += ["", of, r"\begin{itemize}\sloppy", *items, r"\end{itemize}"]
    return "\n".join(lines) + "\n"


def latex_tables(tables: Sequence[Table], name: str = "paper") -> str:
    """Return tables that belong to no single sweep as LaTeX for a document with booktabs."""
    lines = [r"% Needs \usepackage{booktabs}. `cells [NAME 1]` behind a line: the rows of NAME.cells.csv with ref 1."]
    return "\n".join(lines + [block for table in tables for block in floats(table, name)]) + "\n" if tables else ""


def tidy_csv(sweep: SweepSummary) -> str:
    """Return one line for each condition of the table, in full precision (RFC 4180)."""
    return csv_text(sweep.tidy)


def footnotes_csv(sweep: SweepSummary, out: Path) -> str:
    """Return one line for each cell of each condition (RFC 4180).

    out: folder of the file. Records are named relative to it, so the current directory does not change the file.
    """
    there = out.resolve()
    records = [os.path.relpath(os.path.realpath(each), there) if each else "" for each in sweep.footnotes["record"]]
    return csv_text(sweep.footnotes.assign(record=records))


def _markdown_blocks(tables: Sequence[Table]) -> list[str]:
    blocks = []
    for table in tables:
        blocks += [heading(table.title, 2), paragraph(table.caption), table_lines(table), paragraph(legend(table))]
        blocks.append(bullets(table.notes))
    return blocks


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"
