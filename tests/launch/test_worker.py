"""The worker as its pool sees it: a real process, spoken to through its pipes."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import MakeConfig

import strive
from allcnn.cells import run_cell
from allcnn.config import Config
from strive.cells import records
from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.code import hash as code_hash_module
from strive.code.hash import code_hash
from strive.config import identity
from strive.launch.devices import Slot
from strive.launch.protocol import Answer, Kind, Order
from strive.launch.task import Task
from strive.launch.worker_process import Worker, _environment

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
    monkeypatch.chdir(place)


@pytest.fixture
def make_order(make_config: MakeConfig) -> "MakeOrder":
    return MakeOrder(make_config)


class MakeOrder:
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

    def __call__(self, *overrides: str, told: str = "", first: str = "", fence: str = "", code: str = "") -> Order:
        config = self.config(*overrides, told=told, first=first)
        return Order(task=Task(cell=identity.cell_id(config), config=identity.flat(config), code=code), fence=fence)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Return a worker that may end in this test."""
    worker = Worker(0, Slot("", 1), log=tmp_path / "worker.log")
    yield worker
    worker.kill()
    worker.bury()


@pytest.fixture(scope="module")
def same(place: Path) -> Iterator[Worker]:
    """Return the one worker of all tests that it is to outlive."""
    with contextlib.chdir(place):
        worker = Worker(0, Slot("", 1), log=place / "worker.log")
    yield worker
    worker.dismiss()
    assert end(worker) == 0


def answers(worker: Worker, kind: Kind | None = None) -> list[Answer]:
    """Return what the worker says until it has said something of this kind, or anything."""
    said: list[Answer] = []
    while not any(kind in (None, answer.kind) for answer in said):
        assert select.select([worker.answers_fd], [], [], 60)[0], f"{said}\n{worker.last_words()}"
        said += worker.answers()
        assert not worker.silent or any(kind in (None, answer.kind) for answer in said), (
            f"{said}\n{worker.last_words()}"
        )
    return said


def end(worker: Worker) -> int:
    """Wait until the worker ends by itself."""
    wait_until(worker.has_ended)
    return worker.bury()


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


def train(worker: Worker, order: Order, kind: Kind = Kind.ended) -> Answer:
    worker.give(order)
    answer = answers(worker, kind)[-1]
    assert answer.cell == order.task.cell
    return answer


def test_one_process_trains_many_cells_and_a_failed_one_does_not_end_it(same: Worker, make_order: MakeOrder):
    say = "print('by', os.getpid())"
    for seed in range(3):
        answer = train(same, make_order(f"seed={seed}", told=say))
        assert (answer.status, answer.leaves) == (Status.done, False)
        failed = train(same, make_order(f"seed={seed}", told="raise ValueError('not\\ntoday')"))
        assert (failed.status, failed.cause, failed.leaves) == (Status.error, "ValueError: not", False)
    assert f"by {same.pid}" in same.last_words()


def test_its_records_are_those_of_a_cell_trained_alone(same: Worker, make_small: MakeConfig, tmp_path: Path):
    order = None
    for net in ("model_a", "all_cnn_c"):
        config = make_small(f"model={net}", "augment=flip_shift", "trainer.threads=0")
        order = Order(task=Task(cell=identity.cell_id(config), config=identity.flat(config)))
        assert train(same, order).status is Status.done
    assert order is not None
    record = records.read_record(order.task.folder / "record.json")
    assert record.provenance.threads == 1
    alone = run_cell(make_small("model=all_cnn_c", "augment=flip_shift", f"runs={tmp_path / 'alone'}"))
    assert record.result == alone.result


