"""Untrusted text as characters that a terminal, a file and a page can take."""

import unicodedata

_BAD = "\ufffd"
_JOINERS = "\u200c\u200d"  # Persian words and emoji need them


def visible(text: str) -> str:
    """Return the text with a mark for each character that is no text: control codes, half pairs, what turns text round.

    An escape code would reach the terminal, a half pair cannot be written to a file, and U+202E shows text backwards.
    White space of all kinds is a space.
    """
    return "".join(map(_visible, text))


def one_line(text: str) -> str:
    """Return visible(text) without line breaks, and with single spaces."""
    return " ".join(visible(text).split())


def printable(text: str) -> str:
    """Return one line with whatever could move a terminal's cursor spelt out; a cause may be any text of a net."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _visible(char: str) -> str:
    if char.isspace():
        return " "
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") and char not in _JOINERS:
        return _BAD
    return char
