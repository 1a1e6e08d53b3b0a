"""Facts on processes: this one's cores and SLURM job, whether another one is alive, what a child needs.

Imports no torch.
"""

import os
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import strive


def usable_cores() -> int:
    """Return how many cores this process may use; on a cluster that is fewer than the node has."""
    # macOS cannot say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def process_peak_bytes() -> int:
    """Return the most memory that this process has had in use."""
    # getrusage only as a fallback: it reports at least the memory that the parent process had in use.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def slurm_job() -> str:
    """Return the id of the SLURM job that this process runs in, such as 12 or 12_3; "" outside one."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array else os.environ.get("SLURM_JOB_ID", "")


def slurm_restarts() -> int:
    """Return how often SLURM has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def slurm_task() -> tuple[int, int]:
    """Return (number of this process's task, number of tasks) of its SLURM step, which has one on each node."""
    return int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def boot_id() -> str:
    """Return what names this start of this machine, or of this container with processes of its own; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Containers of one machine count their processes each for itself.
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; "" for a zombie, None if it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not looked yet.
    return "" if fields[0] in "ZX" else fields[19]


def is_gone(pid: int, started: str) -> bool:
    """Return whether a process of this machine since its boot is certainly gone. started: its start_time.

    A number is given out again, so another process that has it now does not count.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # there is such a process, of another user
    now = start_time(pid)
    # Where /proc hides other users' processes, or is not there, nothing is certain.
    return now is not None and now != started


def own_source_first(environment: Mapping[str, str], further: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment in which a child imports what this process has imported, not what is installed.

    further: folders that it imports from as well.
    Start Python with -P, too: a file select.py or yaml.py in the current directory is not for it to import.
    """
    source = str(Path(strive.__file__).resolve().parents[1])
    others = environment.get("PYTHONPATH")
    folders = dict.fromkeys([source, *further, *([others] if others else [])])
    return {**environment, "PYTHONPATH": os.pathsep.join(folders)}
