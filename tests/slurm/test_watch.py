import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import SBATCH, Cluster
from support import MakeConfig

from strive import signals
from strive.cells import records
from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.cells.task import Task, task_of, write_tasks
from strive.config.platform_keys import NeedsConfig
from strive.errors import NoAnswerError, TooManyJobsError
from strive.launch.failure_record import write_failure
from strive.launch.launch_folder import read_jobs
from strive.launch.live_view import LiveView
from strive.options import Retries, SlurmOptions
from strive.slurm import submit_queue
from strive.slurm import watch as watch_module
from strive.slurm.changed_options import option_changes
from strive.slurm.job_log import JobLog
from strive.slurm.jobs import SlurmJobs
from strive.slurm.submit_queue import SubmitQueue
from strive.slurm.watch import JobWatcher

FULL = "sbatch: error: AssocMaxSubmitJobLimit"

MakeWatch = Callable[..., JobWatcher]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Cluster(tmp_path / "bin")


@pytest.fixture
def tasks(make_small: MakeConfig) -> list[Task]:
    configs = [make_small(f"seed={seed}") for seed in range(4)]
    return [task_of(config) for config in configs]


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
    def make(number: int = 1, with_job: dict[str, str] | None = None, **options: object) -> JobWatcher:
        jobs = make_jobs(number, **options)
        view = LiveView({task.cell: task.folder for task in jobs.tasks}, total=number, done=0, title="grid")
        watch = JobWatcher(jobs, jobs.options, with_job or {}, view)
        watch.begin()
        return watch

    return make


def look(watch: JobWatcher, times: int = 1) -> None:
    for _ in range(times):
        watch._ask_at = 0.0
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


def only_held(cluster: Cluster, after: int) -> None:
    """Let sbatch refuse, after so many submissions, all jobs but those that are to be held."""
    cluster.script("sbatch-of-before", SBATCH.format(place=cluster.folder))
    cluster.script(
        "sbatch",
        f'if [ -e {cluster.folder}/script-{40 + after} ] && ! grep -q -- --hold "$1"; then echo "{FULL}" >&2; exit 1\n'
        f'fi; exec {cluster.folder}/sbatch-of-before "$@"',
    )


