"""Cost of a second process of a cell: for each cell, and for each call of strive.save.

python bench/processes.py [--cells 10] [--rounds 3]

The app of foreign_app.py, which computes nothing, one cell at a time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from foreign_app import CORES, ENVIRONMENT, STRIVE, LauncherArm, cells_table
from machine import machine

_ALONE = (*STRIVE, f"hydra.launcher.cpus_per_cell={CORES}")
TWO = LauncherArm(
    name="two processes",
    overrides=(*_ALONE, "hydra.launcher.processes_per_cell=2"),
    one_cell="the same, and a second process that is started with it and ends before it",
)
ONE = LauncherArm(
    name="one process", overrides=_ALONE, one_cell="planned, frozen, leased, run in a process of its own, recorded"
)

CALLS = 5000
SAVES = f"""\
import time
import hydra, strive

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    strive.load()
    started = time.perf_counter()
    for step in range({CALLS}):
        strive.save(lambda path: path.write_text(""))
    return {{"seconds": time.perf_counter() - started}}

if __name__ == "__main__":
    main()
"""


def microseconds_of_save(arm: LauncherArm) -> float:
    """Return how long a call of strive.save takes that writes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(SAVES)
        command = [sys.executable, "train.py", "-m", *arm.overrides]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
        (record,) = Path(folder).glob("runs/*/record.json")
        seconds: float = json.loads(record.read_text())["metrics"]["seconds"]
        return 1e6 * seconds / CALLS


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10, help="cells of a sweep")
    parser.add_argument("--rounds", type=int, default=3, help="how often each arm is timed")
    options = parser.parse_args()
    print(f"{cells_table((TWO, ONE), options.cells, options.rounds)}\n")
    print("| arm | n | strive.save that is not due: median µs | smallest | largest |\n|---|---|---|---|---|")
    for arm in (TWO, ONE):
        times = [microseconds_of_save(arm) for _ in range(options.rounds)]
        print(
            f"| {arm.name} | {options.rounds} | {statistics.median(times):.0f} | {min(times):.0f} | {max(times):.0f} |"
        )
    print(f"\n{machine(0)}")


if __name__ == "__main__":
    main()
