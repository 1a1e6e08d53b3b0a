"""What a process gives those that it starts. Imports no torch."""

import os
from collections.abc import Mapping
from pathlib import Path

import strive


def own_source_first(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a child imports what this process has imported, not what is installed.

    Start Python with -P, too: a file select.py or yaml.py in the current directory is not for it to import.
    """
    source = str(Path(strive.__file__).resolve().parents[1])
    others = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join([source, others] if others else [source])}
