"""Stand-ins for SLURM's programs, and for a worker."""

import stat
import sys
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

    def accept_and_fail(self, words: str) -> int:
        """Let sbatch take the next submission and say this; return the job's number."""
        number = 41 + len(list(self.folder.glob("script-*")))
        self.script("sbatch-of-before", SBATCH.format(place=self.folder))
        self.script(
            "sbatch",
            f'{self.folder}/sbatch-of-before "$@" > /dev/null\n'
            f"/bin/cp {self.folder}/sbatch-of-before {self.folder}/sbatch\necho '{words}' >&2; exit 1",
        )
        return number

    def options(self, number: int) -> dict[str, str]:
        """Return the options in a batch script, by the job's number."""
        lines = (self.folder / f"script-{number}").read_text().splitlines()
        pairs = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH")]
        return {key: value for key, _, value in pairs}

    def shows(self, **jobs: str) -> None:
        """Let squeue show these jobs, such as j41_0="RUNNING"."""
        self.set("squeue", "".join(f"{job[1:]}|{state}|node1|None|(null)\n" for job, state in jobs.items()))


# Trains nothing: begins with what it is given, and does again and again what `play` says.
WORKER = r"""#!{python}
import json, os, re, select, signal, sys, time
from pathlib import Path

gpu, room = sys.argv[-2], int(sys.argv[-1])
held, part = [], b""
begins = lambda cell: True
seeds = lambda: [seed(cell) for cell in held]


def seed(cell):
    return int(re.search(r"-s(\d+)-", cell)[1])


def say(kind, cell="", status=None, **fields):
    fields |= dict(kind=kind, cell=cell, status=status)
    os.write(int(sys.argv[-4]), (json.dumps(fields) + "\n").encode())


def end(cell, status="done", **fields):
    held.remove(cell)
    say("ended", cell, status, **fields)


def give_back(cell, room, **fields):
    held.remove(cell)
    say("returned", cell, room=room, **fields)


def await_cells(count):
    "Wait until so many cells are here, and write down which."
    global part
    while len(held) < count:
        if not select.select([0], [], [], 30)[0]:
            sys.exit("only " + str(held))
        content = os.read(0, 1 << 16)
        if not content:
            sys.exit()
        *lines, part = (part + content).split(b"\n")
        for line in lines:
            held.append(json.loads(line)["task"]["cell"])
            if begins(held[-1]):
                say("began", held[-1])
    with open("played", "a") as played:
        print(gpu, *seeds(), file=played)


{start}
say("ready")
while True:
{play}
"""


def stand_in(folder: Path, play: str, start: str = "") -> str:
    """Return a program for a pool to start in a worker's place.

    start: what it does before it is ready; play: what it does from then on, again and again. Both are Python
    that may use what WORKER defines. The file `played` says what it had each time: its GPU, and the seeds.
    """
    program = folder / "stand-in"
    indented = "\n".join(f"    {line}" for line in play.strip().splitlines())
    program.write_text(WORKER.format(python=sys.executable, start=start, play=indented))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)
