"""Progress bar of a command, on stderr."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from strive.console import CONSOLE


def progress_bar(*, redirect_stdout: bool = True) -> Progress:
    """Return a bar that shows how many of how many are done, if stderr is a terminal. redirect_stdout: as for rich."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=CONSOLE,
        disable=not CONSOLE.is_terminal,
        transient=True,
        redirect_stdout=redirect_stdout,
    )
