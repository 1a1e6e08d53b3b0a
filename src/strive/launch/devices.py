"""GPUs and cores of this machine, shared out among worker processes. Imports no torch."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from strive.processes import usable_cores

MAX_ROOM = 4  # cells that a worker is offered at once where it finds out itself how many are best


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one worker process."""

    gpu: str  # a value for CUDA_VISIBLE_DEVICES; "": no GPU
    threads: int  # CPU threads
    room: int = 1  # cells side by side in the process; 0: as many as it finds to be best


def slots(
    cells_per_device: int, num_cells: int, threads: int = 0, *, device: str = "auto", cores: int = 0
) -> list[Slot]:
    """Return where to train so many cells on this machine, at most one slot for each.

    A GPU has one slot, whose process trains several cells side by side: processes that share a GPU
    take turns. On the CPU each cell has a process of its own.

    cells_per_device: how many at once on a GPU, or on the CPU where no GPU is used; 0 is as many as are
    found to be best on each GPU, or one on each core. threads: of each slot; 0 shares the cores out among
    the slots. device: trainer.device of the cells; cpu leaves the GPUs alone. cores: that may be used;
    0 is all that this process may use.
    """
    cores = cores or usable_cores()
    gpus = [] if device == "cpu" else visible_gpus(os.environ)
    devices = gpus or [""] * (cells_per_device or cores)
    chosen = devices[: max(1, num_cells)]
    room = cells_per_device if gpus else 1
    return [Slot(gpu, threads or max(1, cores // len(chosen)), room) for gpu in chosen]


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that torch would see here, each as a value for CUDA_VISIBLE_DEVICES."""
    if _torch_without_gpus():
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _installed_gpus()
    gpus = []
    for name in map(str.strip, visible.split(",")):
        # As in CUDA, the first name that cannot be one ends the list: "", -1, SLURM's NoDevFiles.
        if not re.fullmatch(r"\d+|(GPU|MIG)-\S+", name):
            break
        gpus.append(name)
    return gpus


def _torch_without_gpus() -> bool:
    try:
        return "+cpu" in metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False


def _installed_gpus() -> list[str]:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed_gpus(listed.stdout) if listed.returncode == 0 else []


def listed_gpus(text: str) -> list[str]:
    """Return the GPUs in what `nvidia-smi -L` printed; the parts of a divided GPU instead of the whole.

    By their UUIDs: nvidia-smi counts GPUs in another order than CUDA does.
    """
    whole: dict[str, list[str]] = {}
    for uuid in re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", text):
        if uuid.startswith("GPU-"):
            whole[uuid] = []
        elif whole:
            whole[next(reversed(whole))].append(uuid)
    return [name for gpu, parts in whole.items() for name in parts or [gpu]]
