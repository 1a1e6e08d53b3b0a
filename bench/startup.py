"""Seconds from the start of `python src/run.py` to its first training step; peak memory of loading images.

python bench/startup.py [--data DIR-OR-ARCHIVE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

RUN = Path(__file__).resolve().parents[1] / "src" / "run.py"
CELL = ("data=digits", "budget=smoke", "model.width=0.125")
_POLL_SECONDS = 0.002


def first_step_seconds(threads: int) -> float:
    """Return the seconds from the start of the process to the end of the first training step.

    With trainer.checkpoint_minutes=0 the cell begins a checkpoint after every step: the first one's
    file shows from outside that the step is over, and the program is what users start.
    """
    with tempfile.TemporaryDirectory() as runs, tempfile.TemporaryFile() as messages:
        logistics = (f"runs={runs}", f"trainer.threads={threads}", "trainer.checkpoint_minutes=0")
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, RUN, *CELL, *logistics], stdout=messages, stderr=messages)
        try:
            while not any(Path(runs).glob("*/claim/*/.checkpoint.pt*")):
                if process.poll() is not None:
                    messages.seek(0)
                    raise SystemExit(f"error: no training step was made:\n{messages.read().decode()}")
                time.sleep(_POLL_SECONDS)
            return time.perf_counter() - started
        finally:
            process.kill()
            process.wait()


def startup_table(repeats: int, threads: int) -> str:
    """Return the table of the seconds to the first step."""
    first_step_seconds(threads)  # makes the caches
    seconds = [first_step_seconds(threads) for _ in range(repeats)]
    cell = " ".join(CELL)
    return (
        "| cell | n | seconds to the end of the first step: median | smallest | largest |\n|---|---|---|---|---|\n"
        f"| {cell} | {repeats} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |"
    )


def memory_table(data: Path) -> str:
    """Return the table of the peak memory of two loads with gcn_zca: the one that makes the cache, the next."""
    lines = [
        "| load with gcn_zca | seconds | peak MB before | peak MB loaded | peak MB with each train image read once |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first, makes the cache", "next, reads the cache"):
            command = [sys.executable, __file__, "--worker", f"--data={data}"]
            environment = os.environ | {"STRIVE_CACHE": cache}
            done = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
            if done.returncode:
                raise SystemExit(f"error: {data} could not be loaded, see above")
            answer = json.loads(done.stdout)
            megabytes = " | ".join(f"{bytes_ / 1e6:.0f}" for bytes_ in answer["peaks"])
            lines.append(f"| {name} | {answer['seconds']:.2f} | {megabytes} |")
    return "\n".join(lines)


def _load(data: Path) -> None:
    """Load the images, in a process of its own, and print seconds and peaks as JSON."""
    # Not above: the parent's memory counts as its children's peak until they replace it.
    import torch

    from allcnn.config import Config, DataConfig, Source, checked
    from allcnn.data.splits import load_splits
    from allcnn.training import peak_memory_bytes

    config = checked(Config(data=DataConfig(source=Source.image_folder, name="bench", root=str(data))))
    device = torch.device("cpu")
    peaks = [peak_memory_bytes(device)]
    started = time.perf_counter()
    train = load_splits(config, device).train
    seconds = time.perf_counter() - started
    peaks.append(peak_memory_bytes(device))
    for _ in train.batches(torch.arange(len(train)).split(128)):
        pass
    peaks.append(peak_memory_bytes(device))
    print(json.dumps({"seconds": seconds, "peaks": peaks}))


def main() -> None:
    """Print the tables, or be the worker that loads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder or archive to load: train/CLASS/FILE and test/CLASS/FILE")
    parser.add_argument("--repeats", type=int, default=5, help="starts that are timed")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the cell; 0 takes every core")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.data and not options.data.exists():
        parser.error(f"--data={options.data} does not exist")
    if options.worker:
        _load(options.data)
        return
    print(startup_table(options.repeats, options.threads))
    if options.data:
        print(f"\n{memory_table(options.data)}")
    print(f"\n{machine(options.threads)}")


if __name__ == "__main__":
    main()
