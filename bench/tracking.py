"""Cost of W&B: at the start, for each cell, while a cell trains, and with a server that is down.

python bench/tracking.py [--rounds 3] [--epochs 30] [--only start]

The server is the tests' own, on this machine (tests/wandb_peer); it is not W&B's, and no network is involved.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from wandb_peer import Peer  # noqa: E402

TINY = ("data=digits", "preprocess=standardize", "budget=smoke", "model.width=0.125", "trainer.threads=1")
LONG = ("data=digits", "preprocess=standardize", "budget.batch_size=64", "model.width=0.25")
FEW, MANY = 4, 20  # cells of the two sweeps whose difference is what one more cell costs


def seconds(runs: Path, environ: dict[str, str], *overrides: str) -> float:
    """Return how long a training takes."""
    command = [sys.executable, str(ROOT / "src" / "run.py"), *overrides, f"runs={runs}"]
    return _timed(command, environ)


def sync_seconds(runs: Path, environ: dict[str, str], project: str) -> float:
    """Return how long `strive sync` takes."""
    return _timed([sys.executable, "-m", "strive", "sync", "--runs", str(runs), "--project", project], environ)


def _timed(command: list[str], environ: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"error: {' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - started


@contextmanager
def fresh() -> Iterator[Path]:
    """Make a folder for runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "runs"


def sweep_seconds(cells: int, environ: dict[str, str], tracker: str) -> float:
    """Return how long a sweep of tiny cells takes, from the command to its table."""
    with fresh() as runs:
        return seconds(runs, environ, "-m", *TINY, f"seed=range({cells})", f"tracker={tracker}")


def train_seconds(epochs: int, environ: dict[str, str], tracker: str) -> float:
    """Return the seconds that a cell on all cores spent in its training steps, as its record says."""
    with fresh() as runs:
        seconds(runs, environ, *LONG, f"budget.epochs={epochs}", f"tracker={tracker}")
        (record,) = runs.glob("*/record.json")
        return float(json.loads(record.read_text())["provenance"]["seconds"])


def start_table(rounds: int, environ: dict[str, str]) -> str:
    """Return the table of what a sweep and one more of its cells cost more with W&B than without."""
    extra: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(rounds):
        for cells in extra:
            extra[cells].append(sweep_seconds(cells, environ, "wandb") - sweep_seconds(cells, environ, "none"))
    few, many = (statistics.median(extra[cells]) for cells in (FEW, MANY))
    each = (many - few) / (MANY - FEW)
    return (
        "| | seconds more than with tracker=none, median | smallest | largest |\n|---|---|---|---|\n"
        f"| sweep of {FEW} tiny cells | {few:.2f} | {min(extra[FEW]):.2f} | {max(extra[FEW]):.2f} |\n"
        f"| sweep of {MANY} tiny cells | {many:.2f} | {min(extra[MANY]):.2f} | {max(extra[MANY]):.2f} |\n"
        f"| so one more cell | {each:.3f} | | |"
    )


def training_table(rounds: int, epochs: int, environ: dict[str, str]) -> str:
    """Return the table of training time with W&B as a share of that without, in turns."""
    ratios, plain = [], []
    for _ in range(rounds):
        without = train_seconds(epochs, environ, "none")
        ratios.append(train_seconds(epochs, environ, "wandb") / without)
        plain.append(without)
    return (
        "| cell | training steps without W&B, s | with W&B, as a share: median | smallest | largest |\n"
        "|---|---|---|---|---|\n"
        f"| {' '.join(LONG)} budget.epochs={epochs} | {statistics.median(plain):.1f} |"
        f" {statistics.median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f} |"
    )


def down_table(rounds: int, environ: dict[str, str]) -> str:
    """Return the table of what a server that is down costs a sweep, all in all."""
    lines = ["| server | seconds more than with tracker=none, median | smallest | largest |", "|---|---|---|---|"]
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        places = {
            "refuses connections": "http://127.0.0.1:9",
            "never answers": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        for name, url in places.items():
            extra = [
                sweep_seconds(FEW, environ | {"WANDB_BASE_URL": url}, "auto") - sweep_seconds(FEW, environ, "none")
                for _ in range(rounds)
            ]
            lines.append(f"| {name} | {statistics.median(extra):.1f} | {min(extra):.1f} | {max(extra):.1f} |")
    return "\n".join(lines)


def sync_table(rounds: int, environ: dict[str, str]) -> str:
    """Return the table of uploading 40 cells of results/table3_small, and of finding that all are there."""
    first, again = [], []
    for number in range(rounds):
        with fresh() as runs:
            for record in sorted((ROOT / "results" / "table3_small").glob("*/record.json"))[:40]:
                shutil.copytree(record.parent, runs / record.parent.name)
            first.append(sync_seconds(runs, environ, f"sync{number}"))
            again.append(sync_seconds(runs, environ, f"sync{number}"))
    return (
        "| `strive sync`, 40 cells | seconds, median |\n|---|---|\n"
        f"| first | {statistics.median(first):.1f} |\n| again | {statistics.median(again):.1f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind, in turns (default: 3)")
    parser.add_argument("--epochs", type=int, default=30, help="of the cell whose training is timed (default: 30)")
    parser.add_argument("--only", choices=["start", "training", "down", "sync"], help="one table instead of all")
    options = parser.parse_args(arguments)
    with Peer() as peer, tempfile.TemporaryDirectory() as home:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        environ |= peer.environ | {"HOME": home, "STRIVE_CACHE": os.environ.get("STRIVE_CACHE", f"{home}/cache")}
        tables = {
            "start": lambda: start_table(options.rounds, environ),
            "training": lambda: training_table(options.rounds, options.epochs, environ),
            "down": lambda: down_table(options.rounds, environ),
            "sync": lambda: sync_table(options.rounds, environ),
        }
        sweep_seconds(FEW, environ, "none")  # makes the caches
        for name in [options.only] if options.only else tables:
            print(tables[name](), end="\n\n", flush=True)
    print(machine(0))


if __name__ == "__main__":
    main()
