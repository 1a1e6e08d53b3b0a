"""Real worker processes, and what may happen to them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from programs import stand_in
from study_records import study_record
from support import MakeConfig, forget_module

from allcnn.training_pack import run_cell
from strive import signals
from strive.app import in_use
from strive.cells import records
from strive.cells.lease import owner_of, take_claim
from strive.cells.records import Record, Status
from strive.cells.task import CellOutcome, Task, task_of, write_tasks
from strive.launch import exit_cause
from strive.launch import pool as module
from strive.launch.pool import Slot, WorkerPool
from strive.options import Retries

# A net that does in training what it is told.
NETS = """
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from torch import nn


class Told(nn.Sequential):
    told = ""

    def forward(self, images):
        if self.training:
            exec(self.told)
        return super().forward(images)


def told(num_classes, image_size, told=""):
    net = Told(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))
    net.told = told
    return net
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
SLOW = "time.sleep(0.05)"
# A launcher of its own: what a signal does to the whole of it is to be seen.
LAUNCHER = """
import sys
from pathlib import Path
from strive.launch.pool import WorkerPool, Slot
from strive.options import Retries
from strive.cells.task import task_of
from strive.cells.task import read_tasks

logs = Path(sys.argv[1])
tell = lambda pool: Path("pids").write_text(" ".join(str(worker.pid) for worker in pool._workers.values()))
try:
    WorkerPool(read_tasks(Path("tasks.jsonl")), [Slot("", 1)] * 2, logs=logs, retries=Retries(), on_tick=tell).run()
except KeyboardInterrupt:
    sys.exit(77)
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "nets.py").write_text(NETS)
    forget_module("nets")
    monkeypatch.chdir(tmp_path)
    yield
    signals.forget()


MakeTask = Callable[..., Task]
LaunchProcess = Callable[[Sequence[Task]], subprocess.Popen[str]]


@pytest.fixture
def make_task(make_config: MakeConfig) -> MakeTask:
    def make(*overrides: str, told: str = "", **fields: str) -> Task:
        config = make_config(
            "model=extra/custom", "model.builder=nets:told", "data=digits", "preprocess=standardize",
            "budget.epochs=1", "budget.batch_size=256", *overrides,
        )  # fmt: skip
        config.model.kwargs |= {"told": told} if told else {}
        return task_of(config, **fields)

    return make


class Launch:
    """A pool, what it said, and the processes that it had."""

    def __init__(
        self, tasks: Sequence[Task], *, slots: int = 1, retries: Retries | None = None, **options: Any
    ) -> None:
        self.said: list[str] = []
        self.pids = set[int]()
        self.told = list[CellOutcome]()
        self._on_tick: Callable[[WorkerPool], object] = options.pop("on_tick", lambda pool: None)
        self.pool = WorkerPool(
            tasks,
            options.pop("slots_", [Slot("", 1)] * slots),
            logs=Path("logs"),
            retries=retries or Retries(killed=0),
            on_ended=self.told.append,
            on_tick=self._tick,
            say=self.said.append,
            **options,
        )

    def run(self) -> dict[str, CellOutcome]:
        try:
            ended = self.pool.run()
        finally:
            # Its workers are its children: waited for, or this process would see them as zombies.
            assert not [pid for pid in self.pids if Path(f"/proc/{pid}").exists()]
        assert list(ended) == [end.cell for end in self.told]
        return ended

    def _tick(self, pool: WorkerPool) -> None:
        self.pids |= {worker.pid for worker in pool._workers.values()}
        self._on_tick(pool)


def record(task: Task) -> Record:
    return records.read_record(task.folder / "record.json")


def began(task: Task) -> bool:
    log = task.folder / "log.txt"
    return log.exists() and "from step" in log.read_text()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whatever_a_net_does_is_recorded_and_the_others_train(make_task: MakeTask):
    tasks = {
        told: make_task(told=told)
        for told in (
            "raise ValueError('[x] not today')", "sys.exit(3)", "os._exit(3)", KILL,
            "import ctypes; ctypes.string_at(0)",
            "raise MemoryError",
        )
    }  # fmt: skip
    good = [make_task(f"seed={seed}") for seed in range(3)]
    launch = Launch([good[0], *tasks.values(), *good[1:]], slots=2)
    ended = launch.run()
    got = {told: (ended[task.cell].status, ended[task.cell].cause) for told, task in tasks.items()}
    assert list(got.values()) == [
        (Status.error, "ValueError: [x] not today"),
        (Status.error, "SystemExit: 3"),
        (Status.error, "its process ended itself with exit code 3"),
        (Status.killed, "its process was ended by SIGKILL"),
        (Status.error, "its process was ended by SIGSEGV"),
        (Status.out_of_memory, "MemoryError: no message"),
    ]
    for task in (*tasks.values(), *good):
        end = ended[task.cell]
        left = record(task)
        assert (left.status, left.failure.cause if left.failure else "") == (end.status, end.cause)
        assert owner_of(task.folder) is None
        assert Path(end.log).exists()
    assert all(ended[task.cell].status is Status.done for task in good)
    fault = record(list(tasks.values())[4])
    assert fault.failure is not None
    assert "Segmentation fault" in fault.failure.traceback
    # What the dead process knew of itself.
    assert fault.provenance.device == record(good[0]).provenance.device
    assert fault.provenance.code_hash == record(good[0]).provenance.code_hash


def test_a_killed_cell_is_tried_again_and_goes_on_from_its_checkpoint(make_task: MakeTask):
    code = (
        "self.steps = getattr(self, 'steps', 0) + 1\n"
        "if self.steps == 4 and not Path('killed').exists(): Path('killed').touch(); " + KILL
    )
    options = ("trainer.checkpoint_minutes=0", "budget.epochs=2")
    task = make_task(*options, told=code)
    launch = Launch([task], retries=Retries(killed=1))
    assert launch.run()[task.cell].status is Status.done
    assert any("killed: its process was ended by SIGKILL; tried again, 1 of 1 times" in line for line in launch.said)
    assert record(task).provenance.resumes == 1
    assert json.loads((task.folder / "record-1.json").read_text())["status"] == "killed"
    alone = run_cell(in_use().config_of(task.flat | {"runs": "alone", "trainer.threads": 1}))
    assert record(task).result == alone.result


def test_what_is_never_better_is_tried_only_so_often(make_task: MakeTask):
    task = make_task(told="open('tries', 'a').write('x'); " + KILL)
    assert Launch([task], retries=Retries(killed=2)).run()[task.cell].status is Status.killed
    assert Path("tries").read_text() == "xxx"


def test_only_the_cell_that_the_kernel_killed_for_memory_is_out_of_memory(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    count = tmp_path / "vmstat"
    count.write_text("oom_kill 5\n")
    monkeypatch.setattr(exit_cause, "_VMSTAT", count)
    # Both train when the kernel kills one of them; the other is killed by a person a moment later.
    kernel = f"time.sleep(1); Path({str(count)!r}).write_text('oom_kill 6\\n'); {KILL}"
    person = f"wait = [time.sleep(0.1) for _ in range(100) if not Path('go').exists()]; {KILL}"
    victim, other = make_task(told=kernel), make_task(told=person)
    launch = Launch([victim, other], slots=2)
    launch.pool._on_ended = lambda end: (launch.told.append(end), Path("go").touch())
    ended = launch.run()
    assert ended[victim.cell].status is Status.out_of_memory
    assert "memory" in ended[victim.cell].cause
    assert ended[other.cell].status is Status.killed


def test_a_failure_that_cannot_be_recorded_is_told(make_task: MakeTask):
    task = make_task(
        told="import glob; [Path(p, 'record.json').write_text('{') for p in glob.glob('runs/*')]; os._exit(3)"
    )
    end = Launch([task]).run()[task.cell]
    assert end.status is Status.error
    assert end.cause.startswith("its process ended itself with exit code 3; this could not be recorded: ")
    assert (task.folder / "record.json").read_text() == "{"


def test_workers_that_do_not_start_are_given_up_with_their_last_words(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.1))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho start >> starts\necho ImportError: no torch here\nexit 9\n")
    python.chmod(0o755)
    tasks = [make_task(f"seed={seed}") for seed in range(4)]
    launch = Launch(tasks, slots=2, python=str(python))
    ended = launch.run()
    assert Path("starts").read_text().splitlines() == ["start"] * 6
    for task in tasks:
        end = ended[task.cell]
        assert end.status is None
        assert "worker 0 does not start: its process ended itself with exit code 9: ImportError: no torch" in end.cause
        assert not task.folder.exists()
    assert all(str(Path(f"logs/worker-{number}.log")) in "\n".join(launch.said) for number in (0, 1))
    assert "ImportError: no torch here" in launch.said[0], "at once, not after the last try"
    assert sum("tried again, with pauses" in line for line in launch.said) == 1, "not for each slot and try"


def test_a_slot_whose_workers_are_killed_before_they_begin_is_tried_again_until_they_are_not(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_PAUSES", (0.01,) * 5)
    python = tmp_path / "python"
    # The first four are killed by somebody, such as a machine without memory.
    python.write_text(
        f'#!/bin/sh\necho start >> starts\n[ "$(wc -l < starts)" -gt 4 ] || kill -9 $$\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    task = make_task()
    launch = Launch([task], python=str(python))
    assert launch.run()[task.cell].status is Status.done
    assert [line for line in launch.said if "worker 0 does not start: its process was ended by SIGKILL" in line]


def test_one_slot_that_does_not_start_leaves_its_cells_to_the_other(make_task: MakeTask):
    tasks = [make_task(f"seed={seed}") for seed in range(3)]
    launch = Launch(tasks, slots_=[Slot("GPU-that-is-not-there", 1), Slot("", 1)])
    assert [end.status for end in launch.run().values()] == [Status.done] * 3


def test_a_cell_of_other_code_is_refused_and_the_others_train(make_task: MakeTask):
    other, good = make_task(code="0123456789"), make_task("seed=1")
    ended = Launch([other, good], slots=2).run()
    assert ended[other.cell].status is None
    assert "it was launched with code 0123456789" in ended[other.cell].cause
    assert not other.folder.exists()
    assert ended[good.cell].status is Status.done


def test_a_cell_that_another_process_trains_is_waited_for_while_the_others_train(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    freed, finished, failed = (make_task(f"seed={seed}") for seed in range(3))
    others = [make_task(f"seed={seed}") for seed in range(3, 6)]
    result = run_cell(in_use().config_of(make_task("seed=1", "runs=source").flat))
    with contextlib.ExitStack() as stack:
        claims = {}
        for task in (freed, finished, failed):
            task.folder.mkdir(parents=True)
            claims[task.cell] = stack.enter_context(take_claim(task.folder, 60))

        def on_tick(pool: WorkerPool) -> None:
            owners = pool.owned()
            # Each is looked at, and spoken of, only some time after it was found claimed.
            if len(owners) < 3 or None in owners.values() or len(pool.ended) < 3 or not claims:
                return
            assert pool.waiting() == 3
            # The three ways in which another process leaves a cell.
            records.write_record(finished.folder.parent, result)
            failure = records.Failure(cause="ValueError: there", traceback="")
            record = study_record(in_use().config_of(failed.config), Status.error, failure=failure)
            records.write_record(failed.folder.parent, record)
            for claim in claims.values():
                claim.release()
            claims.clear()

        launch = Launch([freed, finished, failed, *others], slots=2, on_tick=on_tick)
        ended = launch.run()
    assert [ended[task.cell].status for task in (freed, finished, failed)] == [Status.done, Status.done, Status.error]
    assert ended[failed.cell].cause == "ValueError: there"
    assert (began(freed), began(finished), began(failed)) == (True, False, False)
    assert [line for line in launch.said if "waits" in line] == [
        line for line in launch.said if f"process {os.getpid()} on " in line
    ]
    assert len(launch.said) == 3


def test_a_cell_of_a_silent_owner_is_taken_over_and_the_log_says_why(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    task = make_task()
    task.folder.mkdir(parents=True)
    # Not entered: no beat. Its process lives, so only the lease says that it is dead.
    claim = take_claim(task.folder, 1.5)
    launch = Launch([task])
    assert launch.run()[task.cell].status is Status.done
    log = (task.folder / "log.txt").read_text()
    assert f"takes the cell over from process {os.getpid()}" in log
    assert "no heartbeat for 1.5 s" in log
    assert not claim.scratch.exists()


def test_stop_leaves_checkpoints_and_kills_what_does_not_heed_it(make_task: MakeTask):
    slow = make_task("budget.epochs=1000", told=SLOW)
    deaf = make_task("budget.epochs=1000", told="time.sleep(1000)")
    waiting = make_task("seed=1")

    def on_tick(pool: WorkerPool) -> None:
        if began(slow) and began(deaf) and len(pool.running()) == 2:
            pool.stop(5.0)

    launch = Launch([slow, deaf, waiting], slots=2, on_tick=on_tick)
    ended = launch.run()
    assert [end.status for end in ended.values()] == [None] * 3
    assert launch.pool.interrupted == ""
    assert (slow.folder / "checkpoint.pt").exists()
    assert not any((task.folder / "record.json").exists() for task in (slow, deaf, waiting))


def test_a_signal_to_a_worker_stops_the_pool_which_says_which(make_task: MakeTask):
    slow = [make_task("budget.epochs=1000", f"seed={seed}", told=SLOW) for seed in range(2)]
    sent: list[int] = []

    def on_tick(pool: WorkerPool) -> None:
        if all(map(began, slow)) and not sent:
            sent.append(pool._workers[1].pid)
            os.kill(sent[0], signal.SIGUSR2)

    launch = Launch(slow, slots=2, on_tick=on_tick)
    assert [end.status for end in launch.run().values()] == [None] * 2
    assert launch.pool.interrupted == "SIGUSR2"
    assert all((task.folder / "checkpoint.pt").exists() for task in slow)


def test_a_signal_to_the_launcher_stops_the_pool_which_says_which(make_task: MakeTask):
    slow = make_task("budget.epochs=1000", told=SLOW)
    launch = Launch([slow], on_tick=lambda pool: signals.request("SIGTERM") if began(slow) else None)
    assert launch.run()[slow.cell].status is None
    assert launch.pool.interrupted == "SIGTERM"
    assert (slow.folder / "checkpoint.pt").exists()


def test_an_error_of_the_launcher_leaves_no_process(make_task: MakeTask):
    slow = make_task("budget.epochs=1000", told=SLOW)

    def on_tick(pool: WorkerPool) -> None:
        if began(slow):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Launch([slow], on_tick=on_tick).run()
    assert (slow.folder / "checkpoint.pt").exists()


@pytest.fixture
def launch_process() -> Iterator[LaunchProcess]:
    processes = []

    def launch(tasks: Sequence[Task]) -> subprocess.Popen[str]:
        write_tasks(Path("tasks.jsonl"), list(tasks))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, "logs"], stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        )
        return processes[-1]

    yield launch
    for process in processes:
        process.kill()
        process.communicate()


def worker_pids() -> list[int]:
    return [int(pid) for pid in Path("pids").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_ctrl_c_leaves_checkpoints_and_no_process_and_the_next_launch_goes_on(
    make_task: MakeTask, launch_process: LaunchProcess
):
    code = "Path('stepped').touch(); time.sleep(0 if Path('fast').exists() else 0.1)"
    tasks = [make_task("budget.epochs=20", f"seed={seed}", told=code) for seed in range(3)]
    process = launch_process(tasks)
    wait_until(lambda: sum(map(began, tasks)) == 2 and Path("stepped").exists())
    pids = worker_pids()
    # As a terminal does it: to the launcher's group, in which the workers are not.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 77
    assert "stopping: each cell writes a checkpoint first" in said
    assert "Traceback" not in said
    assert len(pids) == 2
    assert all(map(gone, pids))
    assert sum((task.folder / "checkpoint.pt").exists() for task in tasks) == 2
    assert not any(owner_of(task.folder) for task in tasks if task.folder.exists())
    Path("fast").touch()
    assert [end.status for end in Launch(tasks, slots=2).run().values()] == [Status.done] * 3
    assert sorted(record(task).provenance.resumes for task in tasks) == [0, 1, 1]


def test_a_second_ctrl_c_waits_for_nothing(make_task: MakeTask, launch_process: LaunchProcess):
    deaf = make_task(told="Path('stepped').touch(); time.sleep(1000)")
    process = launch_process([deaf])
    wait_until(lambda: Path("stepped").exists())
    pids = worker_pids()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "stopping" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 77
    assert all(map(gone, pids))


def test_workers_leave_with_checkpoints_when_the_launcher_is_killed(make_task: MakeTask, launch_process: LaunchProcess):
    tasks = [make_task("budget.epochs=1000", f"seed={seed}", told=SLOW) for seed in range(2)]
    process = launch_process(tasks)
    wait_until(lambda: all(map(began, tasks)))
    pids = worker_pids()
    process.kill()
    process.communicate(timeout=300)
    wait_until(lambda: all(map(gone, pids)))
    assert all((task.folder / "checkpoint.pt").exists() for task in tasks)
    assert not any(owner_of(task.folder) for task in tasks)


def test_what_a_killed_worker_has_started_goes_with_it(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch):
    # As on systems whose processes cannot be waited for together with pipes.
    monkeypatch.delattr(os, "pidfd_open")
    code = "Path('child').write_text(str(subprocess.Popen(['sleep', '1000']).pid)); " + KILL
    task = make_task(told=code)
    assert Launch([task]).run()[task.cell].status is Status.killed
    wait_until(lambda: gone(int(Path("child").read_text())))


def test_a_worker_takes_first_what_it_has_the_images_for(make_task: MakeTask):
    wide = "data.val_images"
    tasks = [make_task(f"{wide}={held_out}", f"seed={seed}") for seed in range(2) for held_out in (0, 100)]
    ended = Launch(tasks).run()
    request = [task.flat[wide] for cell in ended for task in tasks if task.cell == cell]
    assert request == [0, 0, 100, 100]


# --- several cells in one worker. Most of these need no cell to train: a stand-in says when each one ends.


def played() -> list[str]:
    return Path("played").read_text().splitlines()


@pytest.fixture
def make_tasks(make_task: MakeTask) -> Callable[..., list[Task]]:
    return lambda count, *overrides: [make_task(f"seed={seed}", *overrides) for seed in range(count)]


MakeTasks = Callable[..., list[Task]]


def launch_pack(
    tasks: Sequence[Task], play: str, *, slots: Sequence[Slot] = (Slot("", 1, room=3),), start: str = "", **options: Any
) -> Launch:
    return Launch(tasks, slots_=list(slots), python=stand_in(Path.cwd(), play, start), **options)


def test_a_cell_that_leaves_a_pack_makes_room_for_the_next(make_tasks: MakeTasks):
    tasks = make_tasks(5)
    ended = launch_pack(tasks, "await_cells(counts.pop(0)); end(held[0])", start="counts = [3, 3, 3, 2, 1]").run()
    assert played() == [" 0 1 2", " 1 2 3", " 2 3 4", " 3 4", " 4"]
    assert [end.status for end in ended.values()] == [Status.done] * 5


def test_cells_of_different_nets_do_not_share_a_pack(make_tasks: MakeTasks):
    ones, others = make_tasks(2), make_tasks(2, "budget.batch_size=512")
    tasks = [ones[0], others[0], ones[1], others[1]]
    launch_pack(tasks, "await_cells(2); [end(cell) for cell in list(held)]").run()
    assert played() == [" 0 1", " 0 1"]


def test_gpus_are_filled_in_turns_also_one_whose_worker_starts_late(make_tasks: MakeTasks):
    slots = [Slot("a", 1, room=4), Slot("b", 1, room=4)]
    launch = launch_pack(
        make_tasks(4),
        """
