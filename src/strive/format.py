"""Numbers, durations and cell ids as a person reads them."""

import re
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

_ID = re.compile(r"(?P<net>\w+)-(?P<data>\w+)-(?P<augment>\w+)-(?P<lr>lr.+)-(?P<seed>s\d+)-(?P<hash>[0-9a-f]{10})")


def counted(count: int, what: str) -> str:
    """Return a number of things in words: 1 cell, 2 cells."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def runs_option(runs: Path) -> str:
    """Return the option that a command needs to find this runs folder, with a space in front; "" for the default."""
    return "" if runs == Path("runs") else f" --runs {shlex.quote(str(runs))}"


def size_text(size: int) -> str:
    """Return a number of bytes in few characters, such as 1.2 GB; units of 1000."""
    value, units = float(size), ("B", "kB", "MB", "GB", "TB")
    for unit in units[:-1]:
        if round(value) < 1000:
            return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} {units[-1]}"


def duration(seconds: float | None) -> str:
    """Return a length of time in few characters, such as 12 min; "" for None."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def short_names(cells: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return {id: what tells it from the other ids}, and what all ids share.

    The ten digits stay: runs/*DIGITS is the cell's folder.
    """
    parts = {cell: match.groupdict() if (match := _ID.fullmatch(cell)) else {"id": cell} for cell in cells}
    first = next(iter(parts.values()), {})
    common = {
        name
        for name in first
        if name not in ("hash", "id")
        and len(parts) > 1
        and all(each.get(name) == first[name] for each in parts.values())
    }
    names = {cell: "-".join(text for name, text in each.items() if name not in common) for cell, each in parts.items()}
    return names, " ".join(first[name] for name in first if name in common)


def wrapped(text: str, width: int = 80) -> list[str]:
    """Return the text in lines of at most so many characters, broken between words alone; further ones are indented."""
    if len(text) <= width:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def without_common(texts: Sequence[str], most: int) -> list[str]:
    """Return texts of which one is longer than `most` characters with … for the words that all begin and end with."""
    if len(set(texts)) < 2 or max(map(len, texts)) <= most:
        return list(texts)
    start, end = _common(texts), _common([text[::-1] for text in texts])
    end = min(end, min(len(text) for text in texts) - start)
    return [
        f"{'…' * (start > 1)}{text[start if start > 1 else 0 : len(text) - end if end > 1 else None]}{'…' * (end > 1)}"
        for text in texts
    ]


def _common(texts: Sequence[str]) -> int:
    """Return how many characters of whole words all texts begin with."""
    same = takewhile(lambda chars: len(set(chars)) == 1, zip(*texts, strict=False))
    common = "".join(chars[0] for chars in same)
    return max((common.rfind(mark) + 1 for mark in "/._-=: "), default=0)


def shortened(text: str, width: int) -> str:
    """Return the text in at most so many characters; what is left out is in its middle."""
    if len(text) <= width:
        return text
    tail = min(width - 1, max(10, (width - 1) // 2))
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
