"""The machine and the versions of a measurement, as lines under its table."""

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime


def facts(threads: int) -> dict[str, str]:
    """Return {what: which}: processor, cores, threads, GPU, versions, date and the command. 0 threads: every core."""
    # Here and not above: a script that imports torch makes the peak memory of its children larger.
    import torch

    from allcnn.config import Precision
    from allcnn.training import Bf16, bf16_of, device_name

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    native = bf16_of(Precision.bf16, torch.device("cuda" if gpu else "cpu")) is Bf16.native
    found = {
        "Machine": f"{device_name(torch.device('cpu'))}, {cores} cores, {threads or cores} threads{gpu}",
        "bf16": "native kernels" if native else "rounded around float32 kernels",
        "Unverified here": f"devices {'without' if native else 'with'} native kernels for bf16",
        **_limits(),
        "Versions": f"torch {torch.__version__}, Python {sys.version.partition(' ')[0]}",
    }
    if gpu:
        cudnn = torch.backends.cudnn.version()
        found["GPU"] = f"driver {_driver()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return found | {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Command": f"`{shlex.join(['python', *sys.argv])}`",
    }


def machine(threads: int) -> str:
    """Return the facts, a line each."""
    return "\n".join(f"{what}: {which}" for what, which in facts(threads).items())


def _limits() -> dict[str, str]:
    """Return the environment variables that restrict torch to an older processor's instructions."""
    names = ("STRIVE_BF16", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
    given = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return {"Limited by": " ".join(given)} if given else {}


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"
