"""The one sweep of a command that trains or stops its cells, with its launches. Imports no torch."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from strive.cli.folders import add_runs, add_sweep_names, asked_for, plan_names
from strive.errors import UsageError
from strive.launch.launch_folder import Launch, Launches
from strive.sweeps.plan import plan_folders, runs_folder


@dataclass(frozen=True, slots=True)
class LaunchedSweep:
    """A sweep that was launched."""

    name: str  # of its plan
    runs: Path
    launches: Launches  # of the runs folder
    newest: Launch

    @property
    def own(self) -> list[Launch]:
        """Its launches, the newest first."""
        return self.launches.of(self.name)


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the sweep, and --runs."""
    parser.usage = "%(prog)s SWEEP [KEY=VALUE ...] [OPTION ...]"
    add_sweep_names(parser, "+")
    add_runs(parser)


def launched_sweep(options: argparse.Namespace) -> LaunchedSweep:
    """Return the sweep that the arguments of `add_sweep` name. Raises UsageError if there is none, or several."""
    asked = asked_for(options)
    there = plan_folders(asked.folders)
    names = plan_names(asked, there)
    if len(names) > 1:
        raise UsageError(f"{' '.join(options.sweeps)}: which one? {', '.join(names)}")
    folder = there[names[0]]
    launches = Launches(runs_folder(folder))
    newest = next(iter(launches.of(names[0])), None)
    if newest is None:
        raise UsageError(
            f"{names[0]} has a plan, but no launch in {folder}, so its cells are not stored; start the sweep's command"
        )
    return LaunchedSweep(names[0], runs_folder(folder), launches, newest)
