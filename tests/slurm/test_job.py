import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import MakeConfig

from strive import signals
from strive.cells.records import Status
from strive.cells.task import CellOutcome, Task, task_of, write_tasks
from strive.launch import devices
from strive.launch.devices import Slot
from strive.launch.failure_record import write_failure
from strive.options import Retries, SlurmOptions
from strive.slurm import job as packs
from strive.slurm.job import REQUEUE_CODE, JobPayload, allocated_slots
from strive.slurm.job_log import JobLog, JobStart, out_of_retries, starts


@pytest.fixture
def tasks(make_small: MakeConfig, tmp_path: Path) -> list[Task]:
    """Four cells, frozen in a submission's folder."""
    found = []
    for seed in range(4):
        config = make_small(f"seed={seed}", "trainer.device=cpu")
        found.append(task_of(config))
    (tmp_path / "logs").mkdir()
    write_tasks(tmp_path / "tasks.jsonl", found)
    return found


@pytest.fixture
def pack(tasks: list[Task], tmp_path: Path, in_job: None) -> JobPayload:
    return JobPayload(submission=tmp_path, numbers=[0, 1, 3], timeout_min=10, signal_delay_s=60)


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of SLURM job 12_3, started for the second time."""
    for name, value in {
        "SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1",
        "SLURMD_NODENAME": "node2", "SLURM_CPUS_ON_NODE": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    # The test's own process must keep its signals.
    monkeypatch.setattr(signals, "listen", lambda: None)


class FakePool:
    """Stands in for the pool: every cell is done, unless a test wants another end."""

    trained: list[str]
    act: Callable[["FakePool"], None] = staticmethod(lambda pool: None)

    def __init__(self, tasks: list[Task], slots: object, **options: Any) -> None:
        self.tasks, self.options, self.interrupted, self.ended = tasks, options, "", dict[str, CellOutcome]()
        self.in_training: dict[str, int] = {}
        self.broken, self.yields = "", False
        self.limit: float | None = None

    def running(self) -> dict[str, int]:
        return self.in_training

    def waiting(self) -> int:
        return 0

    def owned(self) -> dict[str, None]:
        return {}

    def stop(self, seconds: float) -> None:
        self.limit = seconds

    def end(self, cell: str, status: Status | None, cause: str = "") -> None:
        self.ended[cell] = CellOutcome(cell=cell, status=status, cause=cause)
        self.options["on_ended"](self.ended[cell])

    def run(self) -> dict[str, CellOutcome]:
        FakePool.trained = [task.cell for task in self.tasks]
        type(self).act(self)
        for task in self.tasks:
            if task.cell not in self.ended:
                self.end(task.cell, None if self.interrupted else Status.done)
        return self.ended


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[FakePool]:
    class Pool(FakePool):
        pass

    monkeypatch.setattr(packs, "WorkerPool", Pool)
    FakePool.trained = []
    return Pool


class EndedError(Exception):
    """In place of os._exit."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise EndedError

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(packs.time, "sleep", lambda seconds: None)
    return codes


def events(pack: JobPayload) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (pack.logs / "12_3-1.jsonl").read_text().splitlines()]


def test_a_job_trains_its_own_cells_and_says_so(pack: JobPayload, tasks: list[Task], pool: type[FakePool]) -> None:
    pack()
    assert FakePool.trained == [tasks[0].cell, tasks[1].cell, tasks[3].cell]
    first, *rest = events(pack)
    assert (first["event"], first["job"], first["restart"], first["node"]) == ("start", "12_3", 1, "node2")
    assert [(event["event"], event["status"]) for event in rest] == [("ended", "done")] * 3


