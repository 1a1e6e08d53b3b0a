"""A cluster that keeps accounts: sacct answers, and a user's jobs are limited."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from slurm_lab import SlurmLab, wait_until
from study import Study, clean_up

from strive.config.platform_keys import NeedsConfig
from strive.errors import TooManyJobsError
from strive.options import SlurmOptions
from strive.slurm import sbatch
from strive.slurm.jobs import _parameters, needs_of
from strive.slurm.squeue import SlurmQueue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def accounts() -> Iterator[SlurmLab]:
    """A cluster that forgets jobs at once, and lets nobody have more than three in the queue."""
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    further = "AccountingStorageEnforce=associations,limits"
    with SlurmLab(folder, nodes=1, accounting=True, forget_seconds=2, further=further) as cluster:
        cluster.run("sacctmgr", "-i", "add", "account", "us")
        cluster.run("sacctmgr", "-i", "add", "user", "root", "account=us")
        cluster.run("sacctmgr", "-i", "modify", "user", "root", "where", "account=us", "set", "MaxSubmitJobs=3")
        cluster.run("sacctmgr", "-i", "add", "account", "group", "GrpSubmitJobs=2")
        cluster.run("sacctmgr", "-i", "add", "user", "root", "account=group")
        yield cluster
    shutil.rmtree(folder)


def test_sacct_knows_the_end_of_jobs_that_squeue_has_forgotten(
    accounts: SlurmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, accounts.env[name])
    batch = ("sbatch", "--parsable", "-A", "us", "-o", "/dev/null")
    array = accounts.run(*batch, "--array=0-1", "--wrap", "true").strip()
    cancelled = accounts.run(*batch, "--wrap", "exec sleep 300").strip()
    accounts.await_states({cancelled: "RUNNING"})
    accounts.run("scancel", cancelled)
    jobs = [f"{array}_0", f"{array}_1", cancelled]
    wait_until(lambda: not set(jobs) & set(accounts.states()), 120, "slurmctld to forget the jobs")
    slurm = SlurmQueue()
    for _ in range(3):
        infos = slurm.ask(jobs)
    assert [infos[job].state for job in jobs] == ["COMPLETED", "COMPLETED", "CANCELLED"]


def test_more_jobs_than_a_user_may_have_go_in_as_others_end(accounts: SlurmLab, tmp_path: Path) -> None:
    study = Study(accounts, tmp_path)
    try:
        launch = study.launch("+model.kwargs.name=range(5)", "hydra.launcher.account=us")
        assert launch.ends(180) == 0, study.told()
        study.is_complete(*map(str, range(5)))
        assert "AssocMaxSubmitJobLimit" in launch.said()
        assert len(study.jobs()) == 5
    finally:
        clean_up(study)


def test_what_a_full_queue_does_not_take_is_submitted_after_the_launch_has_detached(
    accounts: SlurmLab, tmp_path: Path
) -> None:
    # As sbatch -M, squeue -M and so on: SLURM's programs then look the cluster up, and say its name.
    study = Study(accounts, tmp_path, environ={"SLURM_CLUSTERS": "lab"})
    try:
        launch = study.launch("+model.kwargs.name=range(4)", "hydra.launcher.account=us", "hydra.launcher.detach=true")
        assert launch.ends() == 0, study.told()
        assert "submits 2 cells more as others end" in launch.said()
        wait_until(lambda: study.statuses()["done"] == 4, 120, study.told)
        study.is_complete(*map(str, range(4)))
    finally:
        clean_up(study)


def test_a_limit_of_a_whole_group_is_waited_for_too(
    accounts: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, accounts.env[name])
    options = SlurmOptions(account="group", additional_parameters={"hold": True})
    parameters = _parameters(needs_of(NeedsConfig(timeout_min=5), options), options, [])
    functions = [partial(print)] * 3
    with pytest.raises(TooManyJobsError, match="AssocGrpSubmitJobsLimit") as error:
        sbatch.submit(tmp_path, parameters, functions, sbatch.new_mark(), again=False)
    assert error.value.has_room_later
    jobs = sbatch.submit(tmp_path, parameters, functions[:2], sbatch.new_mark(), again=False)
    accounts.run("scancel", *jobs)
