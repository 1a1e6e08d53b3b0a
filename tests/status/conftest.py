import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from planned_runs import Runs


@pytest.fixture
def make_runs(tmp_path: Path) -> Callable[..., Runs]:
    return lambda cells, name="table3": Runs(tmp_path / "runs", cells, name)


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
