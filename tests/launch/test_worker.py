"""The worker as its pool sees it: a real process, spoken to through its pipes."""

import contextlib
import dataclasses
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import MakeConfig, forget_module

import strive
from allcnn.app import APP
from allcnn.config import Config
from allcnn.training_pack import run_cell
from strive.cells import records
from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.cells.task import task_of
from strive.json_lines import from_line, to_line
from strive.launch.devices import Slot
from strive.launch.protocol import EventKind, TrainRequest, WorkerEvent
from strive.launch.worker_process import WorkerProcess, _environment

NETS = """
import os
import sys

import torch
from torch import nn


class Told(nn.Sequential):
    told = ""

    def forward(self, images):
        if self.training:
            exec(self.told)
        return super().forward(images)


def told(num_classes, image_size, told="", first=""):
    exec(first)
    net = Told(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))
    net.told = told
    return net
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("worker")
    (place / "nets.py").write_text(NETS)
    return place


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_module("nets")
    monkeypatch.chdir(place)


@pytest.fixture
def make_request(make_config: MakeConfig) -> "MakeRequest":
    return MakeRequest(make_config)


class MakeRequest:
    """A cell of one linear net that does in training, or when it is built, what it is told."""

    def __init__(self, make_config: MakeConfig) -> None:
        self._make_config = make_config

    def config(self, *overrides: str, told: str = "", first: str = "") -> Config:
        config = self._make_config(
            "model=extra/custom", "model.builder=nets:told", "data=digits", "preprocess=standardize",
            "budget.epochs=2", "budget.batch_size=512", *overrides,
        )  # fmt: skip
        config.model.kwargs |= {name: code for name, code in (("told", told), ("first", first)) if code}
        return config

    def __call__(
        self, *overrides: str, told: str = "", first: str = "", fence: str = "", code: str = ""
    ) -> TrainRequest:
        config = self.config(*overrides, told=told, first=first)
        return TrainRequest(task=task_of(config, code=code), fence=fence)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """Return a worker that may end in this test."""
    worker = WorkerProcess(0, Slot("", 1), log=tmp_path / "worker.log")
    yield worker
    worker.kill()
    worker.reap()


@pytest.fixture(scope="module")
def same(place: Path) -> Iterator[WorkerProcess]:
    """Return the one worker of all tests that it is to outlive."""
    with contextlib.chdir(place):
        worker = WorkerProcess(0, Slot("", 1), log=place / "worker.log")
    yield worker
    worker.dismiss()
    assert end(worker) == 0


def events(worker: WorkerProcess, kind: EventKind | None = None) -> list[WorkerEvent]:
    """Return what the worker says until it has said something of this kind, or anything."""
    said: list[WorkerEvent] = []
    while not any(kind in (None, event.kind) for event in said):
        assert select.select([worker.events_fd], [], [], 60)[0], f"{said}\n{worker.log_tail()}"
        said += worker.events()
        assert not worker.closed or any(kind in (None, event.kind) for event in said), f"{said}\n{worker.log_tail()}"
    return said


def end(worker: WorkerProcess) -> int:
    """Wait until the worker ends by itself."""
    wait_until(worker.has_ended)
    return worker.reap()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def train(worker: WorkerProcess, request: TrainRequest, kind: EventKind = EventKind.ended) -> WorkerEvent:
    worker.give(request)
    event = events(worker, kind)[-1]
    assert event.cell == request.task.cell
    return event


def test_one_process_trains_many_cells_and_a_failed_one_does_not_end_it(same: WorkerProcess, make_request: MakeRequest):
    say = "print('by', os.getpid())"
    for seed in range(3):
        event = train(same, make_request(f"seed={seed}", told=say))
        assert (event.status, event.exits) == (Status.done, False)
        failed = train(same, make_request(f"seed={seed}", told="raise ValueError('not\\ntoday')"))
        assert (failed.status, failed.cause, failed.exits) == (Status.error, "ValueError: not", False)
    assert f"by {same.pid}" in same.log_tail()


def test_its_records_are_those_of_a_cell_trained_alone(same: WorkerProcess, make_small: MakeConfig, tmp_path: Path):
    request = None
    for net in ("model_a", "all_cnn_c"):
        config = make_small(f"model={net}", "augment=flip_shift", "trainer.threads=0")
        request = TrainRequest(task=task_of(config))
        assert train(same, request).status is Status.done
    assert request is not None
    record = records.read_record(request.task.folder / "record.json")
    assert record.provenance.threads == 1
    alone = run_cell(make_small("model=all_cnn_c", "augment=flip_shift", f"runs={tmp_path / 'alone'}"))
    assert record.result == alone.result


def test_nothing_that_a_net_prints_or_reads_disturbs_the_pool(worker: WorkerProcess, make_request: MakeRequest):
    told = "print('x' * 100_000); sys.stderr.write('y' * 100_000); self.told = '' if sys.stdin.read() == '' else '1/0'"
    assert train(worker, make_request(told=told)).status is Status.done
    # A child that outlives the cell must not keep the answers' pipe open, nor outlive the worker.
    child = "import subprocess; open('child', 'w').write(str(subprocess.Popen(['sleep', '99'], close_fds=False).pid))"
    assert train(worker, make_request("seed=1", told=child + "; self.told = ''")).status is Status.done
    worker.dismiss()
    assert end(worker) == 0
    wait_until(lambda: not alive(int(Path("child").read_text())))


def test_what_comes_out_of_run_cell_leaves_word_and_the_worker_goes_on(same: WorkerProcess, make_request: MakeRequest):
    exits = train(same, make_request(first="sys.exit(4)"), EventKind.crashed)
    assert exits.cause == "SystemExit: 4"
    assert "nets.py" in exits.traceback
    wrong = train(same, make_request(first="1/0"), EventKind.crashed)
    assert wrong.cause == "model.builder=nets:told: raised ZeroDivisionError: division by zero"
    assert train(same, make_request()).status is Status.done


def test_a_cell_that_runs_out_of_memory_gets_the_next_one_a_fresh_process(
    worker: WorkerProcess, make_request: MakeRequest
):
    event = train(worker, make_request(told="raise MemoryError"))
    assert (event.status, event.exits) == (Status.out_of_memory, True)
    assert end(worker) == 0


def test_it_refuses_what_was_not_launched(same: WorkerProcess, make_request: MakeRequest):
    here = APP.code_of({"model.builder": "nets:told"}).hash
    refused = train(same, make_request(code="0123456789"), EventKind.refused)
    assert f"launched with code 0123456789, but this process has imported code {here} from" in refused.cause
    assert str(Path(strive.__file__).parent) in refused.cause
    request = make_request()
    edited = TrainRequest(task=dataclasses.replace(request.task, config=request.task.config | {"optimizer.lr": 7.0}))
    refused = train(same, edited, EventKind.refused)
    assert refused.cause.startswith("its frozen config is that of told-digits-none-lr7-s0-")
    impossible = TrainRequest(
        task=dataclasses.replace(request.task, config=request.task.config | {"optimizer.lr": -1.0})
    )
    assert "optimizer.lr must be finite and above 0, got -1.0" in train(same, impossible, EventKind.refused).cause
    assert not request.task.folder.exists()
    assert train(same, make_request(code=here)).status is Status.done


def test_a_cell_that_another_process_trains_is_left_to_it(same: WorkerProcess, make_request: MakeRequest):
    request = make_request()
    request.task.folder.mkdir(parents=True)
    with take_claim(request.task.folder, 60) as claim:
        assert "is being trained by process" in train(same, request, EventKind.owned).cause
        # What the pool sends when the owner was found dead.
        assert train(same, make_request(fence=claim.owner.token)).status is Status.done
    assert "takes the cell over from process" in (request.task.folder / "log.txt").read_text()


@pytest.mark.parametrize("how", ["signal", "launcher gone"])
def test_when_asked_to_it_leaves_in_the_middle_of_a_cell_with_a_checkpoint(
    worker: WorkerProcess, make_request: MakeRequest, how: str
):
    request = make_request("budget.epochs=1000", told="import time; time.sleep(0.05)")
    worker.give(request)
    events(worker, EventKind.began)
    if how == "signal":
        os.kill(worker.pid, signal.SIGTERM)
        event = events(worker, EventKind.stopped)[-1]
        assert (event.cause, event.exits) == ("SIGTERM", True)
    else:
        worker.dismiss()
    assert end(worker) == 0
    assert (request.task.folder / "checkpoint.pt").exists()
    assert not (request.task.folder / "record.json").exists()
    assert not (request.task.folder / "claim").exists()


def test_after_a_signal_it_begins_with_nothing_more(worker: WorkerProcess, make_request: MakeRequest):
    events(worker, EventKind.ready)
    os.kill(worker.pid, signal.SIGTERM)
    event = train(worker, make_request(), EventKind.stopped)
    assert (event.cause, event.exits) == ("SIGTERM", True)
    assert end(worker) == 0


def test_threads_and_gpu_are_those_of_its_slot(same: WorkerProcess, make_request: MakeRequest, place: Path):
    code = "open('seen', 'w').write(f'{os.environ[\"OMP_NUM_THREADS\"]} {torch.get_num_threads()}')"
    assert train(same, make_request(told=code)).status is Status.done
    assert (place / "seen").read_text() == "1 1"
    request = make_request("trainer.threads=2", "seed=1", told=code)
    assert train(same, request).status is Status.done
    assert (place / "seen").read_text() == "1 2"
    made = records.read_record(request.task.folder / "record.json").provenance
    assert (made.threads, made.given) == (2, {"threads": 1, "gpus": ""}), "what it used, and what it was given"
    environment = _environment(Slot("GPU-1", 3))
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]) == ("GPU-1", "3")
    assert _environment(Slot("", 1))["CUDA_VISIBLE_DEVICES"] == "", "it sees none"


def test_a_gpu_that_torch_cannot_use_is_an_error_and_not_the_processor(tmp_path: Path):
    log = tmp_path / "worker.log"
    worker = WorkerProcess(0, Slot("GPU-of-another-machine", 1), log=log)
    assert end(worker) == 1
    assert "cannot use GPU GPU-of-another-machine" in log.read_text()


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[WorkerProcess]:
    """Return a worker that trains two cells at once."""
    with contextlib.chdir(place):
        worker = WorkerProcess(0, Slot("", 1, room=2), log=place / "pair.log")
    yield worker
    worker.dismiss()
    assert end(worker) == 0


def train_together(worker: WorkerProcess, *requests: TrainRequest) -> dict[str, WorkerEvent]:
    """Return the last answer for each, in the order in which they came."""
    for request in requests:
        worker.give(request)
    last: dict[str, WorkerEvent] = {}
    while len(last) < len(requests):
        last |= {event.cell: event for event in events(worker) if event.kind not in (EventKind.ready, EventKind.began)}
    return last


def trained(request: TrainRequest) -> bool:
    """Return whether an epoch of the cell is over."""
    lines = request.task.folder / "history.jsonl"
    return lines.exists() and lines.stat().st_size > 0


def test_cells_side_by_side_have_the_records_of_cells_trained_alone(
    pair: WorkerProcess, make_small: MakeConfig, tmp_path: Path
):
    overrides = [["seed=1"], ["seed=2", "augment=flip_shift", "optimizer.lr=0.02"]]
    configs = [make_small("model.init=he", *each) for each in overrides]
    requests = [TrainRequest(task=task_of(config)) for config in configs]
    assert [event.status for event in train_together(pair, *requests).values()] == [Status.done] * 2
    for request, each in zip(requests, overrides, strict=True):
        record = records.read_record(request.task.folder / "record.json")
        assert record.provenance.details["packed"] == 2
        assert record.result == run_cell(make_small("model.init=he", *each, f"runs={tmp_path / 'alone'}")).result


def test_a_diverging_cell_leaves_the_other_in_training(pair: WorkerProcess, make_request: MakeRequest):
    good, wild = make_request("budget.epochs=3"), make_request("budget.epochs=3", "optimizer.lr=1e30")
    said = train_together(pair, good, wild)
    assert [(event.cell, event.status, event.companions) for event in said.values()] == [
        (wild.task.cell, Status.diverged, 1),
        (good.task.cell, Status.done, 0),
    ]


def test_a_cell_that_never_begins_leaves_the_other_in_training(pair: WorkerProcess, make_request: MakeRequest):
    good, refused = make_request("seed=3"), make_request("seed=4", code="0123456789")
    wrong = make_request("seed=4", first="1/0")
    assert [event.kind for event in train_together(pair, good, refused).values()] == [
        EventKind.refused,
        EventKind.ended,
    ]
    assert [event.kind for event in train_together(pair, wrong, make_request("seed=5")).values()] == [
        EventKind.crashed,
        EventKind.ended,
    ]


def test_a_cell_without_memory_beside_another_costs_that_one_nothing(pair: WorkerProcess, make_request: MakeRequest):
    good = make_request("seed=6")
    # While it is scored: what goes wrong in a step of both may be either's.
    hook = "lambda net, images: None if net.training else exec('raise MemoryError')"
    large = make_request("budget.epochs=1", told=f"self.register_forward_pre_hook({hook}); self.told = ''")
    said = train_together(pair, good, large)
    assert [(event.status, event.companions, event.exits) for event in said.values()] == [
        (Status.out_of_memory, 1, False),
        (Status.done, 0, False),
    ]


def test_cells_that_stopped_together_have_a_checkpoint_each(tmp_path: Path, make_request: MakeRequest):
    worker = WorkerProcess(0, Slot("", 1, room=2), log=tmp_path / "worker.log")
    requests = [
        make_request("budget.epochs=1000", f"seed={seed}", told="import time; time.sleep(0.02)") for seed in range(2)
    ]
    try:
        for request in requests:
            worker.give(request)
        wait_until(lambda: all(trained(request) for request in requests))
        os.kill(worker.pid, signal.SIGTERM)
        # What comes now does not begin.
        late = make_request("seed=3")
        worker.give(late)
        assert end(worker) == 0
    finally:
        worker.kill()
        worker.reap()
    assert all((request.task.folder / "checkpoint.pt").exists() for request in requests)
    assert not any((request.task.folder / "claim").exists() for request in requests)
    assert not late.task.folder.exists()


def test_a_cell_beside_which_the_others_are_slower_is_given_back(tmp_path: Path, make_request: MakeRequest):
    worker = WorkerProcess(0, Slot("", 1, room=0), log=tmp_path / "worker.log")
    try:
        first, second = make_request("seed=6"), make_request("seed=7")
        said = train_together(worker, first, second)
        # On the processor one at a time is as fast as anything.
        assert [(event.cell, event.kind, event.room) for event in said.values()] == [
            (second.task.cell, EventKind.returned, 1),
            (first.task.cell, EventKind.ended, 0),
        ]
        assert not (second.task.folder / "record.json").exists()
        assert not (second.task.folder / "claim").exists()
        # What was found out of one net says nothing of the next.
        others = [make_request("budget.batch_size=256", f"seed={seed}") for seed in range(2)]
        assert [event.kind for event in train_together(worker, *others).values()] == [
            EventKind.returned,
            EventKind.ended,
        ]
        # But of its own kind it is known: measured again, noise would make the number smaller each time.
        again = [make_request(f"seed={seed}") for seed in (8, 9)]
        assert [event.kind for event in train_together(worker, *again).values()] == [EventKind.ended, EventKind.ended]
        worker.dismiss()
        assert end(worker) == 0
    finally:
        worker.kill()
        worker.reap()


def test_memory_is_counted_for_each_cell(same: WorkerProcess, make_request: MakeRequest):
    large = make_request(told="torch.ones(200_000_000)")  # 800 MB
    small = make_request()
    for request in (large, small):
        assert train(same, request).status is Status.done
    peaks = [
        records.read_record(request.task.folder / "record.json").provenance.peak_memory_bytes
        for request in (large, small)
    ]
    # A peak that is not forgotten never falls.
    assert peaks[0] - peaks[1] > 100_000_000


def test_files_in_the_current_directory_do_not_replace_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("queue", "select", "torch", "strive"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported from the wrong place')")
    worker = WorkerProcess(0, Slot("", 1), log=tmp_path / "worker.log")
    try:
        events(worker, EventKind.ready)
    finally:
        worker.kill()
        worker.reap()


def test_a_message_comes_out_as_it_went_in(make_request: MakeRequest):
    request = make_request(fence="token")
    assert from_line(TrainRequest, to_line(request)) == request
    event = WorkerEvent(kind=EventKind.ended, cell="c", status=Status.diverged, cause="ä\n", seen={"threads": 2})
    assert from_line(WorkerEvent, to_line(event)) == event


def test_a_worker_of_another_python_says_why_it_cannot_start(tmp_path: Path):
    worker = WorkerProcess(0, Slot("", 1), log=tmp_path / "worker.log", python="/bin/ls")
    assert end(worker) != 0
    assert "invalid option" in worker.log_tail()
