"""The console that all of strive prints on, and the guard that keeps a failed display from ending work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from strive.plain_text import printable


class _PlainConsole(Console):
    """A console on which no text can move the cursor or paint: names, causes and overrides are anybody's words."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with the control characters of texts spelt out."""
        plain = ("\n".join(map(printable, each.split("\n"))) if isinstance(each, str) else each for each in objects)
        super().print(*plain, **options)


# Progress goes to stderr, so that stdout can be piped.
# Messages hold paths and users' words: nothing in them is markup, and no line is broken. All that moves on the
# screen is drawn on this one console, so that lines which stay come above it. That it fails nothing is for `streams`.
CONSOLE = _PlainConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
# Results go to stdout, where they can be piped.
OUTPUT = _PlainConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)
_said = set[str]()  # what could not be drawn


@contextmanager
def only_shown() -> Iterator[None]:
    """Let nothing that goes wrong in showing something end what is shown; also a decorator. Says each fault once."""
    try:
        yield
    except Exception as error:
        text = f"cannot be shown ({type(error).__name__}: {error}); the work goes on"
        if text not in _said:
            _said.add(text)
            print(text, file=sys.stderr)
