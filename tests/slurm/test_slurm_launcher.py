"""Launchers that go away while their jobs go on, and come back."""

import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from slurm_lab import wait_until
from study import STEPS, Study

from strive.options import SlurmOptions
from strive.slurm.jobs import continue_command

pytestmark = pytest.mark.slow

TWO_CELLS = ("+model.kwargs.name=a,b",)


def array_of(study: Study) -> str:
    """Return the one array that was submitted."""
    (array,) = {job.partition("_")[0] for job in study.jobs()}
    return array


def test_a_killed_launcher_is_attached_to_by_the_same_command(study: Study) -> None:
    study.hold(2, "a", "b")
    first = study.launch(*TWO_CELLS)
    study.await_hold()
    first.process.send_signal(signal.SIGKILL)
    jobs = study.jobs()
    second = study.launch(*TWO_CELLS)
    study.await_output(second, f"waits for 2 cells of earlier submissions: SLURM job {array_of(study)}")
    study.release()
    assert second.ends() == 0, study.told()
    study.is_complete("a", "b")
    assert study.jobs() == jobs, "nothing was submitted again"
    third = study.launch(*TWO_CELLS)
    assert third.ends() == 0
    assert "2 done already, nothing to train" in third.said()


def test_ctrl_c_without_a_terminal_leaves_the_jobs_alone_and_the_same_command_waits_for_them(study: Study) -> None:
    study.hold(2, "a", "b")
    first = study.launch(*TWO_CELLS)
    study.await_hold()
    first.process.send_signal(signal.SIGINT)
    assert first.ends() == 0, study.told()
    assert f"detached from 2 cells; the same command waits for them again. To cancel: scancel {array_of(study)}" in (
        first.said()
    )
    second = study.launch(*TWO_CELLS)
    study.await_output(second, "waits for 2 cells of earlier submissions")
    study.release()
    assert second.ends() == 0, study.told()
    study.is_complete("a", "b")
    array_of(study)


def test_ctrl_c_on_a_terminal_asks_and_cancels_and_the_same_command_finishes_the_rest(study: Study) -> None:
    study.hold(2, "a", "b")
    terminal, inside = pty.openpty()
    first = subprocess.Popen(
        study.command(*TWO_CELLS), cwd=study.folder, env=study.lab.env | {"OMP_NUM_THREADS": "1", "TERM": "dumb"},
        stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    study.await_terminal(terminal, "SLURM job")
    study.await_hold()
    first.send_signal(signal.SIGINT)
    study.await_terminal(terminal, "c = cancel, d = detach")
    os.write(terminal, b"c\n")
    said = study.await_terminal(terminal, "2 of 2 cells have no result")
    assert first.wait(60) == 1
    os.close(terminal)
    jobs = study.jobs()
    assert f"cancelled SLURM {array_of(study)}" in said
    study.lab.await_states(dict.fromkeys(jobs, "CANCELLED"))
    study.release()
    assert all(2 <= done < STEPS for done in study.steps().values())
    assert study.records() == {}, "cancelled is not failed"
    second = study.launch(*TWO_CELLS)
    assert second.ends() == 0, study.told()
    study.is_complete("a", "b")
    assert len(study.jobs()) == 2 * len(jobs)


def test_a_detached_launch_returns_at_once_and_the_same_command_waits_for_its_jobs(study: Study) -> None:
    study.hold(1, "a", "b")
    first = study.launch(*TWO_CELLS, "hydra.launcher.detach=true")
    assert first.ends() == 0, study.told()
    assert study.records() == {}
    assert re.search(r"detached from 2 cells.*scancel \d+", first.said())
    second = study.launch(*TWO_CELLS, "hydra.launcher.timeout_min=240", "hydra.launcher.partition=low")
    study.await_output(second, "waits for 2 cells of earlier submissions")
    kept = 'in the queue as submitted earlier: 2 cells, with partition="", not low; timeout_min=60, not 240'
    study.await_output(second, f"{kept}. To submit them as this command says: scancel {array_of(study)}, then")
    study.release()
    assert second.ends() == 0, study.told()
    study.is_complete("a", "b")
    array_of(study)


def test_a_job_killed_from_outside_is_noticed_without_sacct_and_its_cell_goes_on(study: Study) -> None:
    study.hold(4, "a")
    launch = study.launch("+model.kwargs.name=a")
    study.await_hold()
    (job,) = study.jobs()
    study.kill_job(job)
    study.release()
    assert launch.ends() == 0, study.told()
    # The step that was in training is trained again.
    study.is_complete("a", steps=STEPS + 1)
    assert f"killed: SLURM job {job} on node1 was killed from outside" in launch.said()
    assert len(study.jobs()) == 2


def test_a_job_that_the_user_cancels_is_not_submitted_again(study: Study) -> None:
    study.hold(2, "a")
    launch = study.launch("+model.kwargs.name=a,b", "hydra.launcher.cells_per_job=2")
    study.await_hold()
    (job,) = study.jobs()
    study.lab.run("scancel", job)
    assert launch.ends() == 1, study.told()
    (name,) = study.records()
    record = study.records()[name]
    assert (name, record["status"]) == ("a", "killed")
    assert record["failure"]["cause"] == f"SLURM job {job} on node1 was cancelled"
    assert f"SLURM job {job} on node1 was cancelled, before the cell began" in launch.said()
    assert list(study.jobs()) == [job]


def test_strive_cancel_leaves_checkpoints_and_no_job_in_the_queue(study: Study) -> None:
    study.hold(2, "a")
    launch = study.launch(*TWO_CELLS, "hydra.launcher.array_parallelism=1")
    study.await_hold()
    first, second = study.jobs()
    (submission,) = study.submissions()
    cancel = subprocess.Popen(
        [sys.executable, "-m", "strive", "cancel", submission.parent.name], cwd=study.folder, env=study.lab.env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_until(lambda: study.starts(first)[0].left, 30, study.told)
    study.release()
    said, _ = cancel.communicate(timeout=60)
    assert cancel.returncode == 0, said
    assert "1 with a checkpoint, 1 without" in said
    assert launch.ends() == 1, study.told()
    study.lab.await_states({first: "CANCELLED", second: "CANCELLED"})
    assert study.records() == {}, "cancelled is not failed"


def test_a_command_that_waits_for_jobs_starts_when_they_have_ended_and_submits_its_own(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.hold(1, "a")
    assert study.launch("+model.kwargs.name=a", "hydra.launcher.detach=true").ends() == 0
    (job,) = study.jobs()
    monkeypatch.chdir(study.folder)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, study.lab.env[name])
    _, script, *arguments = study.command("+model.kwargs.name=b")
    monkeypatch.setattr("strive.slurm.jobs.program", lambda: [script])  # this process is pytest
    later = continue_command(arguments, study.folder / "runs" / "sweeps" / "later", SlurmOptions(), after=[job])
    study.await_hold()
    assert study.lab.states()[later] == "PENDING"
    study.release()
    wait_until(lambda: study.statuses()["done"] == 2, 120, study.told)
    study.is_complete("a", "b")
    study.lab.await_states({later: "COMPLETED"})
    assert len(study.jobs()) == 2, "the second from within a job"
