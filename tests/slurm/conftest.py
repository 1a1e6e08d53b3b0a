import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_lab import SlurmLab, needs_slurm
from study import Study, clean_up


@pytest.fixture(scope="session")
def lab() -> Iterator[SlurmLab]:
    """A cluster of three nodes, for all tests of this process."""
    # Not in pytest's folder, whose path is too long for SLURM's sockets.
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    with SlurmLab(folder) as cluster:
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def small_arrays(tmp_path: Path) -> Iterator[Study]:
    """A user's folder on a cluster whose arrays hold three jobs."""
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    with SlurmLab(folder, nodes=1, cpus=8, max_array=3) as cluster:
        mine = Study(cluster, tmp_path)
        yield mine
        clean_up(mine)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def strict_lab() -> Iterator[SlurmLab]:
    """A cluster of one node that binds tasks to their cores, and sends a job's own signal before it preempts it."""
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    further = "SlurmctldParameters=preempt_send_user_signal"
    with SlurmLab(folder, nodes=1, cpus=2, binds=True, further=further) as cluster:
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def signalling(strict_lab: SlurmLab, tmp_path: Path) -> Iterator[Study]:
    """A user's folder on that cluster; at the end no job is left."""
    mine = Study(strict_lab, tmp_path)
    yield mine
    clean_up(mine)


@pytest.fixture
def study(lab: SlurmLab, tmp_path: Path) -> Iterator[Study]:
    """A user's folder; at the end no job is left and every node is up."""
    mine = Study(lab, tmp_path)
    yield mine
    clean_up(mine)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is called test_slurm_* runs on a real SLURM."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.name.startswith("test_slurm_"):
            item.add_marker(needs_slurm)
