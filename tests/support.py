"""What several test files share."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from strive.config import Config
from strive.sweeping.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
# Small enough to train in seconds; every test of a whole cell starts from these.
SMALL = ("data=digits", "preprocess=standardize", "budget=smoke", "model.width=0.125", "trainer.threads=1")

MakeConfig = Callable[..., Config]
MakePlan = Callable[..., Plan]
CommandLine = Callable[..., subprocess.CompletedProcess[str]]
