"""Machine and libraries of this process for a record, as far as they are known without the app."""

import json
import os
import sys
from contextlib import suppress
from typing import Any

from strive.processes import process_peak_bytes, processor, usable_cores

# What the platform imports; no number of an app depends on it.
_OWN = {"strive", "filelock", "hydra", "msgspec", "omegaconf", "platformdirs", "rich", "submitit", "yaml"}


GIVEN = "STRIVE_GIVEN"  # what a launcher gave to a process, as JSON


def given() -> dict[str, Any]:
    """Return what the launcher gave to this process, for the field of a record's provenance; {} without a launcher."""
    found: dict[str, Any] = json.loads(os.environ.get(GIVEN) or "{}")
    return found


def surroundings() -> dict[str, Any]:
    """Return the fields device, threads, given, packages and peak_memory_bytes of a record's provenance."""
    return {
        "given": given(),
        "device": _device(),
        "threads": _threads(),
        "packages": imported_packages(),
        "peak_memory_bytes": process_peak_bytes(),
    }


def imported_packages() -> dict[str, str]:
    """Return {package: version} of the libraries that this process has imported and that say their version."""
    found = {}
    for name, module in list(sys.modules.items()):
        if "." in name or name.startswith("_") or name in _OWN or name in sys.stdlib_module_names:
            continue
        # Not getattr, which makes some packages import others.
        version = getattr(module, "__dict__", {}).get("__version__")
        if version is not None:
            found[name] = str(version)
    return dict(sorted(found.items()))


def _device() -> str:
    """Return the name of the GPU that torch uses, or else of the processor."""
    torch = sys.modules.get("torch")
    with suppress(Exception):  # a library of the app in any state
        if torch is not None and torch.cuda.is_initialized():
            return str(torch.cuda.get_device_name())
    return processor()


def _threads() -> int:
    torch = sys.modules.get("torch")
    with suppress(Exception):
        if torch is not None:
            return int(torch.get_num_threads())
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() else usable_cores()
