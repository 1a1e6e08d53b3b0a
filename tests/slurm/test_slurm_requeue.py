"""Jobs that SLURM stops and starts again: their cells go on from the last step, and no step is trained twice."""

import sys
import time

import pytest
from slurm_lab import wait_until
from study import Study

pytestmark = pytest.mark.slow


def test_a_requeued_job_trains_only_what_was_left(study: Study) -> None:
    # The first cell has ended when the job is stopped in the middle of the second.
    study.hold(3, "b")
    launch = study.launch("+model.kwargs.name=a,b", "hydra.launcher.cells_per_job=2")
    study.await_hold()
    (job,) = study.jobs()
    study.lab.run("scontrol", "requeue", job)
    wait_until(lambda: study.starts(job)[0].left, 30, study.told)
    study.release()
    assert launch.ends() == 0, study.told()
    study.is_complete("a", "b")
    assert study.lab.restarts(job) == 1
    assert study.processes() == {"a": 1, "b": 2}
    assert study.records()["b"]["provenance"]["resumes"] == 1
    first, second = study.starts(job)
    assert first.unfinished == second.began
    assert len(first.ended) == len(second.ended) == 1


def test_a_job_that_a_higher_partition_preempts_comes_back_and_goes_on(study: Study) -> None:
    study.hold(2, "a", "b")
    launch = study.launch(
        "+model.kwargs.name=a,b", "hydra.launcher.partition=low", 
        "hydra.launcher.cells_per_job=2", "hydra.launcher.cells_at_once=2",
    )  # fmt: skip
    study.await_hold()
    (job,) = study.jobs()
    # Somebody takes all nodes for a moment.
    study.lab.run("sbatch", "-p", "main", "-N", "3", "--exclusive", "-o", "/dev/null", "--wrap", "srun sleep 2")
    wait_until(lambda: study.starts(job)[0].left, 60, study.told)
    study.release()
    assert launch.ends() == 0, study.told()
    study.is_complete("a", "b")
    assert study.lab.restarts(job) == 1
    assert study.processes() == {"a": 2, "b": 2}, "both were stopped, and both went on"


def test_a_preemption_with_a_warning_is_not_taken_for_the_time_limit(signalling: Study) -> None:
    # submitit takes it for that in a job of ten minutes or less, and ends the job.
    study = signalling
    study.hold(2, "a")
    launch = study.launch(
        "+model.kwargs.name=a", "hydra.launcher.partition=low", "hydra.launcher.timeout_min=10",
        "hydra.launcher.retries.timeout=0",
    )  # fmt: skip
    study.await_hold()
    (job,) = study.jobs()
    study.lab.run("sbatch", "-p", "main", "--exclusive", "-o", "/dev/null", "--wrap", "srun sleep 2")
    wait_until(lambda: study.starts(job)[0].left, 60, study.told)
    study.release()
    assert launch.ends() == 0, study.told()
    study.is_complete("a")
    assert [start.left for start in study.starts(job)] == ["preempted", None]


def test_a_cell_longer_than_the_time_limit_goes_on_in_the_same_job(study: Study) -> None:
    # As in a container, which has none of SLURM's programs.
    container = study.folder / "container"
    container.write_text('#!/bin/sh\nPATH=/nowhere exec "$@"\n')
    container.chmod(0o755)
    # SLURM looks at time limits each 30 s and warns up to a minute early; the shortest limit is a minute.
    study.hold(2, "a")
    launch = study.launch(
        "+model.kwargs.name=a", "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=25",
        f"hydra.launcher.python='{container} {sys.executable}'",
    )  # fmt: skip
    wait_until(lambda: [start for job in study.jobs() for start in study.starts(job) if start.left], 120, study.told)
    study.release()
    assert launch.ends(180) == 0, study.told()
    study.is_complete("a")
    (job,) = study.jobs()
    assert study.lab.restarts(job) >= 1
    assert {start.left for start in study.starts(job)[:-1]} == {"timeout"}


def test_a_suspended_job_is_waited_for_and_not_given_to_anybody_else(study: Study) -> None:
    # Suspended for much longer than its claim lives without a beat.
    arguments = ("+model.kwargs.name=a,b", "trainer.lease_seconds=2", "hydra.launcher.cells_per_job=2")
    study.hold(2, "a")
    first = study.launch(*arguments)
    study.await_hold()
    (job,) = study.jobs()
    study.lab.run("scontrol", "suspend", job)
    study.lab.await_states({job: "SUSPENDED"})
    second = study.launch(*arguments)
    study.await_output(second, "waits for 2 cells of earlier submissions")
    study.release()
    time.sleep(5)  # several looks of both launchers, and several leases
    assert study.steps() == {"a": 2}
    study.lab.run("scontrol", "resume", job)
    assert first.ends() == 0, study.told()
    assert second.ends() == 0, study.told()
    study.is_complete("a", "b")
    assert study.processes() == {"a": 1, "b": 1}
    assert list(study.jobs()) == [job]
