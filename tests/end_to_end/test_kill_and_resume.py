"""Real processes, killed by SIGKILL at random moments, against one that was left alone."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT

from allcnn.config import Precision
from allcnn.training import Bf16, bf16_of

KILLS = 3  # of each net; 12 in all
STEPS_PER_EPOCH = 22  # 1,397 images in batches of 64
NETS = {
    "base": ("model=model_a", "precision=fp32"),
    "strided": ("model=strided_cnn_b", "precision=bf16"),
    "convpool": ("model=convpool_cnn_c", "precision=bf16", "trainer.compile=true"),
    "all_cnn": ("model=all_cnn_c", "precision=bf16", "trainer.compile=true"),
}
COMMON = (
    "data=digits", "preprocess=standardize", "augment=flip_shift", "model.width=0.04", "budget.epochs=6",
    "budget.batch_size=64", "trainer.threads=1", "trainer.checkpoint_minutes=0",
)  # fmt: skip


@dataclass
class Tally:
    """How many processes were killed, and the step at which each later one went on."""

    kills: int = 0
    resumed_at: list[int] = field(default_factory=list)


def start(folder: Path, *overrides: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "run.py"), *COMMON, f"runs={folder}", *overrides],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def starts(folder: Path) -> list[int]:
    """Return the step at which each process so far began to train."""
    logs = list(folder.glob("*/log.txt"))
    return [int(step) for log in logs for step in re.findall(r"(?:starts|resumes) from step (\d+)", log.read_text())]


def first_step(folder: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait until the process has written its first checkpoint, or has ended; return the moment."""
    before = stamp(folder)
    while stamp(folder) == before and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def stamp(folder: Path) -> int:
    try:
        return max((path.stat().st_mtime_ns for path in folder.glob("*/checkpoint.pt")), default=0)
    except FileNotFoundError:  # removed in this moment, because the cell is finished
        return -1


def kill(folder: Path, overrides: tuple[str, ...], after_first_step: float | None, startup: float) -> bool:
    """Start the cell and kill it, in its start-up if after_first_step is None; False if it was finished first."""
    process = start(folder, *overrides)
    if after_first_step is None:
        time.sleep(startup)
    else:
        first_step(folder, process)
        time.sleep(after_first_step)
    finished = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return not finished


def what_counts(folder: Path) -> dict[str, Any]:
    """Return the record's result, the epoch lines and the weights of the one cell in a folder."""
    (cell,) = (path.parent for path in folder.glob("*/record.json"))
    record = json.loads((cell / "record.json").read_text())
    assert record["status"] == "done"
    assert record["provenance"]["inexact"] == []
    return {
        "result": record["metrics"] | record["outputs"],
        "epochs": (cell / "history.jsonl").read_text(),
        "weights": torch.load(cell / "weights.pt", weights_only=True),
        "compiled": record["provenance"]["details"]["compiled"],
    }


def train_with_kills(folder: Path, overrides: tuple[str, ...], kills: int, chance: random.Random) -> Tally:
    """Compare a cell that is killed up to so many times with one that is left alone."""
    whole, broken = folder / "whole", folder / "broken"
    began = time.monotonic()
    process = start(whole, *overrides)
    stepped = first_step(whole, process)
    assert process.wait(timeout=600) == 0
    # Shares of what the whole cell takes, so that the moments fall inside it on any machine.
    longest, startup = (time.monotonic() - stepped) / (KILLS + 1), (stepped - began) / 2
    done = 0
    for number in range(kills):
        # One of three dies before its process has trained a step.
        moment = None if number == 1 else chance.uniform(0, longest)
        done += kill(broken, overrides, moment, chance.uniform(0, startup))
    assert start(broken, *overrides).wait(timeout=600) == 0
    expected, got = what_counts(whole), what_counts(broken)
    assert got["result"] == expected["result"]
    assert got["epochs"] == expected["epochs"]
    assert all(got["weights"][key].equal(value) for key, value in expected["weights"].items())
    # What rounds to bf16 around float32 kernels is not compiled.
    rounded = "precision=bf16" in overrides and bf16_of(Precision.bf16, torch.device("cpu")) is Bf16.rounded
    assert got["compiled"] == ("trainer.compile=true" in overrides and not rounded)
    return Tally(done, starts(broken)[1:])


@pytest.mark.slow
def test_cells_killed_at_random_moments_end_with_the_bits_of_unbroken_ones(tmp_path: Path):
    chance = random.Random()
    tally = Tally()
    for name, overrides in NETS.items():
        kills = seed = 0
        while kills < KILLS:
            # Another seed, where a cell was finished before all its kills: a machine may become faster.
            cell = train_with_kills(tmp_path / f"{name}{seed}", (*overrides, f"seed={seed}"), KILLS - kills, chance)
            kills, seed = kills + cell.kills, seed + 1
            tally.resumed_at += cell.resumed_at
        tally.kills += kills
    print(tally)
    assert tally.kills == KILLS * len(NETS)
    assert sum(step > 0 for step in tally.resumed_at) >= 8
    assert any(step % STEPS_PER_EPOCH for step in tally.resumed_at)
