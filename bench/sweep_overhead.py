"""Seconds that a sweep of trivial cells takes here and on SLURM, with strive's launchers and with Hydra's own.

python bench/sweep_overhead.py [--cells 100] [--rounds 3] [--slurm]
"""

import argparse
import importlib.util
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parents[1]
# One step of the smallest net that there is: what remains is what a launcher adds.
NET = """\
from torch import nn
def linear(num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))
"""
CELL = (
    "model=extra/custom",
    "model.builder=trivial:linear",
    "data=digits",
    "preprocess=standardize",
    "budget=smoke",
    "budget.epochs=1",
    "budget.batch_size=1397",  # every training image
    "trainer.threads=1",
)
CELLS_PER_JOB = 10
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LauncherArm:
    """One way to train the cells."""

    name: str
    overrides: tuple[str, ...]
    one_cell: str  # what happens for one of its cells
    starts: Callable[[int], int]  # of Python with torch, for so many cells
    slurm: bool = False


ARMS = (
    LauncherArm(
        name="strive, local",
        overrides=(),
        one_cell="planned, frozen, claimed and trained by a worker process that has trained others before; one worker"
        " for each core, so several cells at once",
        starts=lambda cells: 1 + min(cells, CORES),
    ),
    LauncherArm(
        name="Hydra's basic launcher",
        overrides=("hydra/sweeper=basic", "hydra/launcher=basic"),
        one_cell="composed twice, then trained by src/run.py's main in the launching process, one after the other",
        starts=lambda cells: 1,
    ),
    LauncherArm(
        name=f"strive, SLURM, {CELLS_PER_JOB} cells a job",
        overrides=("hydra/launcher=slurm", f"hydra.launcher.cells_per_job={CELLS_PER_JOB}"),
        one_cell="as with strive, local, in a job that starts Python and torch once for its cells; code frozen at"
        " submission",
        starts=lambda cells: 1 + math.ceil(cells / CELLS_PER_JOB),
        slurm=True,
    ),
    LauncherArm(
        name="hydra-submitit-launcher, SLURM",
        overrides=(
            "hydra/sweeper=basic", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60",
            "hydra.sweep.dir=multirun", "hydra.sweep.subdir=${hydra.job.num}",
        ),
        one_cell="composed twice, then trained by src/run.py's main in a job of its own, which starts Python and torch",
        starts=lambda cells: 1 + cells,
        slurm=True,
    ),
)  # fmt: skip


def seconds(arm: LauncherArm, cells: int, environment: Mapping[str, str]) -> float:
    """Return the seconds from the start of the command to its end, with a runs folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "trivial.py").write_text(NET)
        grid = (*CELL, f"seed=range(0,{cells})")
        command = [sys.executable, str(ROOT / "src" / "run.py"), "-m", *grid, f"runs={folder}/runs", *arm.overrides]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        taken = time.perf_counter() - started
        trained = len(list(Path(folder, "runs").glob("*/weights.pt")))
        if done.returncode or trained != cells:
            raise SystemExit(
                f"error: {arm.name} trained {trained} of {cells} cells and ended with {done.returncode}:\n{done.stderr}"
            )
    return taken


def start_seconds() -> float:
    """Return the processor seconds that one start of Python with torch and strive takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import allcnn.training_pack"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(arms: Sequence[LauncherArm], cells: int, rounds: int, environment: Mapping[str, str]) -> str:
    """Measure the arms in turns, and return the table."""
    for arm in arms:
        seconds(arm, 1, environment)  # makes the caches
    taken: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(rounds):
        for arm in arms:
            taken[arm.name].append(seconds(arm, cells, environment))
            print(f"round {number + 1} of {rounds}: {arm.name}: {taken[arm.name][-1]:.1f} s", file=sys.stderr)
    lines = [
        f"| arm | n | {cells} cells: median s | smallest | largest | s a cell | starts of torch |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        times = taken[arm.name]
        median = statistics.median(times)
        lines.append(
            f"| {arm.name} | {rounds} | {median:.1f} | {min(times):.1f} | {max(times):.1f} | {median / cells:.3f} |"
            f" {arm.starts(cells)} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "A cell is a linear net on digits, one epoch of one step, from its config to its record with log, weights,"
            " predictions; all arms train it by the same function. The seconds are those of the whole command."
            f" One start of Python with torch takes {start_seconds():.1f} s of a core, and there are {CORES} cores."
            " What one cell is in each arm:",
            "",
            *(f"- {arm.name}: {arm.one_cell}." for arm in arms),
        ]
    )


@contextmanager
def slurm() -> Iterator[Mapping[str, str]]:
    """Yield the environment of the SLURM that SLURM_CONF names, or of a throw-away one."""
    if "SLURM_CONF" in os.environ:
        yield os.environ
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm_lab import SlurmLab

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # munged refuses a socket that others cannot reach
        with SlurmLab(Path(folder) / "slurm") as lab:
            yield lab.env


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100, help="cells of a sweep")
    parser.add_argument("--rounds", type=int, default=3, help="how often each arm is timed")
    parser.add_argument(
        "--slurm", action="store_true", help="on SLURM too: that of SLURM_CONF, or a throw-away one on this machine"
    )
    parser.add_argument("--only", help="time only the arms whose name contains this")
    options = parser.parse_args()
    if min(options.cells, options.rounds) < 1:
        parser.error("--cells and --rounds must be at least 1")
    arms = [arm for arm in ARMS if options.slurm or not arm.slurm]
    if options.slurm and importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        print("hydra-submitit-launcher is not installed (pip install hydra-submitit-launcher): its arm is left out")
        arms = [arm for arm in arms if "submitit_slurm" not in " ".join(arm.overrides)]
    arms = [arm for arm in arms if not options.only or options.only in arm.name]
    if not arms:
        parser.error(f"--only={options.only} leaves no arm")
    if any(arm.slurm for arm in arms):
        with slurm() as environment:
            print(table(arms, options.cells, options.rounds, environment))
    else:
        print(table(arms, options.cells, options.rounds, os.environ))
    print(f"\n{machine(0)}")


if __name__ == "__main__":
    main()
