"""Import path of a user's own modules: the folder that a command was typed in, or its copy in a SLURM job."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator


def user_folder() -> str:
    """Return the folder whose modules can be imported: the current one, as with `python -m`; in a SLURM job a copy."""
    return os.environ.get("STRIVE_MODULES") or os.getcwd()


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Let imports find modules in the user's folder."""
    folder = user_folder()
    sys.path.insert(0, folder)
    # A module written since the last import would otherwise not be seen.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
