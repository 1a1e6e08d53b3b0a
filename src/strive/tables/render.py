"""Renders a sweep as Markdown, LaTeX and CSV. All content comes from records and is escaped."""

import os
from collections.abc import Sequence
from pathlib import Path

from strive.plain_text import one_line
from strive.tables.csv_text import csv_text
from strive.tables.latex_floats import PACKAGES, floats
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
        compared = any(row.baseline_ref for table in sweep.tables for row in table.rows)
        pair = " A difference names its own cells, and then its baseline's." if compared else ""
        blocks.append(
            paragraph(
                f"[1] leads to the cells behind a line: the rows of {sweep.loaded.name}.cells.csv with ref 1.{pair}"
            )
        )
    return _joined(blocks)


def markdown_tables(tables: Sequence[Table], title: str = _COMPARISONS) -> str:
    """Return tables that belong to no single sweep as Markdown."""
    return _joined([heading(title, 1), *_markdown_blocks(tables)]) if tables else ""


def latex(sweep: SweepSummary) -> str:
    """Return the sweep's tables as LaTeX. Notes and problems, which are for who writes the text, are comments."""
    name = sweep.loaded.name
    lines = [
        f"{sweep.title}: {sweep.loaded.question}",
        sweep.answer,
        *sweep.notes,
        *(f"Missing or mixed: {problem}." for problem in sweep.problems),
        f"Needs {PACKAGES}. The cells behind each number: {name}.cells.csv.",
    ]
    blocks = [block for table in sweep.tables for block in floats(table, name)]
    return "\n".join([*(f"% {one_line(line)}" for line in lines), *blocks]) + "\n"


def latex_tables(tables: Sequence[Table], name: str = "paper") -> str:
    """Return tables that belong to no single sweep as LaTeX."""
    lines = [f"% Needs {PACKAGES}."]
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
        caption = " ".join(filter(None, (table.caption, table.aside)))
        blocks += [heading(table.title, 2), paragraph(caption), table_lines(table), paragraph(legend(table))]
        blocks.append(bullets(table.notes))
    return blocks


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"