def test_nothing_that_a_net_prints_or_reads_disturbs_the_pool(worker: Worker, make_order: MakeOrder):
    told = "print('x' * 100_000); sys.stderr.write('y' * 100_000); self.told = '' if sys.stdin.read() == '' else '1/0'"
    assert train(worker, make_order(told=told)).status is Status.done
    # A child that outlives the cell must not keep the answers' pipe open, nor outlive the worker.
    child = "import subprocess; open('child', 'w').write(str(subprocess.Popen(['sleep', '99'], close_fds=False).pid))"
    assert train(worker, make_order("seed=1", told=child + "; self.told = ''")).status is Status.done
    worker.dismiss()
    assert end(worker) == 0
    wait_until(lambda: not alive(int(Path("child").read_text())))


def test_what_comes_out_of_run_cell_leaves_word_and_the_worker_goes_on(same: Worker, make_order: MakeOrder):
    exits = train(same, make_order(first="sys.exit(4)"), Kind.crashed)
    assert exits.cause == "SystemExit: 4"
    assert "nets.py" in exits.traceback
    wrong = train(same, make_order(first="1/0"), Kind.crashed)
    assert wrong.cause == "model.builder=nets:told: raised ZeroDivisionError: division by zero"
    assert train(same, make_order()).status is Status.done


def test_a_cell_that_runs_out_of_memory_gets_the_next_one_a_fresh_process(worker: Worker, make_order: MakeOrder):
    answer = train(worker, make_order(told="raise MemoryError"))
    assert (answer.status, answer.leaves) == (Status.out_of_memory, True)
    assert end(worker) == 0


def test_it_refuses_what_was_not_launched(same: Worker, make_order: MakeOrder, monkeypatch: pytest.MonkeyPatch):
    # Another test may have imported a module of that name from elsewhere; the worker has not.
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    code_hash_module._code.cache_clear()
    here = code_hash("nets:told")
    refused = train(same, make_order(code="0123456789"), Kind.refused)
    assert f"launched with code 0123456789, but this process has imported code {here} from" in refused.cause
    assert str(Path(strive.__file__).parent) in refused.cause
    order = make_order()
    edited = Order(task=Task(cell=order.task.cell, config=order.task.config | {"optimizer.lr": 7.0}))
    refused = train(same, edited, Kind.refused)
    assert refused.cause.startswith("its frozen config is that of told-digits-none-lr7-s0-")
    impossible = Order(task=Task(cell=order.task.cell, config=order.task.config | {"optimizer.lr": -1.0}))
    assert "optimizer.lr must be finite and above 0, got -1.0" in train(same, impossible, Kind.refused).cause
    assert not order.task.folder.exists()
    assert train(same, make_order(code=here)).status is Status.done


def test_a_cell_that_another_process_trains_is_left_to_it(same: Worker, make_order: MakeOrder):
    order = make_order()
    order.task.folder.mkdir(parents=True)
    with take_claim(order.task.folder, 60) as claim:
        assert "is being trained by process" in train(same, order, Kind.owned).cause
        # What the pool sends when the owner was found dead.
        assert train(same, make_order(fence=claim.owner.token)).status is Status.done
    assert "takes the cell over from process" in (order.task.folder / "log.txt").read_text()


@pytest.mark.parametrize("how", ["signal", "launcher gone"])
def test_when_asked_to_it_leaves_in_the_middle_of_a_cell_with_a_checkpoint(
    worker: Worker, make_order: MakeOrder, how: str
):
    order = make_order("budget.epochs=1000", told="import time; time.sleep(0.05)")
    worker.give(order)
    answers(worker, Kind.began)
    if how == "signal":
        os.kill(worker.pid, signal.SIGTERM)
        answer = answers(worker, Kind.stopped)[-1]
        assert (answer.cause, answer.leaves) == ("SIGTERM", True)
    else:
        worker.dismiss()
    assert end(worker) == 0
    assert (order.task.folder / "checkpoint.pt").exists()
    assert not (order.task.folder / "record.json").exists()
    assert not (order.task.folder / "claim").exists()


def test_after_a_signal_it_begins_with_nothing_more(worker: Worker, make_order: MakeOrder):
    answers(worker, Kind.ready)
    os.kill(worker.pid, signal.SIGTERM)
    answer = train(worker, make_order(), Kind.stopped)
    assert (answer.cause, answer.leaves) == ("SIGTERM", True)
    assert end(worker) == 0


