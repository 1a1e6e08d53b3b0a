"""What several test files share."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from strive.config import Config, Precision
from strive.sweeping.plan import Plan
from strive.training import Bf16, bf16_of

ROOT = Path(__file__).resolve().parents[1]
# Small enough to train in seconds; every test of a whole cell starts from these.
SMALL = ("data=digits", "preprocess=standardize", "budget=smoke", "model.width=0.125", "trainer.threads=1")

# What may be missing on a machine that checks everything else (conftest.py).
NO_GPU, NO_BF16 = "needs a GPU", "needs native bf16"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
needs_native_bf16 = pytest.mark.skipif(bf16_of(Precision.bf16, torch.device("cpu")) is not Bf16.native, reason=NO_BF16)

MakeConfig = Callable[..., Config]
MakePlan = Callable[..., Plan]
CommandLine = Callable[..., subprocess.CompletedProcess[str]]
