"""Where a table was measured, in the lines that stand under it."""

import os
import shlex
import sys
from datetime import UTC, datetime


def machine(threads: int) -> str:
    """Return the lines: processor, cores, threads, versions, date and the command. 0 threads: every core."""
    # Here and not above: a script that imports torch makes the peak memory of its children larger.
    import torch

    from strive.training import device_name

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return "\n".join(
        (
            f"Machine: {device_name(torch.device('cpu'))}, {cores} cores, {threads or cores} threads{gpu}",
            f"Versions: torch {torch.__version__}, Python {sys.version.partition(' ')[0]}",
            f"Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"Command: `{shlex.join(['python', *sys.argv])}`",
        )
    )
