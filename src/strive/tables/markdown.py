"""GitHub Markdown that is also readable on a terminal: escaped text, paragraphs, tables."""

import re
import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from strive.plain_text import one_line
from strive.tables.table import Entry, Row, Table

_WIDTH = 110  # characters in a line of a paragraph
# Only text that Markdown would interpret: '<0.001', '[8.9, 9.4]' and all_cnn_c are common and safe.
_SPECIAL = re.compile(
    r"[\\`*|]"
    r"|(?<![^\W_])_++|_++(?![^\W_])"  # an underscore inside a word is safe
    r"|<(?!\s|$|[\d.,]++(?:\s|$))"  # a tag or an address
    r"|&(?=\#?\w+;)"
    r"|\](?=[(\[:])|\[(?=\^)"  # links, definitions, footnotes
    r"|(?<!\S)\#"  # also at the end of a heading
)
_PAIRED = "~$"  # strikethrough and formula: a single one is harmless
# At the start of a line: list, quotation, underlined heading, table, numbered list, task list.
_STARTS = re.compile(r"^([-+=>:]|\[(?=[ xX]\])|\d{1,9}(?=[.)](?:\s|$)))")


def escaped(text: str) -> str:
    """Return untrusted text escaped so that Markdown shows it unchanged within a line."""
    text = one_line(text)
    paired = "".join(char for char in _PAIRED if text.count(char) > 1)
    text = _SPECIAL.sub(lambda found: "".join("\\" + char for char in found.group()), text)
    return re.sub(f"[{re.escape(paired)}]", r"\\\g<0>", text) if paired else text


def heading(text: str, level: int) -> str:
    """Return a heading with untrusted text."""
    return f"{'#' * level} {escaped(text)}"


def paragraph(text: str, *, bold: bool = False) -> str:
    """Return a paragraph with untrusted text, wrapped for a terminal."""
    return _lines(f"**{escaped(text)}**" if bold and one_line(text) else escaped(text))


def bullets(texts: Iterable[str]) -> str:
    """Return a list with untrusted text in each item."""
    return "\n".join("- " + _lines(escaped(text)).replace("\n", "\n  ") for text in texts)


def table_lines(table: Table) -> str:
    """Return the aligned table; the last column refers to the cells of each line."""
    refs = any(row.ref for row in table.rows)
    numeric = [column.numeric for column in table.columns] + [False] * refs
    header = [escaped(column.title) for column in table.columns] + ["cells"] * refs
    grid = [header]
    for row in table.rows:
        grid.append([*map(_cell, row.entries), *[_refs(row)] * refs])
    widths = [max(3, *(cell_len(line[i]) for line in grid)) for i in range(len(header))]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    lines = [_line(grid[0], widths, numeric), _line(rule, widths, numeric)]
    return "\n".join(lines + [_line(line, widths, numeric) for line in grid[1:]])


def _refs(row: Row) -> str:
    """Return what leads to the cells of a line, and of a difference also to those that it is compared with."""
    return ", ".join(f"[{escaped(ref)}]" for ref in (row.ref, row.baseline_ref) if ref)


def legend(table: Table) -> str:
    """Return the meaning of the columns in one paragraph; "" if none needs an explanation."""
    return "; ".join(f"{column.title}: {column.help}" for column in table.columns if column.help)


def _lines(text: str) -> str:
    wrapped = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_STARTS.sub(_start, line) for line in wrapped)


def _start(found: re.Match[str]) -> str:
    """Escape the start of a line that would begin a list or the like; for a numbered list, escape its dot."""
    text = found.group()
    return text + "\\" if text.isdigit() else "\\" + text


def _cell(entry: Entry) -> str:
    text = escaped(entry.text)
    around = "**" if entry.bold else "*" if entry.partial else ""
    return f"{around}{text}{around}" if text else text


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = []
    for cell, width, right in zip(cells, widths, numeric, strict=True):
        space = " " * (width - cell_len(cell))
        padded.append(space + cell if right else cell + space)
    return f"| {' | '.join(padded)} |"
