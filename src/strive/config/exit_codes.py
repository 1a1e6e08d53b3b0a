"""Errors of a program as a message and an exit code: 1 cells without a result, 2 a user's mistake, 130 stopped."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from strive.config.error_text import complaint
from strive.errors import CellsFailedError, StoppedError, StriveError
from strive.plain_text import printable


@contextmanager
def exit_codes() -> Iterator[None]:
    """End the process where the block raises anything but a bug, which keeps its stack trace."""
    try:
        yield
    except KeyboardInterrupt:
        _end("\nstopped; the same command goes on from the last checkpoint, if there is one yet", 130)
    except StoppedError as error:
        _end(f"{error}\nthe same command goes on from there", 130)
    except CellsFailedError as error:
        _end(f"error: {error}", 1)
    except Exception as error:
        text = complaint(error) or (str(error) if isinstance(error, StriveError) else None)
        if text is None:
            raise
        _end(f"error: {text}", 2)


def _end(message: str, code: int) -> None:
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr)
    raise SystemExit(code) from None
