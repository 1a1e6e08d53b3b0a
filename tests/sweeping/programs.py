"""Stand-ins for SLURM's programs."""

import stat
from pathlib import Path

# Each fake program answers with what lies in its files, and writes down what it was asked.
PROGRAM = """#!/bin/sh
echo "$@" >> {place}.calls
/bin/cat {place}.out
/bin/cat {place}.err >&2
exit "$(/bin/cat {place}.rc)"
"""


class Programs:
    """SLURM's programs, as a test wants them to answer; what is not set is not installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, name: str, out: str = "", err: str = "", rc: int = 0) -> None:
        for suffix, text in (("out", out), ("err", err), ("rc", str(rc))):
            (self.folder / f"{name}.{suffix}").write_text(text)
        program = self.folder / name
        program.write_text(PROGRAM.format(place=program))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def calls(self, name: str) -> list[str]:
        path = self.folder / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def script(self, name: str, text: str) -> None:
        """Install a shell script of the test's own."""
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
