r"""Untrusted text as LaTeX in pure ASCII that needs no package.

The fonts of pdflatex have few letters. Accents and common signs are written as commands, and every other character
as its code point, [U+6570], which compiles everywhere and can be looked up.
"""

import re
import unicodedata
from functools import lru_cache

from strive.plain_text import one_line

# None of these needs the companion fonts (TS1), which a small installation lacks or has only as bitmaps.
_WORDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\ensuremath{\mathdollar}",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    # In the default font encoding (OT1) these three would print as other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "`": r"\ensuremath{\grave{\ }}",
    # After \\ an opening bracket would start an optional argument.
    "[": "{[}",
    "*": "{*}",
    "]": "{]}",
    "\u2212": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "\u00d7": r"\ensuremath{\times}",
    "÷": r"\ensuremath{\div}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "≠": r"\ensuremath{\neq}",
    "≈": r"\ensuremath{\approx}",
    "∞": r"\ensuremath{\infty}",
    "→": r"\ensuremath{\rightarrow}",
    "←": r"\ensuremath{\leftarrow}",
    "·": r"\ensuremath{\cdot}",
    "√": r"\ensuremath{\surd}",
    "∑": r"\ensuremath{\sum}",
    "°": r"\ensuremath{^{\circ}}",
    "²": r"\ensuremath{^{2}}",
    "³": r"\ensuremath{^{3}}",
    "µ": r"\ensuremath{\mu}",
    "\u2013": r"\textendash{}",
    "—": r"\textemdash{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
    "•": r"\ensuremath{\bullet}",
    "\u2217": r"\ensuremath{\ast}",
    "†": r"\ensuremath{\dagger}",
    "‡": r"\ensuremath{\ddagger}",
    "§": r"\ensuremath{\mathsection}",
    "©": "(c)",
    "£": r"\ensuremath{\mathsterling}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "\u0131": r"\i{}",
}
_WORD = 20  # characters; shorter words in running text are not broken
_ACCENTS = {  # available in OT1
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
}
_BELOW = "\u0323\u0327"
# Greek letters with their own command in math mode; the other capitals look like Latin ones.
_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega"
    "|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)


def tex(text: str, *, bold: bool = False) -> str:
    """Return untrusted text as one line of LaTeX."""
    # Two of these in a row would form a ligature.
    parts = re.split(r"(?<=([-',]))(?=\1)", _composed(text))
    latex = "{}".join("".join(map(_char, part)) for part in parts[::2])
    return rf"\textbf{{{latex}}}" if bold and latex else latex


def running(text: str) -> str:
    """Return untrusted text as LaTeX for a paragraph: long words such as ids may be broken, to stay on the page."""
    return " ".join(r"\hspace{0pt}".join(map(tex, _syllables(word))) for word in one_line(text).split())


def _syllables(word: str) -> list[str]:
    """Split a long word into pieces: behind - _ / . = : , ; ) > ] and where a piece has ten characters."""
    return re.findall(r"[^-_/.=:,;)>\]]{0,9}(?:[-_/.=:,;)>\]]|.)", word) if len(word) > _WORD else [word]


def _composed(text: str) -> str:
    text = re.sub(r"(?<!\S)'(?=\w)", "\u2018", one_line(text))
    return unicodedata.normalize("NFC", re.sub(r'(?<!\S)"(?=\w)', "\u201c", text))


@lru_cache(maxsize=4096)
def _char(char: str) -> str:
    """Return one character as LaTeX."""
    found = _WORDS.get(char) or (char if char.isascii() else _accented(char) or _greek(char))
    return found or rf"{{[}}U+{ord(char):04X}{{]}}\hspace{{0pt}}"  # a line may end here


def _accented(char: str) -> str:
    apart = unicodedata.normalize("NFD", char)
    letter, mark = apart[0], apart[1:]
    if mark not in _ACCENTS or not (letter.isascii() and letter.isalpha()):
        return ""
    base = rf"\{letter}" if letter in "ij" and mark not in _BELOW else letter
    return rf"\{_ACCENTS[mark]}{{{base}}}"


def _greek(char: str) -> str:
    words = unicodedata.name(char, "").split()
    if words[:1] != ["GREEK"] or words[2:3] != ["LETTER"] or len(words) != 4:
        return ""
    name = words[3].replace("LAMDA", "LAMBDA")
    name = name.capitalize() if words[1] == "CAPITAL" else name.lower()
    return rf"\ensuremath{{\{name}}}" if _GREEK.fullmatch(name) else ""
