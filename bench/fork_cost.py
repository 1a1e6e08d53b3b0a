"""Saving by a fork from inside an app's main(), beside the fresh process that each cell has.

python bench/fork_cost.py [--cells 5]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from foreign_app import ENVIRONMENT, SCRIPT, STRIVE, write_app
from machine import machine

APPS = {
    "imports Hydra alone": "",
    "imports torch": "import torch\n",
    "imports torch and pandas": "import torch, pandas\n",
}


def row(name: str, imports: str, cells: int) -> str:
    """Return the table's line for an app with these imports."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_app(folder)
        (folder / "train.py").write_text(imports + SCRIPT)
        _run([sys.executable, "train.py", "-m", *STRIVE, f"seed=range(0,{cells})"], folder)
        (launch,) = (path.parent for path in folder.glob("runs/sweeps/*/*/program.json"))
        worker = [sys.executable, str(Path(__file__).resolve()), "--worker", str(launch)]
        found = json.loads(_run(worker, folder, {"OMP_NUM_THREADS": "1"}).splitlines()[-1])
        wide = json.loads(_run([*worker, "--cells", "1"], folder).splitlines()[-1])
    fork, fresh = (statistics.median(found[kind]) for kind in ("fork", "fresh"))
    threads = f"{found['threads']}, {wide['threads']}"
    return f"| {name} | {fork:.2f} | {fresh:.2f} | {fresh / fork:.1f} | {threads} |"


def _run(command: list[str], folder: Path, more: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT | (more or {}), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def _work(launch: Path, cells: int) -> None:
    """Become the app, and at its main() run each frozen cell by a fork and by a new worker, in turns."""
    from strive import app
    from strive.cells.task import Task, read_tasks
    from strive.json_lines import to_line
    from strive.launch.protocol import TrainRequest

    os.environ["STRIVE_PROGRAM"] = str(launch / "program.json")
    tasks, taken = read_tasks(launch / "tasks.jsonl")[:cells], {"fork": list[float](), "fresh": list[float]()}

    def into(task: Task, runs: str) -> Task:
        return replace(task, settings=replace(task.settings, runs=str(launch / runs)))

    def forked(task: Task) -> None:
        if (child := os.fork()) == 0:
            try:
                app.in_use().trainer().run_cell(app.in_use().of_task(task))
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    def fresh(task: Task) -> None:
        worker = [
            sys.executable,
            "-P",
            "-m",
            "strive.launch.worker",
            str(os.open(os.devnull, os.O_WRONLY)),
            "1",
            "",
            "1",
        ]
        line = to_line(TrainRequest(task=task))
        with subprocess.Popen(
            worker, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[int(worker[4])]
        ) as process:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()
            process.wait()
        os.close(int(worker[4]))

    def at_main() -> None:
        own = sum(thread.name == "ranks" for thread in threading.enumerate())  # strive's, which a fork could do without
        threads = len(os.listdir("/proc/self/task")) - own
        for task in tasks:
            for kind, run in (("fork", forked), ("fresh", fresh)):
                started = time.perf_counter()
                run(into(task, kind))
                taken[kind].append(time.perf_counter() - started)
                record = launch / kind / task.cell / "record.json"
                if not record.exists():
                    raise SystemExit(f"error: no {record}")
        print(json.dumps(taken | {"threads": threads}))

    app.in_use().inside(at_main)


def main() -> None:
    """Print the table, or be the app that forks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=5, help="how often each is timed; the median counts")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cells < 1:
        parser.error("--cells must be at least 1")
    if options.worker:
        _work(options.worker, options.cells)
        return
    print("| app | fork: s a cell | fresh process: s a cell | ratio | threads at main(): OMP_NUM_THREADS=1, without |")
    print("|---|---|---|---|---|")
    for name, imports in APPS.items():
        print(row(name, imports, options.cells), flush=True)
    print(f"\nMedians of {options.cells}, in turns, from the request to the end of the process.\n\n{machine(0)}")


if __name__ == "__main__":
    main()