await_cells(2)
while len(open("played").readlines()) < 2: time.sleep(0.02)
while held: end(held[0])
""",
        slots=slots,
        start='while gpu == "b" and not Path("played").exists(): time.sleep(0.02)',
    )
    launch.run()
    assert sorted(played()) == ["a 0 1", "b 2 3"]


def test_a_worker_is_offered_no_more_than_it_has_found_to_be_faster(make_tasks: MakeTasks):
    play = """
await_cells(counts.pop(0))
if len(held) == 4:
    give_back(held[3], 2)
    give_back(held[2], 2)
else:
    end(held[0])
"""
    slots = [Slot("", 1, room=0)]
    launch_pack(make_tasks(6), play, slots=slots, start="counts = [4, 2, 2, 2, 2, 2, 1]").run()
    assert played() == [" 0 1 2 3", " 0 1", " 1 2", " 2 3", " 3 4", " 4 5", " 5"]


def test_cells_whose_process_dies_are_tried_again_alone_and_the_one_that_kills_ends_no_other_twice(
    make_tasks: MakeTasks,
):
    tasks = make_tasks(4)
    play = """
await_cells(1 if Path("died").exists() else 3)
if 1 in seeds():
    Path("died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
end(held[0])
"""
    launch = launch_pack(tasks, play)
    ended = launch.run()
    assert played() == [" 0 1 2", " 0", " 1", " 2", " 3"]
    assert [ended[task.cell].status for task in tasks] == [Status.done, Status.killed, Status.done, Status.done]
    assert [path.parent.name for path in Path("runs").glob("*/record*.json")] == [tasks[1].cell]
    assert launch.said == [
        f"{', '.join(task.cell for task in tasks[:3])}: its process was ended by SIGKILL in worker 0;"
        " the cause may be any of them: each is tried again alone"
    ]


def test_a_cell_that_had_not_begun_is_not_to_blame(make_tasks: MakeTasks):
    first, second = tasks = make_tasks(2)
    play = """
await_cells(1 if Path("died").exists() else 2)
if not Path("died").exists():
    Path("died").touch()
    sys.exit(3)
end(held[0])
"""
    ended = launch_pack(tasks, play, start="begins = lambda cell: seed(cell) == 0").run()
    assert ended[first.cell].cause == "its process ended itself with exit code 3"
    assert ended[second.cell].status is Status.done
    assert record(first).status is Status.error


@pytest.mark.parametrize(
    "leave",
    [
        # One cell had the error, or all were given back because any may have had it.
        "end(held[0], 'error', cause='CUDA error', exits=True, companions=2)",
        "[give_back(cell, 1, cause='CUDA error', exits=True, companions=2) for cell in list(held)]",
    ],
)
def test_a_process_that_an_error_has_spoilt_gives_all_its_cells_another_try_alone(make_tasks: MakeTasks, leave: str):
    tasks = make_tasks(4)
    play = f"""
await_cells(1 if Path("left").exists() else 3)
if not Path("left").exists():
    Path("left").touch()
    {leave}
    sys.exit()
end(held[0])
"""
    launch = launch_pack(tasks, play)
    assert [end.status for end in launch.run().values()] == [Status.done] * 4
    assert played() == [" 0 1 2", " 0", " 1", " 2", " 3"]
    cells = ", ".join(task.cell for task in tasks[:3])
    assert launch.said == [f"{cells}: CUDA error in worker 0; the cause may be any of them: each is tried again alone"]


def test_an_error_that_spoils_nothing_is_its_cells_own(make_tasks: MakeTasks):
    tasks = make_tasks(3)
    play = "await_cells(counts.pop(0)); end(held[0], *(['error'] if 1 in seeds() else []), companions=len(held) - 1)"
    ended = launch_pack(tasks, play, start="counts = [3, 2, 1]").run()
    assert [end.status for end in ended.values()] == [Status.error, Status.error, Status.done]
    assert played() == [" 0 1 2", " 1 2", " 2"]


def test_a_cell_without_memory_beside_others_is_tried_alone_and_fewer_are_at_once(make_tasks: MakeTasks):
    tasks = make_tasks(5)
    play = """
await_cells(counts.pop(0))
if len(held) == 3:
    end(held[2], "out_of_memory", cause="MemoryError: no message", companions=2)
elif seeds() == [2]:
    end(held[0], "out_of_memory", cause="MemoryError: no message", companions=0)
else:
    end(held[0])
"""
    launch = launch_pack(tasks, play, start="counts = [3, 2, 2, 2, 1, 1]")
    ended = launch.run()
    assert played() == [" 0 1 2", " 0 1", " 1 3", " 3 4", " 4", " 2"]
    assert ended[tasks[2].cell].status is Status.out_of_memory
    assert len(launch.said) == 1
    assert launch.pool._tries.total() == 0


PAIR = [Slot("", 1, room=2)]


def result_alone(task: Task) -> dict[str, Any]:
    overrides = {"runs": "alone", "trainer.threads": 1, "trainer.checkpoint_minutes": 5.0}
    return run_cell(in_use().config_of(task.flat | overrides)).result


def test_cells_of_different_lengths_pass_through_one_process(make_task: MakeTask):
    tasks = [make_task(f"budget.epochs={epochs}", f"seed={epochs}") for epochs in (1, 6, 2)]
    launch = Launch(tasks, slots_=PAIR)
    assert list(launch.run()) == [tasks[place].cell for place in (0, 2, 1)]
    assert len(launch.pids) == 1
    assert [record(task).provenance.details["packed"] for task in tasks] == [2, 2, 2]
    assert [record(task).result for task in tasks] == [result_alone(task) for task in tasks]


def test_cells_whose_process_was_killed_go_on_from_their_checkpoints_each_alone(make_task: MakeTask):
    code = (
        "self.steps = getattr(self, 'steps', 0) + 1\n"
        "if self.steps == 12 and not Path('killed').exists(): Path('killed').touch(); " + KILL
    )
    tasks = [
        make_task("trainer.checkpoint_minutes=0", "budget.epochs=3", f"seed={seed}", told=code) for seed in range(2)
    ]
    launch = Launch(tasks, slots_=PAIR)
    assert [end.status for end in launch.run().values()] == [Status.done] * 2
    assert len(launch.pids) == 2
    assert ["SIGKILL" in line for line in launch.said] == [True]
    for task in tasks:
        provenance = record(task).provenance
        assert (provenance.resumes, provenance.details["packed"]) == (1, 1)
        assert not (task.folder / "record-1.json").exists(), "nobody knew that it was this one's fault"
        assert record(task).result == result_alone(task)


@pytest.mark.parametrize("error", ["ValueError", "MemoryError"])
def test_an_error_that_may_be_either_cells_is_neithers_until_each_has_trained_apart(make_task: MakeTask, error: str):
    code = f"if not Path('raised').exists(): Path('raised').touch(); raise {error}"
    tasks = [make_task(f"seed={seed}", told=code) for seed in range(3)]
    ended = Launch(tasks, slots_=PAIR).run()
    assert [ended[task.cell].status for task in tasks] == [Status.done] * 3
    assert not list(Path("runs").glob("*/record-1.json"))
    assert [record(task).provenance.details["packed"] for task in tasks] == [1, 1, 1]


def test_stopped_cells_go_on_in_another_combination_with_the_same_numbers(make_task: MakeTask):
    code = "time.sleep(0 if Path('fast').exists() else 0.05)"
    tasks = [make_task("budget.epochs=8", f"seed={seed}", told=code) for seed in range(3)]

    def on_tick(pool: WorkerPool) -> None:
        lines = [task.folder / "history.jsonl" for task in tasks[:2]]
        if all(path.exists() and path.stat().st_size for path in lines):
            pool.stop(30)

    assert [end.status for end in Launch(tasks, slots_=PAIR, on_tick=on_tick).run().values()] == [None] * 3
    assert [(task.folder / "checkpoint.pt").exists() for task in tasks] == [True, True, False]
    Path("fast").touch()
    # The third one trains beside the first now.
    again = [tasks[0], tasks[2], tasks[1]]
    assert [end.status for end in Launch(again, slots_=PAIR).run().values()] == [Status.done] * 3
    assert [record(task).provenance.resumes for task in tasks] == [1, 1, 0]
    assert [record(task).result for task in tasks] == [result_alone(task) for task in tasks]


def test_the_launcher_imports_no_torch():
    code = "import strive.launch.pool, strive.launch.live_view, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pool_without_cells_has_ended():
    assert Launch([]).run() == {}
    assert module.STOP_SECONDS == 30


ONE = (Slot("", 1, room=1),)
LIMIT = 0.3 / 60  # minutes


def test_a_cell_that_hangs_past_its_time_is_ended_and_costs_no_other(
    make_tasks: MakeTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    hanging, other = make_tasks(2)
    play = """
await_cells(1)
if seed(held[0]) == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
end(held[0])
"""
    launch = launch_pack([hanging, other], play, slots=ONE, timeout_min=LIMIT)
    ended = launch.run()
    assert (ended[hanging.cell].status, ended[other.cell].status) == (Status.timeout, Status.done)
    assert "without a new checkpoint to go on from, and was killed" in ended[hanging.cell].cause
    assert record(hanging).status is Status.timeout
    assert not any("tried again" in line for line in launch.said), "it would hang as often as it is tried"


def test_a_cell_that_leaves_a_checkpoint_in_its_time_goes_on_from_it(make_tasks: MakeTasks):
    (task,) = make_tasks(1)
    start = f"""
def leave(number, frame):
    os.makedirs({str(task.folder / "strive-checkpoint")!r})
    say("stopped", held[0], exits=True)
    sys.exit()

again = os.path.exists("played")
signal.signal(signal.SIGTERM, leave)
"""
    play = "await_cells(1); again or time.sleep(60); end(held[0])"
    launch = launch_pack([task], play, slots=ONE, start=start, timeout_min=LIMIT)
    assert launch.run()[task.cell].status is Status.done
    (line,) = [line for line in launch.said if "tried again" in line]
    assert "hydra.launcher.timeout_min, and wrote a checkpoint; tried again, 1 of 20 times" in line
