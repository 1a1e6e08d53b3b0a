import os
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import Cluster
from support import MakeConfig

from strive import identity, records
from strive.claim import take_claim
from strive.records import Status
from strive.sweeping import slurm_intake
from strive.sweeping.joblog import JobLog
from strive.sweeping.obituary import write_failure
from strive.sweeping.retries import Retries
from strive.sweeping.slurm_intake import Intake
from strive.sweeping.slurm_jobs import SlurmJobs, TooManyJobsError
from strive.sweeping.slurm_options import SlurmOptions
from strive.sweeping.slurm_watch import Watch
from strive.sweeping.task import Task, write_tasks
from strive.sweeping.view import View

FULL = "sbatch: error: AssocMaxSubmitJobLimit"

MakeWatch = Callable[..., Watch]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Cluster(tmp_path / "bin")


@pytest.fixture
def tasks(make_small: MakeConfig) -> list[Task]:
    configs = [make_small(f"seed={seed}") for seed in range(4)]
    return [Task(cell=identity.cell_id(config), config=identity.flat(config)) for config in configs]


@pytest.fixture
def make_jobs(tasks: list[Task], tmp_path: Path) -> Callable[..., SlurmJobs]:
    def make(number: int = 4, **options: object) -> SlurmJobs:
        folder = tmp_path / "runs" / "sweeps" / "grid" / "20260101-000000-aaaa"
        folder.mkdir(parents=True)
        write_tasks(folder / "tasks.jsonl", tasks[:number])
        return SlurmJobs(folder, SlurmOptions(**({"snapshot": False} | options)))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_watch(make_jobs: Callable[..., SlurmJobs], cluster: Cluster) -> MakeWatch:
    def make(number: int = 1, with_job: dict[str, str] | None = None, **options: object) -> Watch:
        jobs = make_jobs(number, **options)
        view = View({task.cell: task.folder for task in jobs.tasks}, total=number, done=0, title="grid")
        watch = Watch(jobs, jobs.options, with_job or {}, view)
        watch.begin()
        return watch

    return make


def look(watch: Watch, times: int = 1) -> None:
    for _ in range(times):
        watch._look()


def test_a_job_at_its_time_limit_is_submitted_again_and_then_given_up(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    watch = make_watch(retries=Retries(timeout=1))
    cluster.shows(j41="TIMEOUT")
    look(watch, 3)
    assert watch.ended == {}
    assert "script-42" in os.listdir(cluster.folder)
    cluster.shows(j41="TIMEOUT", j42="TIMEOUT")
    look(watch, 3)
    (ended,) = watch.ended.values()
    assert ended.status is Status.timeout
    record = records.read_record(tasks[0].folder / "record.json")
    assert record.failure is not None
    assert record.failure.cause == "SLURM job 42 on node1 reached its time limit"


def test_a_failure_that_the_job_tries_again_is_not_the_end(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task], tmp_path: Path
) -> None:
    watch = make_watch()
    cluster.shows(j41="RUNNING")
    log = JobLog(tmp_path / "runs" / "sweeps" / "grid" / "20260101-000000-aaaa" / "logs", "41", 0)
    log.running([tasks[0].cell])
    write_failure(tasks[0], Status.killed, "ended by SIGKILL", "")
    look(watch, 5)
    assert watch.ended == {}
    log.write("ended", cell=tasks[0].cell, status="killed", cause="ended by SIGKILL", log="")
    look(watch)
    (ended,) = watch.ended.values()
    assert (ended.status, ended.cause) == (Status.killed, "ended by SIGKILL")


