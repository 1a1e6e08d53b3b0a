r"""`numbers.tex`: the numbers of sweeps as `\strive{KEY}`, for the text of a paper. It needs no package.

The file has a section for each sweep. Writing some sweeps keeps the sections of the others.
"""

import re
from collections.abc import Mapping

from strive.tables.cited_numbers import Number
from strive.tables.latex_text import tex

# Both expand to plain text, so they may stand in headings, captions and the arguments of \num. A key that is not there
# is an error, and prints ?? where LaTeX goes on after errors.
_HEAD = r"""% Written by `strive tables`: do not edit. In a document: \input{numbers}, then
%   \strive{SWEEP/CONDITION/METRIC}        the mean, as tables print it; also with /n, /sd, /low, /high, /diff, /p
%   \striveraw{SWEEP/CONDITION/METRIC}     its digits alone, such as for \num of siunitx
\gdef\strive#1{\ifcsname strive:\detokenize{#1}\endcsname
  \csname strive:\detokenize{#1}\endcsname\else\striveUnknown{#1}\fi}%
\gdef\striveraw#1{\ifcsname striveraw:\detokenize{#1}\endcsname
  \csname striveraw:\detokenize{#1}\endcsname\else\striveUnknown{#1}\fi}%
\protected\gdef\striveUnknown#1{\PackageError{strive}{There is no number `\detokenize{#1}'}{%
  The keys stand in numbers.tex, which `strive tables' writes.}\textbf{??}}%
\protected\gdef\striveNone#1#2{\PackageError{strive}{`\detokenize{#1}' has no number: \detokenize{#2}}{%
  The tables have a hole there, too.}\textbf{??}}%
\gdef\striveNumber#1#2#3{\expandafter\gdef\csname strive:\detokenize{#1}\endcsname{#2}%
  \expandafter\gdef\csname striveraw:\detokenize{#1}\endcsname{#3}}%
\gdef\striveHole#1#2{\striveNumber{#1}{\striveNone{#1}{#2}}{\striveNone{#1}{#2}}}%
"""
_SECTION = re.compile(r"^% begin (?P<sweep>.+)\n(?P<text>(?:.*\n)*?)% end (?P=sweep)\n", re.MULTILINE)


def latex_numbers(sweeps: Mapping[str, Mapping[str, Number]], before: str = "") -> str:
    """Return the content of numbers.tex.

    sweeps: {name: {key: number}}. before: the content so far, whose sections of other sweeps stay.
    """
    found = sections(before)
    found |= {name: "".join(_line(key, each) for key, each in own.items()) for name, own in sweeps.items()}
    return _HEAD + "".join(f"% begin {name}\n{found[name]}% end {name}\n" for name in sorted(found))


def sections(text: str) -> dict[str, str]:
    """Return {sweep: its lines} of a numbers.tex; {} for another file."""
    return {found["sweep"]: found["text"] for found in _SECTION.finditer(text)}


def _line(key: str, number: Number) -> str:
    if number.why:
        return f"\\striveHole{{{key}}}{{{_plain(number.why)}}}%\n"
    # A hyphen before a number is a minus.
    printed = tex(re.sub(r"^-(?=\d)", "\N{MINUS SIGN}", number.text))
    raw = number.raw if number.is_number else printed
    return f"\\striveNumber{{{key}}}{{{printed}}}{{{raw}}}%\n"


def _plain(text: str) -> str:
    r"""Return a reason as \detokenize can take it, in ASCII without braces, percent signs and the like."""
    return re.sub(r"[^ -~]|[{}%#\\^~]", "?", text)
