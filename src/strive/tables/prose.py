"""Numbers and tables of records in the text of a page: which marks a file has, and what the records give for each.

In Markdown a number stands between `<!-- strive: KEY -->` and `<!-- / -->`, and so does a table, on lines of its own. A
LaTeX file has the numbers of numbers.tex. Marks in code, which pages about marks have, are none.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from strive.tables.cited_numbers import Number
from strive.tables.latex_numbers import latex_numbers, sections
from strive.tables.markdown import bullets, escaped, table_lines
from strive.tables.table import Table

_COMMENT = re.compile(r"<!--\s*(?:strive\s*(?P<colon>:?)\s*(?P<key>[^>]*?)|(?P<end>/))\s*-->")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_SPAN = re.compile(r"(?<![`\\])(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_TEX_COMMENT = re.compile(r"(?<!\\)(?:\\\\)*%.*")
_TEX_USE = re.compile(r"\\strive(?:raw)?\s*\{([^{}#\\]*)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordValues:
    """What the records have for a text to cite: numbers and tables, by key."""

    numbers: Mapping[str, Number]
    tables: Mapping[str, Table]
    unknown: Mapping[str, str]  # {sweep: why it has no keys}

    def why_not(self, key: str) -> str:
        """Return why a key has no number and no table, as a sentence's end; "" if it has one."""
        if key in self.tables or (key in self.numbers and not self.numbers[key].why):
            return ""
        if key in self.numbers:
            return f"has no number: {self.numbers[key].why}"
        sweep = key.partition("/")[0]
        if sweep in self.unknown:
            return f"does not exist: {self.unknown[sweep]}"
        close = difflib.get_close_matches(key, [*self.numbers, *self.tables], n=3)
        return "does not exist" + (f"; did you mean {' or '.join(close)}?" if close else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedText:
    """A file's text, compared with the records."""

    text: str  # brought up to date
    stale: tuple[str, ...]  # a sentence for each place that this changed, with its line
    faults: tuple[str, ...]  # what cannot be brought up to date
    count: int  # marks


@dataclass(frozen=True, slots=True)
class _Mark:
    key: str
    start: int  # of what stands between the marks
    end: int


def sweeps_in(text: str, *, latex: bool) -> list[str]:
    """Return the sweeps that the keys of a file name."""
    keys = [key for key, _ in _uses(text)] if latex else [mark.key for mark in _marks(text)[0]]
    return list(dict.fromkeys([*(key.partition("/")[0] for key in keys), *(sections(text) if latex else ())]))


def checked(text: str, known: RecordValues, *, latex: bool) -> CheckedText:
    """Compare the text of a file with the records."""
    return _latex(text, known) if latex else _markdown(text, known)


# -- Markdown


def _markdown(text: str, known: RecordValues) -> CheckedText:
    marks, faults = _marks(text)
    parts, stale, done = list[str](), list[str](), 0
    newline = "\r\n" if "\r\n" in text else "\n"
    for mark in marks:
        place = f"{_line(text, mark.start)}: {mark.key}"
        if why := known.why_not(mark.key):
            faults.append(f"{place} {why}")
            continue
        is_table, now = mark.key in known.tables, text[mark.start : mark.end]
        wanted = _block(known.tables[mark.key]) if is_table else escaped(known.numbers[mark.key].text)
        if _same(now, wanted, is_table=is_table):
            continue
        stale.append(
            f"{place}: the table is not what the records give"
            if is_table
            else f"{place} is {' '.join(now.split()) or 'empty'}, the records give {wanted}"
        )
        new = newline + wanted.replace("\n", newline) + newline if is_table else wanted
        parts += [text[done : mark.start], new]
        done = mark.end
    return CheckedText(text="".join([*parts, text[done:]]), stale=tuple(stale), faults=tuple(faults), count=len(marks))


def _same(now: str, wanted: str, *, is_table: bool) -> bool:
    if is_table:
        return now.replace("\r\n", "\n").strip("\n") == wanted
    return " ".join(now.split()) == wanted  # a paragraph may be wrapped within a text


def _block(table: Table) -> str:
    return "\n\n".join(filter(None, [table_lines(table), bullets(table.notes)]))


def _marks(text: str) -> tuple[list[_Mark], list[str]]:
    """Return the marks in order, and the faults of those that do not come in pairs."""
    found, faults = list[_Mark](), list[str]()
    opened: tuple[str, int, int] | None = None  # its key, where its text begins, its line
    for match in _COMMENT.finditer(_without_code(text)):
        line = _line(text, match.start())
        if match["end"]:
            if opened is None:
                faults.append(f"{line}: <!-- / --> ends nothing")
            else:
                found.append(_Mark(opened[0], opened[1], match.start()))
            opened = None
            continue
        if opened is not None:
            faults.append(f"{opened[2]}: {opened[0]} has no <!-- / --> before the next mark")
            opened = None
        if match["colon"] and match["key"]:
            opened = match["key"], match.end(), line
        else:
            faults.append(f"{line}: {match[0]} has no key; write <!-- strive: KEY -->")
    if opened is not None:
        faults.append(f"{opened[2]}: {opened[0]} has no <!-- / --> behind it")
    return found, faults


def _without_code(text: str) -> str:
    """Return the text with code as blanks, so that places stay as they are."""
    lines, fence = list[str](), ""
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if not fence and found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
            lines.append(_blank(line))
        elif fence:
            lines.append(_blank(line))
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        else:
            lines.append(line)
    return _SPAN.sub(lambda found: _blank(found[0]), "".join(lines))


def _blank(text: str) -> str:
    return re.sub(r"[^\r\n]", " ", text)


# -- LaTeX


def _latex(text: str, known: RecordValues) -> CheckedText:
    faults, uses = [], list(_uses(text))
    for key, line in uses:
        if key in known.tables:
            faults.append(f"{line}: {key} is a table, not a number")
        elif why := known.why_not(key):
            faults.append(f"{line}: {key} {why}")
    written = sections(text)
    if not written:
        return CheckedText(text=text, stale=(), faults=tuple(faults), count=len(uses))
    faults += [f"1: {known.unknown[sweep]}" for sweep in written if sweep in known.unknown]
    there = [sweep for sweep in written if sweep not in known.unknown]
    own = {sweep: {key: each for key, each in known.numbers.items() if key.startswith(f"{sweep}/")} for sweep in there}
    now = latex_numbers(own, text)
    stale = () if now == text else ("1: the numbers are not what the records give",)
    return CheckedText(text=now, stale=stale, faults=tuple(faults), count=sum(map(len, own.values())) + len(uses))


def _uses(text: str) -> Iterator[tuple[str, int]]:
    r"""Yield (key, line) for each \strive{KEY} that is not in a comment."""
    for number, line in enumerate(text.splitlines(), 1):
        for key in _TEX_USE.findall(_TEX_COMMENT.sub("", line)):
            yield key.strip(), number


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
