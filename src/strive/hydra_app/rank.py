"""A further process of a cell: the user's program again, which runs the frozen cell of rank 0.

`python -m strive.hydra_app.rank` is one that strive has started (rank_processes). Where an app starts its ranks itself,
as Lightning's ddp does with sys.argv, the plug-in calls `follow` in them: without it they would start the sweep again.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from strive import signals
from strive.cells import active
from strive.cells.log_file import rank_log
from strive.cells.rank_run import RankLink, RankRun, report
from strive.cells.ranks import CellStart
from strive.hydra_app.app import APP
from strive.hydra_app.program import ENVIRONMENT, Program, name_of, read_program
from strive.hydra_app.trainer import call_function
from strive.hydra_internals import replace_multirun


def main() -> None:
    """Become the program, wait for the cell, and run it."""
    link = connected()
    APP.become(lambda: run(link, _frozen_call(link, APP.function, APP.loader, APP.program)))


def follow() -> None:
    """Let this process, if it is the program of rank 0 started again, run the cell in place of the command line."""
    file = os.environ.get(ENVIRONMENT)
    program = read_program(Path(file)) if file else None
    if program is None or not _is_again(program):
        return

    def at_main(function: Any, loader: Any) -> None:
        link = connected()
        run(link, _frozen_call(link, function, loader, program))
        raise SystemExit(0)

    replace_multirun(at_main, lambda function: name_of(function) == program.function)


def connected() -> RankLink:
    """Connect to rank 0, which decides from here on whether a signal that reaches this process is a stop."""
    link = RankLink()
    _pass_on_signals(link)
    return link


def run(link: RankLink, call: Callable[[CellStart], Any]) -> None:
    """Run a function for rank 0's cell, and tell rank 0 how it ended. Raises SystemExit where the function raises."""
    start, error = link.start(), None
    folder = Path(start.folder)
    try:
        with active.activated(RankRun(link, start.cell, folder)):
            call(start)
    except BaseException as raised:
        error = raised
    log = rank_log(folder, link.rank)
    if error is not None:  # before rank 0 knows of it, which ends this process
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    report(link, error, log)
    if error is not None:
        raise SystemExit(f"rank {link.rank}: {type(error).__name__}: {error}") from error


def _frozen_call(link: RankLink, function: Any, loader: Any, program: Program) -> Callable[[CellStart], Any]:
    return lambda start: call_function(function, loader, program, start, link.rank)


def _is_again(program: Program) -> bool:
    """Return whether this process is that program with its arguments; a framework may have added others."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    same = spec is not None and spec.name.removesuffix(".__main__") == program.module
    same |= bool(program.file) and file is not None and os.path.abspath(file) == program.file
    return same and sys.argv[1 : len(program.argv)] == program.argv[1:]


def _pass_on_signals(link: RankLink) -> None:
    """Let rank 0 decide on a stop that reaches this process."""

    def handle(number: int, frame: FrameType | None) -> None:
        link.send(signal=signal.Signals(number).name)

    for number in signals.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
            signal.signal(number, handle)


if __name__ == "__main__":
    # By its name: the user's program becomes this process's __main__.
    from strive.hydra_app.rank import main

    main()
