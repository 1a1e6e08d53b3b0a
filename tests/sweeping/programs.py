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


# Gives out ids from 41 on, and keeps a copy of each script; `refuses` holds what it says in place of that.
SBATCH = """
cd {place}
echo x >> submitted
if [ -s refuses ] && [ "$(/usr/bin/wc -l < submitted)" -gt "$(/bin/cat refuses_after)" ]; then
    /bin/cat refuses >&2
    exit 1
fi
number=$(( 40 + $(/usr/bin/wc -l < submitted) ))
/bin/cp "$1" "script-$number"
/usr/bin/env > "env-$number"
echo "Submitted batch job $number"
"""


class Cluster(Programs):
    """A SLURM that takes jobs and never starts one: a test says with `set` what squeue answers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.script("sbatch", SBATCH.format(place=folder))
        self.script("srun", "true")
        self.set("squeue")
        self.set("scontrol", "MaxArraySize = 3\nMaxJobCount = 10000\n")

    def refuse(self, words: str, *, after: int = 0) -> None:
        """Let sbatch say this after so many submissions; "": take them all."""
        (self.folder / "refuses").write_text(words)
        (self.folder / "refuses_after").write_text(str(after))

    def options(self, number: int) -> dict[str, str]:
        """Return the options in a batch script, by the job's number."""
        lines = (self.folder / f"script-{number}").read_text().splitlines()
        pairs = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH")]
        return {key: value for key, _, value in pairs}

    def shows(self, **jobs: str) -> None:
        """Let squeue show these jobs, such as j41_0="RUNNING"."""
        self.set("squeue", "".join(f"{job[1:]}|{state}|node1|None|(null)\n" for job, state in jobs.items()))
