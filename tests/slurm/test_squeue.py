from pathlib import Path

import pytest
from programs import Programs

from strive.errors import QueueError
from strive.slurm import squeue
from strive.slurm.squeue import JobPhase, SlurmQueue, expanded, limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("PATH", str(tmp_path))
    return Programs(tmp_path)


def line(job: str, state: str, node: str = "", reason: str = "None") -> str:
    return f"{job}|{state}|{node}|{reason}|/runs/sweeps/grid/20260101-000000-abcd/logs/job.sh\n"


GONE_FROM_SQUEUE = {"err": "slurm_load_jobs error: Invalid job id specified\n", "rc": 1}


def test_one_call_tells_what_each_job_does(programs: Programs) -> None:
    programs.set(
        "squeue",
        line("7_0", "RUNNING", "node2")
        + line("7_1", "SUSPENDED", "node2")
        + line("7_[2-4%2]", "PENDING", "", "Resources")
        + line("8", "COMPLETING", "node1")
        + line("9", "PENDING", "", "ReqNodeNotAvail, UnavailableNodes:node3"),
    )
    infos = SlurmQueue().ask(["7_0", "7_1", "7_2", "7_3", "7_4", "8", "9"])
    phases = {job: info.phase.value for job, info in infos.items()}
    assert phases == {
        "7_0": "running", "7_1": "suspended", "7_2": "pending", "7_3": "pending", "7_4": "pending",
        "8": "running", "9": "pending",
    }  # fmt: skip
    assert infos["7_0"].node == "node2"
    assert infos["9"].reason == "ReqNodeNotAvail, UnavailableNodes:node3"
    (call,) = programs.calls("squeue")
    assert "-j 7,8,9" in call, "one id stands for all jobs of an array"


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING", "SIGNALING"])
def test_a_passing_state_is_no_end(programs: Programs, state: str) -> None:
    programs.set("squeue", line("7_0", state, "node1"))
    slurm = SlurmQueue()
    for _ in range(10):
        assert slurm.ask(["7_0"])["7_0"].phase in (JobPhase.pending, JobPhase.running)


def test_a_job_at_its_end_is_gone_after_several_looks_in_a_row(programs: Programs) -> None:
    slurm = SlurmQueue()
    programs.set("squeue", line("7_0", "FAILED", "node1"))
    assert [slurm.ask(["7_0"])["7_0"].phase for _ in range(2)] == [JobPhase.unknown] * 2
    # SLURM has put it back into the queue meanwhile.
    programs.set("squeue", line("7_0", "PENDING"))
    assert slurm.ask(["7_0"])["7_0"].phase is JobPhase.pending
    programs.set("squeue", line("7_0", "TIMEOUT", "node2"))
    assert [slurm.ask(["7_0"])["7_0"].phase for _ in range(3)] == [JobPhase.unknown, JobPhase.unknown, JobPhase.gone]
    info = slurm.ask(["7_0"])["7_0"]
    assert (info.state, info.node) == ("TIMEOUT", "node2")


def test_a_job_that_slurm_has_forgotten_is_gone_with_the_end_that_was_seen_last(programs: Programs) -> None:
    slurm = SlurmQueue()
    programs.set("squeue", line("7_0", "FAILED") + line("7_1", "RUNNING"))
    slurm.ask(["7_0", "7_1"])
    programs.set("squeue", **GONE_FROM_SQUEUE)
    for _ in range(3):
        infos = slurm.ask(["7_0", "7_1"])
    assert infos["7_0"].phase is infos["7_1"].phase is JobPhase.gone
    assert infos["7_0"].state == "FAILED"
    assert infos["7_1"].state == "", "that it was running is no end"


