"""Shared parts of the commands next to src/run.py: the overrides of a launch, and how they write to a terminal."""

import argparse
import sys

from strive.plain_text import printable


def command_parser(usage: str, text: str, exit_codes: str) -> argparse.ArgumentParser:
    """Return a parser whose `overrides` are KEY=VALUE, as those of a launch, with `text` as its --help.

    A launch's -m means nothing here: it is taken so that the launch's line needs only another file name.
    """
    parser = argparse.ArgumentParser(
        usage=usage,
        description=text,
        epilog=exit_codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    return parser


def complain(text: str) -> None:
    """Print on stderr what the user got wrong."""
    print("error: " + "\n".join(map(printable, text.splitlines())), file=sys.stderr)