def test_threads_and_gpu_are_those_of_its_slot(same: Worker, make_order: MakeOrder, place: Path):
    code = "open('seen', 'w').write(f'{os.environ[\"OMP_NUM_THREADS\"]} {torch.get_num_threads()}')"
    assert train(same, make_order(told=code)).status is Status.done
    assert (place / "seen").read_text() == "1 1"
    assert train(same, make_order("trainer.threads=2", "seed=1", told=code)).status is Status.done
    assert (place / "seen").read_text() == "1 2"
    environment = _environment(Slot("GPU-1", 3))
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]) == ("GPU-1", "3")


def test_a_gpu_that_torch_cannot_use_is_an_error_and_not_the_processor(tmp_path: Path):
    log = tmp_path / "worker.log"
    worker = Worker(0, Slot("GPU-of-another-machine", 1), log=log)
    assert end(worker) == 1
    assert "cannot use GPU GPU-of-another-machine" in log.read_text()


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[Worker]:
    """Return a worker that trains two cells at once."""
    with contextlib.chdir(place):
        worker = Worker(0, Slot("", 1, room=2), log=place / "pair.log")
    yield worker
    worker.dismiss()
    assert end(worker) == 0


def train_together(worker: Worker, *orders: Order) -> dict[str, Answer]:
    """Return the last answer for each, in the order in which they came."""
    for order in orders:
        worker.give(order)
    last: dict[str, Answer] = {}
    while len(last) < len(orders):
        last |= {answer.cell: answer for answer in answers(worker) if answer.kind not in (Kind.ready, Kind.began)}
    return last


def trained(order: Order) -> bool:
    """Return whether an epoch of the cell is over."""
    lines = order.task.folder / "epochs.jsonl"
    return lines.exists() and lines.stat().st_size > 0


def test_cells_side_by_side_have_the_records_of_cells_trained_alone(
    pair: Worker, make_small: MakeConfig, tmp_path: Path
):
    overrides = [["seed=1"], ["seed=2", "augment=flip_shift", "optimizer.lr=0.02"]]
    configs = [make_small("model.init=he", *each) for each in overrides]
    orders = [Order(task=Task(cell=identity.cell_id(config), config=identity.flat(config))) for config in configs]
    assert [answer.status for answer in train_together(pair, *orders).values()] == [Status.done] * 2
    for order, each in zip(orders, overrides, strict=True):
        record = records.read_record(order.task.folder / "record.json")
        assert record.provenance.packed == 2
        assert record.result == run_cell(make_small("model.init=he", *each, f"runs={tmp_path / 'alone'}")).result


def test_a_diverging_cell_leaves_the_other_in_training(pair: Worker, make_order: MakeOrder):
    good, wild = make_order("budget.epochs=3"), make_order("budget.epochs=3", "optimizer.lr=1e30")
    said = train_together(pair, good, wild)
    assert [(answer.cell, answer.status, answer.beside) for answer in said.values()] == [
        (wild.task.cell, Status.diverged, 1),
        (good.task.cell, Status.done, 0),
    ]


def test_a_cell_that_never_begins_leaves_the_other_in_training(pair: Worker, make_order: MakeOrder):
    good, refused = make_order("seed=3"), make_order("seed=4", code="0123456789")
    wrong = make_order("seed=4", first="1/0")
    assert [answer.kind for answer in train_together(pair, good, refused).values()] == [Kind.refused, Kind.ended]
    assert [answer.kind for answer in train_together(pair, wrong, make_order("seed=5")).values()] == [
        Kind.crashed,
        Kind.ended,
    ]


