"""The job that starts a launch's command again when the jobs of others have ended. Imports no torch."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from strive.launch.launch_folder import cancel_file


@dataclass(kw_only=True)
class ContinuedLaunch:
    """A command that waited for the jobs of other launches; called in the job."""

    command: list[str]
    folder: str  # that it is started in
    launches: list[Path]  # whose jobs it waited for

    def __call__(self) -> None:
        """Start the command and end as it does; where one of the launches was cancelled, start nothing."""
        if cancelled := [folder for folder in self.launches if cancel_file(folder).exists()]:
            print(f"not started: strive cancel has stopped {cancelled[0]}", flush=True)
            return
        sys.exit(subprocess.call(self.command, cwd=self.folder))
