"""Launches of small sweeps in a throw-away SLURM, and what they left behind."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from held_net import HELD, STEPS_PER_EPOCH, write_nets
from slurm_lab import SlurmLab, wait_until
from support import ROOT

from strive.launch.launch_folder import read_jobs
from strive.slurm.job_log import JobStart, starts

EPOCHS = 3
STEPS = EPOCHS * STEPS_PER_EPOCH  # of each cell, if nothing else is said

SMALL = (*HELD, f"budget.epochs={EPOCHS}", "hydra.launcher.poll_seconds=0.5", "runs=runs")


@dataclass
class Launch:
    """A running `python src/run.py -m ... hydra/launcher=slurm`."""

    process: subprocess.Popen[str]
    output: Path

    def ends(self, timeout: float = 120) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the launcher has not ended after {timeout:g} s:\n{self.said()}") from None

    def said(self) -> str:
        """Return what it has printed so far."""
        return self.output.read_text()


@dataclass
class Study:
    """A user's working directory on the cluster, with a net of their own in nets.py."""

    lab: SlurmLab
    folder: Path
    project: Path = ROOT
    umask: int = 0o022
    environ: dict[str, str] = field(default_factory=dict)  # beside the lab's
    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_nets(self.folder)

    def command(self, *overrides: str) -> list[str]:
        """Return the command line of a launch."""
        return [sys.executable, str(self.project / "src" / "run.py"), "-m", "hydra/launcher=slurm", *SMALL, *overrides]

    def launch(self, *overrides: str) -> Launch:
        """Start a launch and return at once."""
        output = self.folder / f"launch-{len(self.launches)}.txt"
        with output.open("w") as file:
            process = subprocess.Popen(
                self.command(*overrides),
                cwd=self.folder,
                env=self.lab.env | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                umask=self.umask,
            )
        self.launches.append(Launch(process, output))
        return self.launches[-1]

    def sync(self) -> None:
        """Upload to W&B what is not there yet."""
        done = subprocess.run(
            [sys.executable, "-m", "strive", "sync"], cwd=self.folder, env=self.lab.env | self.environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def steps(self) -> dict[str, int]:
        """Return {cell's name: steps trained so far, also those that were trained twice}."""
        return {path.name: len(path.read_text().splitlines()) for path in sorted((self.folder / "steps").iterdir())}

    def processes(self) -> dict[str, int]:
        """Return {cell's name: processes that have trained it}."""
        return {path.name: len(set(path.read_text().split())) for path in (self.folder / "steps").iterdir()}

    def hold(self, step: int, *names: str) -> None:
        """Let cells stop in this step of a process, until `release`."""
        for name in names:
            (self.folder / "hold" / name).write_text(str(step))

    def await_hold(self, timeout: float = 120) -> None:
        """Wait until the cells that are to be held have come to their step."""
        wanted = {path.name: int(path.read_text()) for path in (self.folder / "hold").iterdir()}

        def held() -> bool:
            assert not any(launch.process.poll() for launch in self.launches), self.told()
            return wanted.items() <= self.steps().items()

        wait_until(held, timeout, lambda: f"{wanted}, it is {self.steps()}\n{self.told()}")

    def release(self) -> None:
        """Let all cells go on."""
        for path in (self.folder / "hold").iterdir():
            path.unlink()

    def records(self) -> dict[str, dict[str, Any]]:
        """Return {cell's name: record}."""
        found = [json.loads(path.read_text()) for path in (self.folder / "runs").glob("*/record.json")]
        return {str(record["config"]["model.kwargs"]["name"]): record for record in found}

    def statuses(self) -> Counter[str]:
        """Return {status: number of records}."""
        return Counter(record["status"] for record in self.records().values())

    def submissions(self) -> list[Path]:
        """Return the folders of the launches that gave jobs to SLURM, the first one first."""
        return sorted(path.parent for path in self.folder.glob("runs/sweeps/*/*/jobs.json"))

    def jobs(self) -> dict[str, list[int]]:
        """Return {job: lines of tasks.jsonl} of all launches."""
        found: dict[str, list[int]] = {}
        for submission in self.submissions():
            found |= read_jobs(submission)
        return found

    def starts(self, job: str) -> list[JobStart]:
        """Return what a job wrote down about its starts."""
        return [start for submission in self.submissions() for start in starts(submission / "logs", job)]

    def await_output(self, launch: Launch, text: str, timeout: float = 60) -> None:
        """Wait until a launcher has said something."""
        wait_until(lambda: text in launch.said(), timeout, lambda: f"{text!r} from the launcher\n{self.told()}")

    def await_terminal(self, terminal: int, text: str, timeout: float = 60) -> str:
        """Read from a terminal until something stands on it, and return what was read."""
        read = ""
        end = time.monotonic() + timeout
        while text not in read:
            if time.monotonic() > end:
                raise TimeoutError(f"waited {timeout:g} s for {text!r} on the terminal; it says: {read}")
            if select.select([terminal], [], [], 0.2)[0]:
                read += os.read(terminal, 4096).decode()
        return read

    def kill_job(self, job: str) -> None:
        """Kill the job's own program and its workers, as somebody on the node could."""
        number = self.lab.run("squeue", "-h", "-j", job, "-o", "%A").strip()
        for pid in self.lab.pids():
            with suppress(OSError):
                environment = f"\0{Path(f'/proc/{pid}/environ').read_text()}"
                if f"\0SLURM_JOB_ID={number}\0" in environment and "\0SLURM_PROCID=" in environment:
                    os.kill(pid, signal.SIGKILL)

    def is_complete(self, *names: str, steps: int = STEPS) -> None:
        """Check that every cell has its result, and that no step was trained twice."""
        assert self.statuses() == {"done": len(names)}, self.told()
        assert self.steps() == dict.fromkeys(sorted(names), steps), self.told()

    def printed(self, log: str) -> str:
        """Return what a job has printed, by the name of its log."""
        return "".join(path.read_text() for path in self.folder.glob(f"runs/sweeps/*/*/logs/{log}"))

    def told(self) -> str:
        """Return what launchers and jobs printed, for a message."""
        jobs = sorted(self.folder.glob("runs/sweeps/*/*/logs/*_log.out"))
        texts = [launch.output for launch in self.launches] + jobs
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in texts)


def clean_up(study: Study) -> None:
    """End what a test has left behind."""
    lab = study.lab
    for launch in study.launches:
        if launch.process.poll() is None:
            launch.process.send_signal(signal.SIGKILL)
            launch.process.wait()
    live = [job for job, state in lab.states().items() if state in ("RUNNING", "PENDING", "SUSPENDED", "COMPLETING")]
    if live:
        for job in live:
            if lab.states().get(job) == "SUSPENDED":
                lab.run("scontrol", "resume", job)
        lab.run("scancel", *live)
        wait_until(lambda: not {lab.states().get(job) for job in live} & {"RUNNING", "COMPLETING"}, 60, "jobs to end")
    for node in lab.nodes:
        if f"slurmd.{node}" not in lab._daemons:
            lab.start_node(node)
    lab.await_nodes()


def group_cannot_write(folder: Path) -> list[str]:
    """Return what below a folder the group cannot read and write."""
    found = [Path(place, name) for place, folders, files in os.walk(folder) for name in [".", *files]]
    closed = [path for path in found if not path.is_symlink() and (path.stat().st_mode & 0o060) != 0o060]
    return [str(path.relative_to(folder)) for path in closed]
