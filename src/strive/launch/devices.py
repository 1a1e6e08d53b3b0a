"""GPUs and cores of this machine, shared out among worker processes. Imports no torch."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from strive.cells.settings import Settings
from strive.errors import ConfigError
from strive.format import counted
from strive.options import CellOptions
from strive.processes import usable_cores

MAX_ROOM = 4  # cells that a worker is offered at once where it finds out itself how many are best


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one worker process."""

    gpus: str | None  # a value for CUDA_VISIBLE_DEVICES; "": the process is to see none; None: there are none
    threads: int  # CPU threads of each process
    room: int = 1  # cells side by side in the process; 0: as many as it finds to be best


def slots(
    options: CellOptions,
    num_cells: int,
    *,
    side_by_side: bool,
    threads: int = 0,
    device: str = "auto",
    cores: int = 0,
) -> list[Slot]:
    """Return where to train so many cells on this machine, at most one slot for each.

    A group of gpus_per_cell GPUs has one slot, or without GPUs cpus_per_cell cores have one. Cells that share a GPU
    train side by side in one process where the app can do that, because processes that share a GPU take turns; else
    each has a slot of its own.

    side_by_side: whether the app's process can train several cells at once. threads: of each process, before what the
    options say. device: trainer.device of the cells; cpu leaves the GPUs alone. cores: that may be used; 0 is all
    that this process may use.

    Raises ConfigError for more GPUs or cores in a cell than there are.
    """
    cores = cores or usable_cores()
    if options.cpus_per_cell > cores:
        raise ConfigError(
            f"hydra.launcher.cpus_per_cell={options.cpus_per_cell}, but only {cores} cores may be used here"
        )
    none = "" if device == "cpu" or not options.num_gpus else None
    gpus = [] if none == "" else _groups(visible_gpus(os.environ), options)
    shared = options.cells_per_gpu if side_by_side else 1  # by the cells of one process
    if gpus:
        devices: list[str | None] = [*gpus] * (1 if side_by_side else options.cells_per_gpu or 1)
    else:
        devices = [none] * max(1, cores // options.num_cpus)
    chosen = devices[: max(1, num_cells)]
    threads = threads or max(1, (options.cpus_per_cell or cores // len(chosen)) // options.processes_per_cell)
    return [Slot(each, threads, shared if gpus else 1) for each in chosen]


def slots_for(cells: Sequence[Settings], options: CellOptions, *, side_by_side: bool) -> list[Slot]:
    """Return where to train cells with these settings, as `slots`."""
    # A device has to be chosen before torch is there: trainer.device=cpu leaves the GPUs alone.
    device = "cpu" if all(each.device == "cpu" for each in cells) else "auto"
    threads = max((each.threads for each in cells), default=0)
    return slots(options, len(cells), side_by_side=side_by_side, threads=threads, device=device)


def _groups(gpus: list[str], options: CellOptions) -> list[str]:
    """Return the GPUs of each cell, as values for CUDA_VISIBLE_DEVICES. What does not fill a group stays unused."""
    size = options.num_gpus
    if len(gpus) < size and (gpus or (options.gpus_per_cell or 1) > 1):
        raise ConfigError(
            f"a cell has {size} GPUs (hydra.launcher.gpus_per_cell, or else processes_per_cell), but"
            f" {_source(len(gpus))}"
        )
    return [",".join(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


def _source(number: int) -> str:
    """Return in words what says how many GPUs there are here."""
    if _torch_without_gpus():
        return "the installed PyTorch is built without GPUs"
    if (names := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return f"CUDA_VISIBLE_DEVICES={names!r} names {counted(number, 'GPU')}"
    return f"nvidia-smi lists {counted(number, 'GPU')} here"


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