def test_a_failure_from_before_the_launch_is_not_its_end(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    write_failure(tasks[0], Status.error, "in an earlier launch", "")
    watch = make_watch()
    cluster.shows(j41="RUNNING")
    look(watch, 5)
    assert watch.ended == {}


def test_a_cell_that_somebody_else_trains_is_submitted_when_that_one_leaves_it(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    tasks[0].folder.mkdir(parents=True)
    with take_claim(tasks[0].folder, 60):
        watch = make_watch()
        look(watch, 2)
        assert "script-41" not in os.listdir(cluster.folder)
    look(watch)
    assert "script-41" in os.listdir(cluster.folder)


def test_an_old_failure_is_not_what_somebody_else_left(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    write_failure(tasks[0], Status.error, "in an earlier launch", "")
    with take_claim(tasks[0].folder, 60):
        watch = make_watch()
    look(watch)
    assert watch.ended == {}
    assert "script-41" in os.listdir(cluster.folder)


def test_a_cell_is_not_sent_again_while_a_process_of_its_job_may_live(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    watch = make_watch()
    tasks[0].folder.mkdir(parents=True)
    with take_claim(tasks[0].folder, 60):
        cluster.shows(j41="TIMEOUT")
        look(watch, 5)
        assert "script-42" not in os.listdir(cluster.folder)
    look(watch)
    assert "script-42" in os.listdir(cluster.folder)


def test_a_job_is_not_given_up_while_a_process_of_it_may_live(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    # On a node that SLURM has lost.
    watch = make_watch(retries=Retries(killed=0))
    tasks[0].folder.mkdir(parents=True)
    with take_claim(tasks[0].folder, 60):
        cluster.shows()
        look(watch, 5)
        assert watch.ended == {}
    look(watch)
    (ended,) = watch.ended.values()
    assert ended.status is Status.killed


def test_a_job_of_an_earlier_submission_that_dies_is_replaced(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    watch = make_watch(with_job={tasks[0].cell: "7_3"})
    assert "script-41" not in os.listdir(cluster.folder)
    cluster.shows(j7_3="NODE_FAIL")
    look(watch, 5)
    assert "script-41" not in os.listdir(cluster.folder)
    cluster.shows(j7_3="TIMEOUT")
    look(watch, 3)
    assert "script-41" in os.listdir(cluster.folder)


def test_cancelling_takes_our_arrays_as_a_whole_and_of_others_only_our_jobs(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    watch = make_watch(3, with_job={tasks[0].cell: "7_3"})
    cluster.set("scancel")
    watch.cancel()
    assert cluster.calls("scancel") == ["7_3 41"]
    assert watch.over
    assert {ended.status for ended in watch.ended.values()} == {None}
    assert {ended.job for ended in watch.ended.values()} == {""}


def test_a_detached_launch_says_which_jobs_have_its_cells(make_watch: MakeWatch, tasks: list[Task]) -> None:
    watch = make_watch(2, detach=True)
    assert watch.over
    assert {cell: ended.job for cell, ended in watch.ended.items()} == {tasks[0].cell: "41_0", tasks[1].cell: "41_1"}


def test_what_the_queue_does_not_take_goes_in_later(make_jobs: Callable[..., SlurmJobs], cluster: Cluster) -> None:
    cluster.refuse(FULL, after=1)
    said: list[str] = []
    intake = Intake(make_jobs(max_array_size=2), said.append)
    for number in range(4):
        intake.add(number)
    assert intake.submit([]) == {0: "41_0", 1: "41_1"}
    assert intake.held_back == 2
    assert [line for line in said if "what is left goes in when there is room" in line]
    assert intake.submit(["41_0"]) == {}, "not asked again at once"
    intake._not_before = 0.0
    cluster.refuse("")
    assert set(intake.submit(["41_0"])) == {2, 3}
    assert intake.held_back == 0


def test_a_limit_that_nothing_of_ours_can_make_room_under_is_an_error(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    cluster.refuse("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
    intake = Intake(make_jobs(1), lambda line: None)
    intake.add(0)
    with pytest.raises(TooManyJobsError):
        intake.submit([])


def test_a_queue_full_of_somebody_elses_jobs_is_waited_for_but_not_for_ever(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.refuse(FULL)
    intake = Intake(make_jobs(1), lambda line: None)
    intake.add(0)
    assert intake.submit([]) == {}
    intake._not_before = 0.0
    monkeypatch.setattr(slurm_intake, "_FULL_SECONDS", -1.0)
    with pytest.raises(TooManyJobsError):
        intake.submit([])