def test_a_cell_without_memory_beside_another_costs_that_one_nothing(pair: Worker, make_order: MakeOrder):
    good = make_order("seed=6")
    # While it is scored: what goes wrong in a step of both may be either's.
    hook = "lambda net, images: None if net.training else exec('raise MemoryError')"
    large = make_order("budget.epochs=1", told=f"self.register_forward_pre_hook({hook}); self.told = ''")
    said = train_together(pair, good, large)
    assert [(answer.status, answer.beside, answer.leaves) for answer in said.values()] == [
        (Status.out_of_memory, 1, False),
        (Status.done, 0, False),
    ]


def test_cells_that_stopped_together_have_a_checkpoint_each(tmp_path: Path, make_order: MakeOrder):
    worker = Worker(0, Slot("", 1, room=2), log=tmp_path / "worker.log")
    orders = [
        make_order("budget.epochs=1000", f"seed={seed}", told="import time; time.sleep(0.02)") for seed in range(2)
    ]
    try:
        for order in orders:
            worker.give(order)
        wait_until(lambda: all(trained(order) for order in orders))
        os.kill(worker.pid, signal.SIGTERM)
        # What comes now does not begin.
        late = make_order("seed=3")
        worker.give(late)
        assert end(worker) == 0
    finally:
        worker.kill()
        worker.bury()
    assert all((order.task.folder / "checkpoint.pt").exists() for order in orders)
    assert not any((order.task.folder / "claim").exists() for order in orders)
    assert not late.task.folder.exists()


def test_a_cell_beside_which_the_others_are_slower_is_given_back(tmp_path: Path, make_order: MakeOrder):
    worker = Worker(0, Slot("", 1, room=0), log=tmp_path / "worker.log")
    try:
        first, second = make_order("seed=6"), make_order("seed=7")
        said = train_together(worker, first, second)
        # On the processor one at a time is as fast as anything.
        assert [(answer.cell, answer.kind, answer.room) for answer in said.values()] == [
            (second.task.cell, Kind.returned, 1),
            (first.task.cell, Kind.ended, 0),
        ]
        assert not (second.task.folder / "record.json").exists()
        assert not (second.task.folder / "claim").exists()
        # What was found out of one net says nothing of the next.
        others = [make_order("budget.batch_size=256", f"seed={seed}") for seed in range(2)]
        assert [answer.kind for answer in train_together(worker, *others).values()] == [Kind.returned, Kind.ended]
        # But of its own kind it is known: measured again, noise would make the number smaller each time.
        again = [make_order(f"seed={seed}") for seed in (8, 9)]
        assert [answer.kind for answer in train_together(worker, *again).values()] == [Kind.ended, Kind.ended]
        worker.dismiss()
        assert end(worker) == 0
    finally:
        worker.kill()
        worker.bury()


def test_memory_is_counted_for_each_cell(same: Worker, make_order: MakeOrder):
    large = make_order(told="torch.ones(200_000_000)")  # 800 MB
    small = make_order()
    for order in (large, small):
        assert train(same, order).status is Status.done
    peaks = [
        records.read_record(order.task.folder / "record.json").provenance.peak_memory_bytes for order in (large, small)
    ]
    # A peak that is not forgotten never falls.
    assert peaks[0] - peaks[1] > 100_000_000


def test_files_in_the_current_directory_do_not_replace_pythons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("queue", "select", "torch", "strive"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported from the wrong place')")
    worker = Worker(0, Slot("", 1), log=tmp_path / "worker.log")
    try:
        answers(worker, Kind.ready)
    finally:
        worker.kill()
        worker.bury()


def test_a_message_comes_out_as_it_went_in(make_order: MakeOrder):
    order = make_order(fence="token")
    assert Order.from_json(order.to_json()) == order
    answer = Answer(kind=Kind.ended, cell="c", status=Status.diverged, cause="ä\n", seen={"threads": 2})
    assert Answer.from_json(answer.to_json()) == answer


def test_a_worker_of_another_python_says_why_it_cannot_start(tmp_path: Path):
    worker = Worker(0, Slot("", 1), log=tmp_path / "worker.log", python="/bin/ls")
    assert end(worker) != 0
    assert "invalid option" in worker.last_words()