@pytest.mark.parametrize(
    "error", ["slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "Socket timed out"]
)
def test_no_answer_is_no_verdict(programs: Programs, error: str) -> None:
    slurm = SlurmQueue()
    programs.set("squeue", err=error, rc=1)
    for _ in range(10):
        assert slurm.ask(["7_0"])["7_0"].phase is JobPhase.unknown
    with pytest.raises(QueueError, match="does not answer"):
        slurm.live_now(["7_0"])


def test_a_squeue_that_hangs_is_no_answer(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squeue, "_CALL_SECONDS", 0.2)
    programs.set("squeue")
    (programs.folder / "squeue").write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    assert SlurmQueue().ask(["7_0"])["7_0"].phase is JobPhase.unknown


def test_without_squeue_the_user_is_told(programs: Programs) -> None:
    with pytest.raises(QueueError, match="no squeue on the PATH"):
        SlurmQueue().ask(["7_0"])


def test_sacct_knows_how_a_forgotten_job_ended(programs: Programs) -> None:
    slurm = SlurmQueue()
    programs.set("squeue", **GONE_FROM_SQUEUE)
    programs.set("sacct", "7_0|COMPLETED\n7_1|CANCELLED by 1000\n7_[2-3%4]|PENDING\n8|NODE_FAIL\n")
    for _ in range(3):
        infos = slurm.ask(["7_0", "7_1", "7_2", "8"])
    assert {job: info.state for job, info in infos.items() if info.phase is JobPhase.gone} == {
        "7_0": "COMPLETED",
        "7_1": "CANCELLED",
        "8": "NODE_FAIL",
    }
    assert infos["7_2"].phase is JobPhase.unknown, "for sacct it waits for its start"
    assert len(programs.calls("sacct")) == 1, "only when squeue had lost the jobs several times in a row"


def test_sacct_alone_does_not_keep_a_job_alive_for_ever(programs: Programs) -> None:
    # Its data base has missed the end of the job.
    slurm = SlurmQueue(clock := Clock())
    programs.set("squeue", **GONE_FROM_SQUEUE)
    programs.set("sacct", "7_0|RUNNING\n")
    for _ in range(5):
        assert slurm.ask(["7_0"])["7_0"].phase is JobPhase.unknown
    clock.now += 601
    info = slurm.ask(["7_0"])["7_0"]
    assert (info.phase, info.state) == (JobPhase.gone, "")


def test_a_node_failure_that_nothing_follows_is_an_end(programs: Programs) -> None:
    slurm = SlurmQueue(clock := Clock())
    programs.set("squeue", line("7_0", "NODE_FAIL", "node1"))
    assert slurm.ask(["7_0"])["7_0"].phase is JobPhase.pending
    clock.now += 601
    for _ in range(3):
        info = slurm.ask(["7_0"])["7_0"]
    assert (info.phase, info.state) == (JobPhase.gone, "NODE_FAIL")


def test_each_node_failure_has_its_own_time(programs: Programs) -> None:
    slurm = SlurmQueue(clock := Clock())
    for state in ("NODE_FAIL", "RUNNING", "NODE_FAIL"):
        programs.set("squeue", line("7_0", state, "node1"))
        for _ in range(3):
            assert slurm.ask(["7_0"])["7_0"].phase in (JobPhase.pending, JobPhase.running)
        clock.now += 400


@pytest.mark.parametrize("installed", [True, False])
def test_a_cluster_without_accounting_is_judged_by_squeue_alone(programs: Programs, installed: bool) -> None:
    slurm = SlurmQueue()
    programs.set("squeue", **GONE_FROM_SQUEUE)
    if installed:
        programs.set("sacct", err="Slurm accounting storage is disabled\n", rc=1)
    for _ in range(3):
        info = slurm.ask(["7_0"])["7_0"]
    assert (info.phase, info.state) == (JobPhase.gone, "")
    for _ in range(3):
        assert slurm.ask(["8_0"])["8_0"].phase in (JobPhase.unknown, JobPhase.gone)
    assert len(programs.calls("sacct")) == installed, "it is not asked again"


def test_a_data_base_that_is_down_is_asked_again_later(programs: Programs) -> None:
    slurm = SlurmQueue(clock := Clock())
    programs.set("squeue", **GONE_FROM_SQUEUE)
    programs.set("sacct", err="sacct: error: slurmdbd: Connection refused\n", rc=1)
    for _ in range(3):
        slurm.ask(["7_0"])
    clock.now += 61
    programs.set("sacct", "8_0|OUT_OF_MEMORY\n")
    for _ in range(3):
        info = slurm.ask(["8_0"])["8_0"]
    assert (info.phase, info.state) == (JobPhase.gone, "OUT_OF_MEMORY")


def test_thousands_of_jobs_are_one_call(programs: Programs) -> None:
    jobs = [f"{array}_{index}" for array in range(100, 103) for index in range(1001)]
    programs.set("squeue", "".join(line(job, "RUNNING", "node1") for job in jobs))
    infos = SlurmQueue().ask(jobs)
    assert {info.phase for info in infos.values()} == {JobPhase.running}
    assert len(infos) == 3003
    (call,) = programs.calls("squeue")
    assert call.endswith("-j 100,101,102")


def test_a_users_own_defaults_for_squeue_hide_nothing(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.set("squeue")
    (programs.folder / "squeue").write_text('#!/bin/sh\ntest -z "$SQUEUE_STATES" && echo "7_0|RUNNING|n|None|x"\n')
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    assert SlurmQueue().ask(["7_0"])["7_0"].phase is JobPhase.running


def test_a_look_at_the_queue_says_which_jobs_are_alive(programs: Programs) -> None:
    programs.set("squeue", line("7_0", "NODE_FAIL") + line("7_1", "COMPLETED") + line("7_2", "PENDING"))
    assert set(SlurmQueue().live_now(["7_0", "7_1", "7_2", "7_3"])) == {"7_0", "7_2"}


def test_the_ranges_of_an_array_are_its_jobs() -> None:
    assert expanded("7") == ["7"]
    assert expanded("7_3") == ["7_3"]
    assert expanded("7_[0-2,5,9-11:2%4]") == ["7_0", "7_1", "7_2", "7_5", "7_9", "7_11"]


def test_the_clusters_limits_are_read(programs: Programs) -> None:
    programs.set("scontrol", "Configuration data as of now\nMaxArraySize            = 1001\nMaxJobCount   = 10000\n")
    assert (limits().array_size, limits().jobs) == (1001, 10_000)


def test_a_cluster_that_says_nothing_of_its_limits_is_an_error(programs: Programs) -> None:
    with pytest.raises(QueueError, match="no scontrol on the PATH"):
        limits()
    programs.set("scontrol", err="slurm_load_ctl_conf error: Unable to contact slurm controller\n", rc=1)
    with pytest.raises(QueueError, match="Unable to contact slurm controller"):
        limits()
