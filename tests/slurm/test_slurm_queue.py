"""Answers of a real SLURM, read by the code that depends on them."""

import pytest
from slurm_lab import SlurmLab, wait_until

from strive.slurm.squeue import JobPhase, SlurmQueue, limits


@pytest.fixture
def here(lab: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> SlurmLab:
    """The cluster, for this very process to ask."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, lab.env[name])
    return lab


def submit(lab: SlurmLab, *options: str, seconds: int = 300) -> str:
    return lab.run("sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", f"exec sleep {seconds}").strip()


def test_jobs_of_every_kind_are_told_apart(here: SlurmLab) -> None:
    array, single, held, last = submit(here, "--array=0-4%2"), submit(here), submit(here, "--hold"), submit(here)
    jobs = [f"{array}_{index}" for index in range(5)] + [single, held, last, "99999"]
    here.await_states({f"{array}_0": "RUNNING", f"{array}_1": "RUNNING", single: "RUNNING", last: "RUNNING"})
    here.run("scontrol", "suspend", single)
    here.run("scancel", last)
    here.await_states({single: "SUSPENDED", last: "CANCELLED"})
    slurm = SlurmQueue()
    for _ in range(3):
        infos = slurm.ask(jobs)
    assert [infos[job].phase.value for job in jobs] == [
        "running", "running", "pending", "pending", "pending", "suspended", "pending", "gone", "gone",
    ]  # fmt: skip
    assert infos[f"{array}_3"].reason == "JobArrayTaskLimit"
    assert infos[held].reason == "JobHeldUser"
    assert infos[f"{array}_0"].node in here.nodes
    assert (infos[last].state, infos["99999"].state) == ("CANCELLED", "")
    assert set(slurm.live_now(jobs)) == set(jobs) - {last, "99999"}
    here.run("scontrol", "resume", single)
    here.run("scancel", array, single, held)
    assert limits().array_size == 1001


@pytest.mark.slow
def test_a_controller_that_is_away_gives_no_verdict(here: SlurmLab) -> None:
    job = submit(here)
    here.await_states({job: "RUNNING"})
    slurm = SlurmQueue()
    assert slurm.ask([job])[job].phase is JobPhase.running
    here.stop_controller()
    try:
        assert slurm.ask([job])[job].phase is JobPhase.unknown
    finally:
        here.start_controller()
        here.await_nodes()
    wait_until(lambda: slurm.ask([job])[job].phase is JobPhase.running, 30, "the job again")
    here.run("scancel", job)
