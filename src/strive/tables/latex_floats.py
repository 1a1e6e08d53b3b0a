r"""A table as LaTeX floats: siunitx aligns numbers, booktabs draws rules, \resizebox shrinks what is too wide."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from string import ascii_lowercase

from strive.plain_text import one_line
from strive.tables.latex_text import running, tex
from strive.tables.markdown import legend
from strive.tables.table import DASHES, Column, Entry, Row, Table, compact

PACKAGES = r"\usepackage{booktabs,graphicx,siunitx}"
_NARROW = 68  # characters; a wider table is for both columns of a page
_LONG = 32  # characters; a column of longer texts breaks them into lines
_ROWS = 45  # lines of a table and its caption on one page
# 27.64 with what stands behind it: "27.64 ± 0.26", "9.08?", "<0.001", "27.64 ± 0.26• (10.21)", "91.00, 3 of 3 dead".
_NUMBER = re.compile(
    r"(?P<number>(?P<sign>[<+-]?)(?P<whole>\d[\d,]*)(?:\.(?P<digits>\d+))?)"
    r"(?P<behind>(?: ± [\d.]+)?\W{0,2}?)(?: \((?P<small>\S+)\))?(?:, (?P<note>.+))?"
)
_MINUS = re.compile(r"(?<![\w.,)])-(?=\.?\d)")
_SIUNITX = (
    r"\sisetup{detect-weight, group-minimum-digits=4, group-separator={,}, retain-explicit-plus,"
    r" table-align-text-after=false}"
)


def floats(table: Table, name: str) -> list[str]:
    """Return the table in as many floats as it needs to fit the page; none if it is not for paper."""
    if not table.latex:
        return []
    table = compact(table)
    if table.name == "overview":  # whose rows and columns say themselves what they are
        table = replace(table, columns=(replace(table.columns[0], title=""), *table.columns[1:]))
    below = _Below()
    columns = [
        _ColumnLayout(column, [row.entries[i] for row in table.rows], below) for i, column in enumerate(table.columns)
    ]
    wide = sum(each.characters for each in columns) + 2 * len(columns) > _NARROW
    caption = f"{table.title}. {table.caption}".strip()
    shown = filter(None, (f"{legend(table)}." if legend(table) else "", *table.notes, *table.latex_notes))
    notes = [*map(running, shown), *below.texts()]
    words = len(caption) + sum(map(len, notes))
    runs = list(_runs(table.rows, max(10, _ROWS - words // (90 if wide else 45))))
    blocks = []
    for number, (start, end) in enumerate(runs, 1):
        part = f" (part {number} of {len(runs)})" if len(runs) > 1 else ""
        lines = [
            "",
            rf"\begin{{table{'*' if wide else ''}}}[tbp]",
            r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}",
            f"  {_SIUNITX}",
            rf"  \caption[{running(table.title + part)}]{{{running(caption + part)}}}",
            rf"  \label{{{label(table, name)}{f'-{number}' if number > 1 else ''}}}",
            r"  \smallskip",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{@{{}}{''.join(each.form for each in columns)}@{{}}}}",
            r"    \toprule",
            f"    {' & '.join(each.header for each in columns)} \\\\",
            r"    \midrule",
            *(line for i in range(start, end) for line in _lines(table.rows[i], columns, i, first=i == start)),
            r"    \bottomrule",
            r"  \end{tabular}}",
            # Notes are printed once, after the last float.
            *([r"  \par\smallskip", rf"  \parbox{{\linewidth}}{{\raggedright {' '.join(notes)}}}"] if notes else [])
            * (number == len(runs)),
            rf"\end{{table{'*' if wide else ''}}}",
        ]
        blocks.append("\n".join(lines))
    return blocks


def label(table: Table, name: str) -> str:
    """Return the label of a table's first float."""
    return "tab:" + "-".join(re.findall("[A-Za-z0-9]+", f"{name} {table.name}"))