def test_a_detached_launch_leaves_what_a_full_queue_does_not_take_to_a_job(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    only_held(cluster, after=1)
    watch = make_watch(4, detach=True, gres="gpu:1", python="apptainer exec image.sif python")
    assert {cell: ended.job for cell, ended in watch.ended.items()} == {
        task.cell: job for task, job in zip(tasks, ("41_0", "41_1", "41_2", "42"), strict=True)
    }
    assert "gres" in cluster.options(41)
    assert "gres" not in cluster.options(42), "it trains nothing"
    assert "apptainer" not in (cluster.folder / "script-42").read_text(), "where there need be no sbatch"
    start = "update JobId=42 Dependency=afterany:41_0?afterany:41_1?afterany:41_2"
    assert cluster.calls("scontrol")[-2:] == [start, "release 42"]
    said = capsys.readouterr().err
    assert "SLURM job 42 submits 1 cell more as others end" in said
    assert "To cancel: scancel 41 42" in said
    assert "not submitted" not in said


def test_a_full_queue_without_a_place_for_that_job_gets_it_for_the_last_one_that_waits(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    cluster.set("scancel")
    cluster.refuse(FULL, after=1)
    watch = make_watch(4)
    cluster.shows(j41_0="RUNNING", j41_1="PENDING", j41_2="PENDING")
    cluster.refuse("")
    watch.detach()
    assert cluster.calls("scancel") == ["41_2"]
    jobs = {cell: ended.job for cell, ended in watch.ended.items()}
    assert [jobs[task.cell] for task in tasks] == ["41_0", "41_1", "43", "43"]


def test_a_place_that_is_not_needed_or_the_only_one_is_given_back(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    cluster.set("scancel")
    only_held(cluster, after=0)
    (cluster.folder / "script-40").touch()
    watch = make_watch(1, detach=True)
    assert cluster.calls("scancel") == ["41"]
    assert [ended.job for ended in watch.ended.values()] == [""]


def test_the_job_that_submits_the_rest_hands_its_cells_over_one_by_one(
    make_watch: MakeWatch, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_held(cluster, after=1)
    make_watch(4, detach=True)
    cluster.script("sbatch", f'exec {cluster.folder}/sbatch-of-before "$@"')
    (folder,) = (tmp_path / "runs" / "sweeps" / "grid").iterdir()
    assert read_jobs(folder)["42"] == [3]
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    # The test's own process must keep its signals.
    monkeypatch.setattr(signals, "listen", lambda: None)
    (called,) = [path for path in (folder / "logs").glob("*.pkl") if b"SubmitRest" in path.read_bytes()]
    pickle.loads(called.read_bytes())[0]()
    assert read_jobs(folder) == {"41_0": [0], "41_1": [1], "41_2": [2], "42": [], "43": [3]}


def test_a_launch_goes_over_to_the_jobs_that_another_one_has_submitted_for_its_cells(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task], tmp_path: Path
) -> None:
    earlier = tmp_path / "runs" / "sweeps" / "grid" / "20260101-000000-0000"
    earlier.mkdir(parents=True)
    write_tasks(earlier / "tasks.jsonl", tasks)
    (earlier / "jobs.json").write_text('{"8": [0, 1]}')
    watch = make_watch(2, with_job={tasks[0].cell: "8", tasks[1].cell: "8"})
    (earlier / "jobs.json").write_text('{"8": [], "9": [1], "10": [0]}')
    cluster.shows(j8="COMPLETED", j9="RUNNING", j10="RUNNING")
    look(watch, 5)
    assert watch._with_job == {tasks[0].cell: "10", tasks[1].cell: "9"}
    assert "script-41" not in os.listdir(cluster.folder)


def test_what_the_queue_does_not_take_goes_in_later(make_jobs: Callable[..., SlurmJobs], cluster: Cluster) -> None:
    cluster.refuse(FULL, after=1)
    said: list[str] = []
    intake = SubmitQueue(make_jobs(max_array_size=2), said.append)
    for number in range(4):
        intake.add(number)
    assert intake.submit([]) == {0: "41_0", 1: "41_1"}
    assert len(intake.held_back) == 2
    assert [line for line in said if "what is left goes in when there is room" in line]
    assert intake.submit(["41_0"]) == {}, "not asked again at once"
    intake._not_before = 0.0
    cluster.refuse("")
    assert set(intake.submit(["41_0"])) == {2, 3}
    assert len(intake.held_back) == 0


def test_a_limit_that_nothing_of_ours_can_make_room_under_is_an_error(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    cluster.refuse("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
    intake = SubmitQueue(make_jobs(1), lambda line: None)
    intake.add(0)
    with pytest.raises(TooManyJobsError):
        intake.submit([])


def test_a_queue_full_of_somebody_elses_jobs_is_waited_for_but_not_for_ever(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.refuse(FULL)
    intake = SubmitQueue(make_jobs(1), lambda line: None)
    intake.add(0)
    assert intake.submit([]) == {}
    intake._not_before = 0.0
    monkeypatch.setattr(submit_queue, "_FULL_SECONDS", -1.0)
    with pytest.raises(TooManyJobsError):
        intake.submit([])


def test_jobs_that_nobody_knows_of_are_looked_for_and_not_submitted_twice(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    cluster.accept_and_fail("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    said: list[str] = []
    intake = SubmitQueue(make_jobs(2), said.append)
    for number in range(2):
        intake.add(number)
    assert intake.submit([]) == {}
    assert intake.unanswered
    assert "Socket timed out on send/recv operation; tried again until it answers" in said[0]
    (mark,) = [path.stem for path in (cluster.folder.parent / "runs").rglob("strive-*.sh")]
    cluster.set("squeue", f"41|{mark}|(null)\n")
    intake._not_before = 0.0
    assert intake.submit([]) == {0: "41_0", 1: "41_1"}
    assert "script-42" not in os.listdir(cluster.folder)


def test_a_slurm_that_cannot_say_how_long_an_array_may_be_is_asked_again(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    cluster.set("scontrol", err="slurm_load_ctl_conf error: Socket timed out on send/recv operation", rc=1)
    intake = SubmitQueue(make_jobs(1), lambda line: None)
    intake.add(0)
    assert intake.submit([]) == {}
    assert len(intake.held_back) == 1
    cluster.set("scontrol", "MaxArraySize = 3\nMaxJobCount = 10000\n")
    intake._not_before = 0.0
    assert intake.submit([]) == {0: "41"}


def test_a_slurm_that_never_answers_is_not_waited_for_for_ever(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.refuse("sbatch: error: Unable to contact slurm controller (connect failure)")
    monkeypatch.setattr(submit_queue, "_FULL_SECONDS", -1.0)
    intake = SubmitQueue(make_jobs(1), lambda line: None)
    intake.add(0)
    with pytest.raises(NoAnswerError, match="Unable to contact"):
        intake.submit([])


def test_the_queue_is_asked_less_and_less_often_and_at_once_where_a_job_is_in_doubt(
    make_watch: MakeWatch, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = make_watch(poll_seconds=5.0)
    cluster.shows(j41="RUNNING")
    now = 1000.0
    monkeypatch.setattr(watch_module.time, "monotonic", lambda: now)

    def asked(seconds: int) -> int:
        nonlocal now
        before = len(cluster.calls("squeue"))
        for _ in range(seconds // 5):
            watch._look()
            now += 5
        return len(cluster.calls("squeue")) - before

    asked(300)
    assert asked(300) == 10, "each half a minute"
    cluster.shows(j41="COMPLETING")
    asked(30)
    cluster.shows()
    assert asked(60) >= 4, "three answers in a row make it sure"


def test_a_slurm_that_does_not_answer_is_asked_less_and_less_often_too(
    make_watch: MakeWatch, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = make_watch(poll_seconds=5.0)
    cluster.set("squeue", err="slurm_load_jobs error: Socket timed out on send/recv operation", rc=1)
    now = 1000.0
    monkeypatch.setattr(watch_module.time, "monotonic", lambda: now)
    for _ in range(120):
        watch._look()
        now += 5
    assert len(cluster.calls("squeue")) < 30
    assert watch.ended == {}


def end_before_it_begins(cluster: Cluster, **jobs: str) -> None:
    """Let squeue show these jobs as failed on these nodes, such as j41_0="node1"."""
    cluster.set("squeue", "".join(f"{job[1:]}|FAILED|{node}|None|(null)\n" for job, node in jobs.items()))


def test_cells_of_a_bad_node_go_elsewhere_and_are_not_to_blame(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make_watch(3, additional_parameters={"exclude": "node9"})
    cluster.shows(j41_2="PENDING")
    end_before_it_begins(cluster, j41_0="node1", j41_1="node1")
    with (cluster.folder / "squeue.out").open("a") as shown:
        shown.write("41_2|PENDING||Resources|(null)\n")
    look(watch, 3)
    assert watch.ended == {}
    assert cluster.options(42)["exclude"] == "node9,node1"
    assert cluster.options(42)["array"].startswith("0-1")
    assert "update JobId=41 ExcNodeList=node9,node1" in cluster.calls("scontrol"), "what waits is kept from it too"
    assert not any(task.folder.exists() for task in tasks)
    said = capsys.readouterr().err
    assert said.count("node1 is avoided from now on: SLURM job 41_") == 1


def test_where_node_after_node_is_bad_the_launch_stops_with_the_reason(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    cluster.set("scancel")
    watch = make_watch(4, max_array_size=4)
    cluster.set("squeue")
    nodes = {"j41_0": "node1", "j41_1": "node2", "j41_2": "node3"}
    end_before_it_begins(cluster, **nodes)
    with (cluster.folder / "squeue.out").open("a") as shown:
        shown.write("41_3|PENDING||Resources|(null)\n")
    look(watch, 3)
    assert {ended.status for ended in watch.ended.values()} == {None}
    causes = {ended.cause for ended in watch.ended.values()}
    (cause,) = causes
    assert cause.startswith("not trained: jobs end on node1, node2, node3 before any cell begins: SLURM job 41_")
    assert cluster.calls("scancel") == ["41"]
    assert "script-42" not in os.listdir(cluster.folder)
    assert not any(task.folder.exists() for task in tasks)


def test_bad_nodes_are_in_a_row_only_while_no_cell_begins(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    watch = make_watch(2, max_array_size=4)
    submitted = 41
    for node in ("node1", "node2", "node3", "node4"):
        end_before_it_begins(cluster, **{f"j{submitted}" + ("_0" if submitted == 41 else ""): node})
        with (cluster.folder / "squeue.out").open("a") as shown:
            shown.write("41_1|RUNNING|node9|None|(null)\n")
        tasks[1].folder.mkdir(parents=True, exist_ok=True)
        with take_claim(tasks[1].folder, 60):
            for _ in range(3):
                look(watch)
                watch._show()
        submitted += 1
    # The first cell had three nodes; a fourth one is not tried, and the other one goes on.
    assert list(watch.ended) == [tasks[0].cell]
    assert "jobs end on node1, node2, node3 before any cell begins" in watch.ended[tasks[0].cell].cause
    assert not watch.over


def test_a_cluster_that_has_no_other_node_stops_the_launch_with_the_reason(
    make_watch: MakeWatch, cluster: Cluster, tasks: list[Task]
) -> None:
    watch = make_watch()
    end_before_it_begins(cluster, j41="node1")
    cluster.refuse("sbatch: error: Batch job submission failed: Requested node configuration is not available")
    look(watch, 3)
    (ended,) = watch.ended.values()
    assert ended.cause.startswith("not trained: jobs end on node1 before any cell begins: SLURM job 41 on node1 ended")
    assert ended.cause.endswith("without them sbatch refused: Batch job submission failed: Requested node"
                                " configuration is not available")  # fmt: skip


def test_options_that_queued_cells_do_not_have_are_named_with_what_would_submit_them_anew(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tasks: list[Task], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = make_jobs(3, max_array_size=4, timeout_min=60)
    before.submit(*before.arrays(range(3)))
    folder = tmp_path / "runs" / "sweeps" / "grid" / "20260102-000000-bbbb"
    folder.mkdir()
    settings = dataclasses.replace(tasks[1].settings, needs=NeedsConfig(timeout_min=30))
    logistics = tasks[1].logistics | {"trainer.threads": 2}
    now = [tasks[0], dataclasses.replace(tasks[1], logistics=logistics, settings=settings)]
    write_tasks(folder / "tasks.jsonl", now)
    options = SlurmOptions(snapshot=False, timeout_min=240, poll_seconds=60.0, additional_parameters={"nice": 100})
    view = LiveView({task.cell: task.folder for task in now}, total=2, done=0, title="grid")
    cluster.shows(j41_0="PENDING", j41_1="PENDING", j41_2="PENDING")
    JobWatcher(SlurmJobs(folder, options), options, {now[0].cell: "41_0", now[1].cell: "41_1"}, view).begin()
    said = capsys.readouterr().err
    assert (
        "in the queue as submitted earlier: 1 cell, with timeout_min=60, not 240;"
        ' additional_parameters={}, not {"nice": 100}.'
        " To submit them as this command says: scancel 41_0, then the same command again"
    ) in said
    assert "timeout_min=60, not 30; " in said
    assert "trainer.threads=1, not 2" in said
    assert "poll_seconds" not in said


def test_an_array_of_which_all_jobs_have_other_options_is_cancelled_by_its_own_number(
    make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tasks: list[Task], tmp_path: Path
) -> None:
    before = make_jobs(3, max_array_size=4)
    before.submit(*before.arrays(range(3)))
    with_job = {task.cell: f"41_{number}" for number, task in enumerate(tasks[:3])}
    now = SlurmJobs(before.folder, SlurmOptions(snapshot=False, partition="gpu"))
    (line,) = option_changes(now, with_job, lambda job: before.folder)
    assert line.startswith('in the queue as submitted earlier: 3 cells, with partition="", not gpu.')
    assert "scancel 41, then" in line
    assert list(option_changes(before, with_job, lambda job: before.folder)) == []


def test_a_job_that_slurm_holds_because_its_node_did_not_start_it_is_released(
    make_watch: MakeWatch, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = make_watch(2)
    cluster.set("squeue", "41_0|PENDING||launch failed requeued held|(null)\n41_1|PENDING||JobHeldUser|(null)\n")
    look(watch, 5)
    assert [call for call in cluster.calls("scontrol") if "release" in call] == ["release 41_0"] * 3, "not for ever"
    assert capsys.readouterr().err.count("held by SLURM because a node did not start them: 1 job; released") == 1