def test_each_node_of_a_job_trains_its_share(
    pack: JobPayload, tasks: list[Task], pool: type[FakePool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for node, share in enumerate(([tasks[0], tasks[3]], [tasks[1]])):
        monkeypatch.setenv("SLURM_PROCID", str(node))
        pack()
        assert FakePool.trained == [task.cell for task in share]
    (start,) = starts(pack.logs, "12_3")
    assert start.ended.keys() == {tasks[0].cell, tasks[1].cell, tasks[3].cell}


def test_of_several_nodes_the_one_that_is_not_fit_is_named(tmp_path: Path) -> None:
    for node in range(3):
        log = JobLog(tmp_path, "12_3", 0, node)
        log.write("start", node=f"node{node}")
        if node == 1:
            log.write("unfit", cause="no torch")
    (start,) = starts(tmp_path, "12_3")
    assert (start.node, start.unfit) == ("node1", "no torch")


def test_a_job_with_a_failed_cell_shows_as_failed(pack: JobPayload, pool: type[FakePool]) -> None:
    pool.act = lambda pool: pool.end(pool.tasks[0].cell, Status.error, "it raised")
    with pytest.raises(SystemExit) as exit_code:
        pack()
    assert exit_code.value.code == 1


def test_a_node_on_which_no_worker_starts_is_what_the_job_blames(
    pack: JobPayload, tasks: list[Task], pool: type[FakePool]
) -> None:
    def act(pool: FakePool) -> None:
        pool.broken = "worker 0 does not start: ImportError: no torch"
        for task in pool.tasks:
            pool.end(task.cell, None, pool.broken)

    pool.act = act
    with pytest.raises(SystemExit):
        pack()
    (start,) = starts(pack.logs, "12_3")
    assert start.unfit == "worker 0 does not start: ImportError: no torch"
    assert start.refused == {}


def test_after_a_requeue_only_unfinished_cells_train(pack: JobPayload, tasks: list[Task], pool: type[FakePool]) -> None:
    before = JobLog(pack.logs, "12_3", 0)
    before.running([tasks[0].cell, tasks[1].cell])
    before.write("ended", cell=tasks[1].cell, status="error", cause="", log="")
    before.write("left", status="preempted", cause="SLURM took its node")
    pack()
    assert FakePool.trained == [tasks[0].cell, tasks[3].cell], "a failure that was the last word is not tried again"


def test_a_record_from_before_the_submission_does_not_keep_a_failed_cell_from_training(
    pack: JobPayload, tasks: list[Task], pool: type[FakePool], tmp_path: Path
) -> None:
    write_failure(tasks[0], Status.killed, "in an earlier launch", tmp_path / "log.txt")
    pack()
    assert tasks[0].cell in FakePool.trained


@pytest.mark.parametrize(("seconds", "writes", "stuck"), [(5, False, True), (5, True, False), (300, False, False)])
def test_before_the_time_limit_the_job_goes_back_into_the_queue(
    pack: JobPayload,
    tasks: list[Task],
    pool: type[FakePool],
    exits: list[int],
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    writes: bool,
    stuck: bool,
) -> None:
    """A cell is stuck that had all of the job's time, from its first seconds on, and has written no checkpoint."""

    def warned(pool: FakePool) -> None:
        pool.in_training = {tasks[0].cell: 0}
        pool.options["on_tick"](pool)
        pool.interrupted = "SIGUSR2"
        pool.options["on_tick"](pool)
        assert pool.limit == 30, "half the time until the limit is for checkpoints"
        if writes:
            tasks[0].folder.mkdir(parents=True, exist_ok=True)
            (tasks[0].folder / "checkpoint.pt").touch()

    pool.act = warned
    clock = iter([1000.0, 1000.0 + seconds, *[1000.0 + 8 * 60] * 10])
    monkeypatch.setattr(packs.time, "monotonic", lambda: next(clock))
    with pytest.raises(EndedError):
        pack()
    assert exits == [REQUEUE_CODE]
    (start,) = starts(pack.logs, "12_3")
    assert (start.left, start.unfinished) == (Status.timeout, {tasks[0].cell})
    assert start.stuck == ({tasks[0].cell} if stuck else set())


def test_a_warning_long_before_the_time_limit_is_a_preemption(
    pack: JobPayload, pool: type[FakePool], exits: list[int]
) -> None:
    # submitit takes it for the time limit in a job of ten minutes or less, and does not requeue it.
    pool.act = lambda pool: setattr(pool, "interrupted", "SIGUSR2")
    with pytest.raises(EndedError):
        pack()
    (start,) = starts(pack.logs, "12_3")
    assert start.left is Status.preempted
    assert exits == [REQUEUE_CODE]


def test_after_sigterm_the_job_waits_to_be_ended_by_slurm(
    pack: JobPayload, pool: type[FakePool], exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that returned would count as completed, and SLURM would not start it again.
    waited: list[float] = []
    monkeypatch.setattr(packs.time, "sleep", waited.append)
    monkeypatch.setattr(packs, "_END_SECONDS", 0.01)
    pool.act = lambda pool: setattr(pool, "interrupted", "SIGTERM")
    with pytest.raises(EndedError):
        pack()
    assert waited
    assert exits == [1]


def test_a_signal_when_all_cells_have_ended_changes_nothing(
    pack: JobPayload, pool: type[FakePool], exits: list[int]
) -> None:
    def last_moment(pool: FakePool) -> None:
        for task in pool.tasks:
            pool.end(task.cell, Status.done)
        pool.interrupted = "SIGUSR2"

    pool.act = last_moment
    pack()
    assert exits == []


def test_a_cell_that_was_preempted_too_often_gets_its_record_and_costs_no_other_cell(
    pack: JobPayload, tasks: list[Task], pool: type[FakePool]
) -> None:
    before = JobLog(pack.logs, "12_3", 0)
    before.running([tasks[0].cell])
    before.write("left", status="preempted", cause="SLURM took its node")
    with pytest.raises(SystemExit):
        dataclasses.replace(pack, retries=Retries(preempted=0))()
    record = json.loads((tasks[0].folder / "record.json").read_text())
    assert (record["status"], record["failure"]["cause"]) == ("preempted", "SLURM took its node")
    assert FakePool.trained == [tasks[1].cell, tasks[3].cell]


def test_an_allocation_is_not_held_for_cells_that_others_train(
    pack: JobPayload, tasks: list[Task], pool: type[FakePool]
) -> None:
    def waits(pool: FakePool) -> None:
        assert 0 < pool.options["idle_seconds"] <= 3600
        pool.yields = True
        for task in pool.tasks:
            pool.end(task.cell, None)

    pool.act = waits
    pack()
    (start,) = starts(pack.logs, "12_3")
    assert start.owned == {tasks[0].cell, tasks[1].cell, tasks[3].cell}


def test_tries_are_counted_for_each_cell_and_reason() -> None:
    lost = JobStart(restart=0, node="node1", began={"a", "b"}, ended={"b": CellOutcome(cell="b", status=Status.done)})
    timeout = JobStart(restart=1, began={"a", "c"}, left=Status.timeout, cause="the time limit")
    retries = Retries(node_fail=1, timeout=1)
    assert out_of_retries([lost, timeout], retries) == {}
    assert out_of_retries([lost, timeout, dataclasses.replace(lost, restart=2)], retries) == {
        "a": (Status.node_fail, "its job ended on node1 and logged no reason, 2 times")
    }


def test_a_cell_that_comes_no_further_in_all_of_a_jobs_time_is_not_tried_twenty_times() -> None:
    timeout = JobStart(restart=0, began={"a", "c"}, left=Status.timeout, cause="the time limit", stuck={"a"})
    assert out_of_retries([timeout], Retries()) == {
        "a": (Status.timeout, "the time limit, without a new checkpoint to go on from")
    }
    assert out_of_retries([timeout], Retries(error=1)) == {}


def test_half_a_line_of_a_killed_job_is_no_trouble(tmp_path: Path) -> None:
    JobLog(tmp_path, "12", 0).running(["a"])
    with (tmp_path / "12-0.jsonl").open("a") as file:
        file.write('{"event": "end')
    JobLog(tmp_path, "12_0", 0).running(["of another job"])
    (start,) = starts(tmp_path, "12")
    assert start.unfinished == {"a"}


@pytest.mark.parametrize(
    ("cpus_per_cell", "num_cells", "cpus", "wanted"),
    [(0, 4, "1", [1]), (0, 1, "2", [2]), (1, 4, "2", [1, 1]), (2, 4, "4", [2, 2]), (1, 1, "2", [1])],
)
def test_a_job_uses_the_cores_that_it_was_given(
    tasks: list[Task],
    in_job: None,
    monkeypatch: pytest.MonkeyPatch,
    cpus_per_cell: int,
    num_cells: int,
    cpus: str,
    wanted: list[int],
) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", cpus)
    monkeypatch.setattr(packs, "usable_cores", lambda: 64)  # without SLURM's affinity plugin
    options = SlurmOptions(cpus_per_cell=cpus_per_cell)
    assert [slot.threads for slot in allocated_slots(options, tasks[:num_cells])] == wanted


def test_a_job_with_a_gpu_trains_its_cells_in_one_process(
    tasks: list[Task], in_job: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_torch_without_gpus", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(packs, "usable_cores", lambda: 64)
    cells = [dataclasses.replace(task, settings=dataclasses.replace(task.settings, device="auto")) for task in tasks]
    options = SlurmOptions(cells_per_gpu=3)
    assert allocated_slots(options, cells) == [Slot("0", 2, room=3)]
    assert {slot.gpus for slot in allocated_slots(options, tasks)} == {""}, "trainer.device=cpu"


def test_a_pack_travels_as_a_small_pickle(pack: JobPayload) -> None:
    content = pickle.dumps(pack)
    assert len(content) < 2_000
    assert pickle.loads(content) == pack


def test_nothing_of_a_job_or_a_launcher_imports_torch() -> None:
    modules = ("job_main", "job", "job_log", "squeue", "snapshot", "job_outcome", "train_on_slurm", "jobs")
    program = f"import sys, {', '.join(f'strive.slurm.{name}' for name in modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
