"""The commands in the code blocks of the Markdown pages, as a reader copies them."""

import re
import shlex

from support import ROOT

_PROGRAMS = ("python ", "strive ", "make ", "pip ", "cd ")


def blocks(page: str, language: str) -> list[str]:
    """Return the content of a page's code blocks. page: its path in the checkout. language: a regular expression."""
    # Every block is matched, or the end of one would count as the beginning of the next.
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return [content for name, content in found if re.fullmatch(language, name)]


def commands(page: str, language: str = "(?:bash)?") -> list[list[str]]:
    """Return the commands of each block of a page that has any, as they stand there, without comments."""
    lines = [[line.partition(" #")[0].strip() for line in block.splitlines()] for block in blocks(page, language)]
    found = [[line for line in block if line.startswith(_PROGRAMS)] for block in lines]
    return [block for block in found if block]


def arguments_of(page: str, script: str, language: str = "bash") -> list[list[str]]:
    """Return the arguments of each command `python SCRIPT...` of a page, the script first."""
    lines = [line for block in commands(page, language) for line in block if line.startswith(f"python {script}")]
    return [shlex.split(line)[1:] for line in lines]