class _Below:
    """Reasons that stand below a table, each with a letter."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Return the letter that leads to a reason."""
        number = len(self._letters)
        letter = ascii_lowercase[number % 26] * (number // 26 + 1)
        return rf"$^{{\mathrm{{{self._letters.setdefault(text, letter)}}}}}$"

    def texts(self) -> list[str]:
        """Return the reasons with their letters."""
        return [rf"{self.mark(text)}\,{running(text)}." for text in self._letters]


@dataclass(frozen=True, slots=True)
class _Cell:
    """An entry of a column, as LaTeX."""

    text: str
    small: str = ""  # in small print on a line below


class _ColumnLayout:
    """One column: its type, its header and its cells."""

    def __init__(self, column: Column, entries: Sequence[Entry], below: _Below) -> None:
        texts = [one_line(entry.text) for entry in entries]
        found = [_NUMBER.fullmatch(text) for text in texts]
        aligned = column.numeric and any(found)
        if aligned:
            aligned = all(m or e.hole or len(t) <= 4 for m, e, t in zip(found, entries, texts, strict=True))
        if aligned:
            self.cells = [_aligned(*each, below) for each in zip(entries, texts, found, strict=True)]
            self.form = _format([(m, entry.mark) for m, entry in zip(found, entries, strict=True) if m])
            shown = [f"{m['number']}{m['behind']}" if m else "-" for m in found]
        else:
            self.cells = [_text(entry, text, column, below) for entry, text in zip(entries, texts, strict=True)]
            self.form = "r" if column.numeric else "l"
            shown = ["-" if entry.hole and column.numeric else text for entry, text in zip(entries, texts, strict=True)]
        self.header = _header(column.title, self.form)
        self.characters = max(map(len, [*re.split("[ ,]+", column.title), *shown]), default=0)
        if not column.numeric and self.characters > _LONG:
            self.form, self.characters = r"p{0.3\linewidth}", _LONG
            broken = [rf"\raggedright\arraybackslash {running(text)}" for text in (column.title, *texts)]
            self.header, self.cells = broken[0], [_Cell(text) for text in broken[1:]]


def _format(found: Sequence[tuple[re.Match[str], str]]) -> str:
    """Return the column type of siunitx for numbers, each with its mark."""
    signs = {each["sign"] for each, _ in found}
    sign = next((sign for sign in "<+-" if sign in signs), "")
    whole, digits = (max(len((each[name] or "").replace(",", "")) for each, _ in found) for name in ("whole", "digits"))
    letter = r"$^{\mathrm{a}}$"  # as wide as any other
    tail = max((_behind(each["behind"] + mark) + letter * bool(each["note"]) for each, mark in found), key=len)
    space = f", table-space-text-post={{{tail}}}" if tail else ""
    return f"S[table-format={sign}{whole}{f'.{digits}' if digits else ''}{space}]"


def _aligned(entry: Entry, text: str, found: re.Match[str] | None, below: _Below) -> _Cell:
    grey = r"{\color[gray]{0.5}}" if entry.partial else ""
    if found is None:
        return _Cell("{" + _hole(entry, text, below) + "}")
    behind = _behind(found["behind"] + entry.mark) + (below.mark(found["note"]) if found["note"] else "")
    behind = rf"\color[gray]{{0.5}}{behind}" if behind and grey else behind
    number = found["number"].replace(",", "")
    start = grey + (r"\bfseries " if entry.bold and not entry.mark else "")
    return _Cell(f"{start}{number}{f'{{{behind}}}' if behind else ''}", found["small"] or "")


def _behind(text: str) -> str:
    """Return what stands behind a number: its spread, and marks as superscripts."""
    spread, marks = re.fullmatch(r"( ± [\d.]+)?(.*)", text).groups()  # type: ignore[union-attr] # matches anything
    return (f"${{}}\\pm{{}}{spread[3:]}$" if spread else "") + "".join(_mark(mark) for mark in marks)


def _mark(mark: str) -> str:
    return tex(mark) if mark == "?" else "$^{" + re.sub(r"\\ensuremath{(.*)}", r"\1", tex(mark)) + "}$"


def _text(entry: Entry, text: str, column: Column, below: _Below) -> _Cell:
    if not column.numeric:
        return _Cell(tex(text, bold=entry.bold) if text != "-" else r"\textendash{}")
    if entry.hole:
        return _Cell(_hole(entry, text, below))
    shown = r"\textendash{}" if text in DASHES else tex(_MINUS.sub("\u2212", text), bold=entry.bold)
    return _Cell(shown + "".join(map(_mark, entry.mark)))


def _hole(entry: Entry, text: str, below: _Below) -> str:
    if entry.hole:
        return r"\textendash" + below.mark(text)
    return r"\textendash" if text in DASHES else tex(text)


def _header(title: str, form: str) -> str:
    """Return a column's title, in two lines where it is long."""
    words = one_line(title).split()
    if len(title) > 11 and len(words) > 1:
        cut = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(" ".join(words[i:]))))
        lines = r"\\".join(tex(" ".join(each)) for each in (words[:cut], words[cut:]))
        side = form if form in "lr" else "c"
        return rf"{{\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}}}"
    return f"{{{tex(title)}}}"


def _lines(row: Row, columns: Sequence[_ColumnLayout], number: int, *, first: bool) -> Iterator[str]:
    cells = [column.cells[number] for column in columns]
    above = () if first else (column.cells[number - 1].small for column in columns)
    if (row.rule and not first) or any(above):
        yield r"    \addlinespace"
    yield f"    {' & '.join(cell.text for cell in cells)} \\\\"
    if any(cell.small for cell in cells):
        smalls = (rf"{{\scriptsize ({tex(cell.small)})}}" if cell.small else "" for cell in cells)
        yield f"    {' & '.join(smalls)} \\\\"


def _runs(rows: Sequence[Row], most: int) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of runs of rows that fit a page, of about equal length."""
    count = max(1, -(-len(rows) // most))
    yield from pairwise([len(rows) * i // count for i in range(count + 1)])
