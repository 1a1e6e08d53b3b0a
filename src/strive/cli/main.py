"""Start of the command `strive`: its help, its subcommands, completion for shells, and how errors are worded.

A subcommand is a module here with HELP, EXIT, add_arguments(parser) and run(options), which returns the exit code. Only
the one that is used is imported, since tables and figures need libraries that take a second to start.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import strive
from strive import streams
from strive.errors import StoppedError, StriveError
from strive.plain_text import printable

# {subcommand: what it does, in half a line}
COMMANDS = {
    "status": "how sweeps stand: done, running, waiting, failed and why",
    "answer": "one sweep's answer in a sentence, and what would decide it",
    "tables": "their answers with statistics, as Markdown, LaTeX and CSV",
    "check": "are the numbers in a page or a paper those of the records?",
    "figures": "learning curves, effects and seeds, as PDF, SVG and PNG",
    "report": "all of it as one HTML page",
    "work": "train what nobody trains of a launched sweep",
    "cancel": "stop a sweep; each cell keeps its checkpoint",
    "prune": "what nobody needs any more; removes it with --yes",
    "sync": "upload to W&B what it does not have yet",
    "workspace": "make the dashboard on W&B",
    "reproduce": "train one cell again: do its numbers agree to the last bit?",
    "why": "why the ids of two cells differ",
    "same-code": "train one cell again: are its numbers those of today's code?",
}
SHELLS = ("bash", "zsh", "fish")
_HELP = f"""\
Look at what a Hydra app has trained with hydra/sweeper=strive. Everything is
read from files, so each command may run while cells train, and on a copy of
their folder.

{"".join(f"  strive {name:<11}{text}{chr(10)}" for name, text in COMMANDS.items())}
`strive COMMAND --help` has the arguments, examples and exit codes of each.

  strive status                     every sweep launched into runs/, a line each
  strive tables heads               the tables of the sweep in sweeps/heads.yaml
  strive report --runs a b          several folders of records, read as one

Tab completion, also of sweeps and cells:
  bash, zsh    eval "$(strive --completion bash)"      or zsh
  fish         strive --completion fish | source"""


class Command(Protocol):
    """The module of a subcommand."""

    HELP: str  # what it does, with examples in which %(prog)s is the command
    EXIT: str  # its exit codes, and what else is worth knowing

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments to a parser."""

    def run(self, options: argparse.Namespace) -> int:
        """Carry it out; return the exit code. Raises StriveError for a user's mistake."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line without its first word; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        command = _module(name)
        return guarded(lambda given: command.run(parse(command, f"strive {name}", given)), arguments[1:])
    return guarded(_without_command, arguments)


def parse(command: Command, prog: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of a subcommand, in any order. prog: how the command is called in its help."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=command.HELP,
        epilog=command.EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser.parse_intermixed_args(arguments)


def guarded(run: Callable[[Sequence[str] | None], int], arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command; a user's mistake is one message and 2."""
    streams.guard()
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130
    except StoppedError as error:
        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        text = _worded(error)
        if text is None:
            raise
        print_error(text)
        return 2


def print_error(text: str) -> None:
    """Print on stderr what the user got wrong."""
    print("error: " + "\n".join(map(printable, text.splitlines())), file=sys.stderr)


def _worded(error: Exception) -> str | None:
    """Return the message for a user's mistake, or None for a bug, which needs its stack trace."""
    if isinstance(error, OSError) and error.strerror:  # Hydra has an OSError without it
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    from strive.config.error_text import complaint  # imports Hydra

    return complaint(error) or (str(error) if isinstance(error, StriveError) else None)


def _module(name: str) -> Command:
    return cast(Command, importlib.import_module(f"strive.cli.{name.replace('-', '_')}"))


def _without_command(arguments: Sequence[str] | None) -> int:
    """Print help, the version or a shell's script; exit with 2 for any other word."""
    parser = _top_parser()
    options = parser.parse_args(arguments)
    if options.completion:
        import argcomplete

        print(argcomplete.shell_integration.shellcode(["strive"], shell=options.completion))
    else:
        parser.print_help()
    return 0


def _top_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="strive",
        usage="strive COMMAND [ARGUMENT ...]",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--completion", choices=SHELLS, help="print the script that a shell needs for tab completion")
    parser.add_argument("--version", action="version", version=f"strive {strive.__version__}")
    return parser


def _complete() -> None:
    """Answer a shell that asks what may follow, and exit."""
    import argcomplete

    parser = argparse.ArgumentParser(prog="strive", add_help=False)
    parser.add_argument("--help", "--version", action="store_true")
    parser.add_argument("--completion", choices=SHELLS)
    commands = parser.add_subparsers()
    for name, text in COMMANDS.items():
        _module(name).add_arguments(commands.add_parser(name, help=text))
    complete: Any = argcomplete.autocomplete
    complete(parser)
