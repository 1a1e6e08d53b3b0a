from pathlib import Path

import pytest

from strive.cells.records import Status
from strive.slurm.job_log import JobLog
from strive.slurm.job_outcome import LostCell, informative_line, lost_cells
from strive.slurm.squeue import JobInfo, JobPhase

CELLS = ["a", "b", "c"]


def gone(state: str) -> JobInfo:
    return JobInfo(phase=JobPhase.gone, state=state, node="node1")


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """One with a job that had begun with two of its three cells, and ended one of them."""
    log = JobLog(tmp_path / "logs", "12_3", 0)
    log.write("start", job="12_3", restart=0, node="node1")
    log.running(["a", "b"])
    log.write("ended", cell="a", status="done", cause="", log="")
    return tmp_path


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("TIMEOUT", Status.timeout),
        ("PREEMPTED", Status.preempted),
        ("NODE_FAIL", Status.node_fail),
        ("BOOT_FAIL", Status.node_fail),
        ("OUT_OF_MEMORY", Status.out_of_memory),
        ("CANCELLED", Status.killed),
        ("FAILED", Status.killed),
        ("COMPLETED", Status.error),
        ("", Status.node_fail),
    ],
)
def test_slurms_last_word_says_what_failed(submission: Path, state: str, status: Status) -> None:
    found = lost_cells("12_3", gone(state), ["b"], submission)
    assert found["b"].status is status
    assert "SLURM job 12_3" in found["b"].cause


def test_only_cells_that_had_begun_are_to_blame(submission: Path) -> None:
    found = lost_cells("12_3", gone("OUT_OF_MEMORY"), ["b", "c"], submission)
    cause = "SLURM job 12_3 on node1 took more memory than it had asked for"
    log = str(submission / "logs" / "12_3_0_log.out")
    assert found == {
        "b": LostCell(Status.out_of_memory, cause, log),
        "c": LostCell(None, f"{cause}, before the cell began", log),
    }


def test_a_job_that_ends_before_any_cell_begins_is_the_nodes_fault(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "12_3_0_log.out").write_text(
        "bash: module: command not found\nModuleNotFoundError: No module named 'strive'\n"
        "srun: error: node1: task 0: Exited with exit code 1\n"
    )
    for state in ("FAILED", "COMPLETED", "NODE_FAIL", "LAUNCH_FAILED"):
        found = lost_cells("12_3", gone(state), CELLS, tmp_path)
        assert {(lost.status, lost.bad_node, lost.again) for lost in found.values()} == {(None, "node1", True)}, state
    assert lost_cells("12_3", gone("FAILED"), CELLS, tmp_path)["a"].cause == (
        "SLURM job 12_3 on node1 ended as FAILED: ModuleNotFoundError: No module named 'strive'"
    )


@pytest.mark.parametrize(("state", "status"), [("OUT_OF_MEMORY", Status.out_of_memory), ("TIMEOUT", Status.timeout)])
def test_what_a_job_asked_for_is_as_wrong_on_another_node(tmp_path: Path, state: str, status: Status) -> None:
    found = lost_cells("12_3", gone(state), CELLS, tmp_path)
    assert {(lost.status, lost.bad_node) for lost in found.values()} == {(status, "")}


def test_a_job_that_dies_between_two_cells_is_nobodys_fault(tmp_path: Path) -> None:
    log = JobLog(tmp_path / "logs", "12_3", 0)
    log.write("start", job="12_3", restart=0, node="node1")
    log.running(["a"])
    log.write("ended", cell="a", status="done", cause="", log="")
    lost = lost_cells("12_3", gone("FAILED"), ["b"], tmp_path)["b"]
    assert (lost.status, lost.bad_node, lost.again) == (None, "", True)


def test_a_node_on_which_no_worker_starts_is_to_blame_also_after_some_cells(submission: Path) -> None:
    JobLog(submission / "logs", "12_3", 0).write("unfit", cause="worker 0 does not start: no torch")
    found = lost_cells("12_3", gone("FAILED"), ["b", "c"], submission)
    assert found["b"].status is Status.killed, "it had begun"
    assert (found["c"].status, found["c"].bad_node) == (None, "node1")
    assert found["c"].cause == "SLURM job 12_3 on node1: worker 0 does not start: no torch"


def test_a_cancelled_job_is_not_wanted_back(submission: Path, tmp_path: Path) -> None:
    found = lost_cells("12_3", gone("CANCELLED"), ["b", "c"], submission)
    assert {lost.again for lost in found.values()} == {False}
    assert (found["b"].status, found["c"].status) == (Status.killed, None)
    assert lost_cells("13", gone("CANCELLED"), ["a"], tmp_path)["a"].status is None, "it was cancelled in the queue"


def test_a_job_that_could_not_put_itself_back_says_why_it_stopped(submission: Path) -> None:
    JobLog(submission / "logs", "12_3", 0).write("left", status="timeout", cause="the time limit of 60 min")
    lost = lost_cells("12_3", gone("FAILED"), ["b"], submission)["b"]
    assert (lost.status, lost.cause) == (Status.timeout, "SLURM job 12_3 on node1 stopped: the time limit of 60 min")


def test_a_cell_that_no_worker_takes_is_not_sent_again(submission: Path) -> None:
    JobLog(submission / "logs", "12_3", 0).write("refused", cell="c", cause="it was launched with code 1, this is 2")
    lost = lost_cells("12_3", gone("FAILED"), ["c"], submission)["c"]
    assert (lost.status, lost.again, lost.cause) == (None, False, "it was launched with code 1, this is 2")


def test_a_job_of_a_submission_that_was_cleared_away_still_has_a_verdict() -> None:
    assert lost_cells("12_3", gone("TIMEOUT"), ["a"], None)["a"].status is Status.timeout


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Traceback ...\nOSError: no space\nsrun: error: n1: task 0: Exited with exit code 1\n", "OSError: no space"),
        ("slurmstepd: error: Detected 1 oom-kill event\nsrun: error: n1: task 0: Killed\n\n",
         "slurmstepd: error: Detected 1 oom-kill event"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_line_that_says_most_is_shown(text: str, line: str) -> None:
    assert informative_line(text) == line


def test_a_job_whose_program_ended_without_a_word_was_killed(submission: Path) -> None:
    log = submission / "logs" / "12_3_0_log.out"
    log.write_text("submitit INFO - Starting\na: done\nsrun: error: node1: task 0: Killed\n")
    assert lost_cells("12_3", gone("FAILED"), ["b"], submission)["b"].status is Status.killed
    log.write_text("a: done\nTraceback (most recent call last):\n  File ...\nOSError: no space\n")
    lost = lost_cells("12_3", gone("FAILED"), ["b"], submission)["b"]
    assert (lost.status, lost.cause) == (Status.error, "SLURM job 12_3 on node1 ended as FAILED: OSError: no space")


def test_a_cell_that_another_process_has_is_sent_again(submission: Path) -> None:
    JobLog(submission / "logs", "12_3", 0).write("elsewhere", cell="c")
    lost = lost_cells("12_3", gone("COMPLETED"), ["c"], submission)["c"]
    assert (lost.status, lost.again) == (None, True)
