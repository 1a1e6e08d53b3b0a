"""A table as LaTeX floats that need only the package booktabs."""

import re
from collections.abc import Sequence
from dataclasses import replace

from strive.plain_text import one_line
from strive.tables.latex_fit import parts
from strive.tables.latex_lines import LatexCell, LatexLine, Part
from strive.tables.latex_text import running, tex
from strive.tables.markdown import legend
from strive.tables.table import Table


def floats(table: Table, name: str) -> list[str]:
    """Return the table in as many floats as it needs to fit the page, with a note that names the omitted columns."""
    table, left_out = _printed(table)
    title = table.title
    caption = f"{title}. {table.caption}".strip()
    notes = [*filter(None, [legend(table)]), *table.notes]
    found = parts(table, len(caption) + sum(map(len, notes)))
    blocks = [f"\n% Of the next table the CSV has these, too: {', '.join(map(one_line, left_out))}"] if left_out else []
    for number, part in enumerate(found, 1):
        of = f" (part {number} of {len(found)})" if len(found) > 1 else ""
        mark = f"-{number}" if number > 1 else ""
        # Notes are printed once, after the last float.
        below = notes if number == len(found) else []
        blocks.append(_float(part, title + of, caption + of, label(table, name) + mark, below))
    return blocks


def label(table: Table, name: str) -> str:
    """Return the label of a table's first float."""
    return "tab:" + "-".join(re.findall("[A-Za-z0-9]+", f"{name} {table.name}"))


def _printed(table: Table) -> tuple[Table, list[str]]:
    """Return the table without the columns that LaTeX omits, and the titles of those."""
    kept = [i for i, column in enumerate(table.columns) if column.latex]
    rows = tuple(replace(row, entries=tuple(row.entries[i] for i in kept)) for row in table.rows)
    columns = tuple(table.columns[i] for i in kept)
    return replace(table, columns=columns, rows=rows), [
        column.title for i, column in enumerate(table.columns) if i not in kept
    ]


def _float(part: Part, title: str, caption: str, label: str, notes: Sequence[str]) -> str:
    columns = "".join("r" if right else "l" for right in part.numeric)
    size = [f"  {part.face.command}"] if part.face.command else []
    gap = [rf"  \setlength{{\tabcolsep}}{{{part.face.gap}pt}}"] if part.face.command else []
    rows = [text for number, line in enumerate(part.lines) for text in _row(line, part, first=number == 0)]
    lines = [
        "",
        r"\begin{table}[htbp]",
        r"  \centering\sloppy",
        rf"  \caption[{running(title)}]{{{running(caption)}}}",
        rf"  \label{{{label}}}",
        r"  \medskip",
        *size,
        *gap,
        rf"  \begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"    \toprule",
        *_row(part.header, part, top=True),
        r"    \midrule",
        *rows,
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    if notes:
        lines += [
            r"  \par\medskip",
            r"  {\footnotesize\raggedright",
            *(rf"  {running(note)}\par" for note in notes),
            "  }",
        ]
    return "\n".join([*lines, r"\end{table}"])


def _row(line: LatexLine, part: Part, *, first: bool = False, top: bool = False) -> list[str]:
    cells = [_stack(cell, right, top) for cell, right in zip(line.cells, part.numeric, strict=True)]
    ref = f" % cells [{one_line(line.ref)}]" if line.ref else ""
    rule = [r"    \midrule"] if line.rule and not first else []
    return [*rule, f"    {' & '.join(cells)} " + r"\\" + ref]


def _stack(cell: LatexCell, right: bool, top: bool) -> str:
    """Return a cell of several lines as a nested table, because p{} columns would choose their own line breaks."""
    texts = [tex(text, bold=cell.bold) for text in cell.lines]
    if len(texts) == 1:
        return texts[0]
    side, stand = "r" if right else "l", "b" if top else "t"
    lines = r"\\".join(texts)
    return rf"\begin{{tabular}}[{stand}]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}"
