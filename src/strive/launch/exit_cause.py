"""Reads from a process's exit code why it ended. Imports no torch."""

import signal
from pathlib import Path

from strive.cells.records import Status

_VMSTAT = Path("/proc/vmstat")
_CGROUP = Path("/proc/self/cgroup")
# Sent by people, schedulers and limits; the other signals are a fault of the program.
_SENT = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM"}


def oom_kills() -> int:
    """Return how often the kernel has killed a process of this machine because memory ran out; 0 if unknown."""
    if (count := _count(_VMSTAT)) is not None:
        return count
    try:
        lines = _CGROUP.read_text().splitlines()
    except OSError:
        return 0
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    return _count(Path(f"/sys/fs/cgroup{own}/memory.events")) or 0


def exit_status(returncode: int, *, out_of_memory: bool) -> tuple[Status, str]:
    """Return the status of the cell that a process was training when it ended, and one line on why.

    out_of_memory: the kernel has killed some process meanwhile because memory ran out.
    """
    if returncode >= 0:
        return Status.error, f"its process ended itself with exit code {returncode}"
    if returncode == -signal.SIGKILL and out_of_memory:
        return Status.out_of_memory, "the kernel killed its process: the machine, or its cgroup, ran out of memory"
    name = signal_name(-returncode)
    return (Status.killed if name in _SENT else Status.error), f"its process was ended by {name}"


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
