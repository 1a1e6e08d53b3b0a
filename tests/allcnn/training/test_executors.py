import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import MakeConfig, plainly, train_cell
from test_train import ALL_PARTS, BASE, CPU, few, same

from allcnn.config import Config
from allcnn.data.splits import load_splits
from allcnn.training import (
    EagerExecutor,
    Executor,
    GraphExecutor,
    Outcome,
    Training,
    cells_at_once,
    train_epoch,
)
from allcnn.training.executors import cuda_capture

NETS = [
    (),
    ("augment=flip_shift", "precision=bf16"),
    ("augment=extreme", "augment.canvas_px=40"),
    ("model=model_a", "augment=flip_shift"),
    ("model=strided_cnn_b", "precision=bf16"),
    ("model=convpool_cnn_c", "optimizer.momentum=0"),
    ("model=model_c", "model.batch_norm=true"),
    ALL_PARTS,
]


def training(config: Config) -> Training:
    return Training(config, few(load_splits(config, CPU.device)), CPU)


def trained(trainings: list[Training], executor: Executor) -> list[Outcome]:
    """Each leaves when it has finished, as in a pack."""
    while active := [each for each in trainings if not each.finished]:
        train_epoch(active, executor, lambda training: None)
    return [each.outcome() for each in trainings]


def assert_same(a: Outcome, b: Outcome) -> None:
    assert a.history == b.history
    assert same(a.weights, b.weights)
    assert a.test.logits.equal(b.test.logits)


@pytest.mark.parametrize("overrides", NETS)
def test_what_a_graph_replays_is_bit_for_bit_what_the_eager_executor_does(
    make_small: MakeConfig, overrides: tuple[str, ...]
):
    config = make_small(*BASE, *overrides)
    (graph,) = trained([training(config)], GraphExecutor(plainly))
    assert_same(graph, train_cell(config, few(load_splits(config, CPU.device)), CPU))


@pytest.mark.parametrize("executor", [EagerExecutor, lambda: GraphExecutor(plainly)])
def test_a_packed_cell_ends_with_the_bits_of_the_lone_cell(make_small: MakeConfig, executor: Callable[[], Executor]):
    configs = [
        make_small(*BASE, "seed=1", "augment=flip_shift"),
        make_small(*BASE, "seed=2", "optimizer.lr=0.01", "budget.epochs=3"),
        make_small(*BASE, "seed=3", "optimizer.weight_decay=0", "budget.epochs=1"),
    ]
    packed = trained([training(config) for config in configs], executor())
    for config, outcome in zip(configs, packed, strict=True):
        assert_same(outcome, train_cell(config, few(load_splits(config, CPU.device)), CPU))


def test_a_diverged_cell_leaves_the_pack_and_the_others_go_on(make_small: MakeConfig):
    configs = [make_small(*BASE, "optimizer.lr=1e9"), make_small(*BASE, "seed=2")]
    wild, calm = trained([training(config) for config in configs], GraphExecutor(plainly))
    assert "loss became" in wild.diverged
    assert len(wild.history) < 2
    assert_same(calm, train_cell(configs[1], few(load_splits(configs[1], CPU.device)), CPU))


def test_a_cell_stopped_in_one_pack_goes_on_in_another_with_the_same_bits(make_small: MakeConfig):
    configs = [make_small(*BASE, f"seed={seed}") for seed in range(3)]
    alone = [train_cell(config, few(load_splits(config, CPU.device)), CPU) for config in configs]
    first = [training(config) for config in configs[:2]]
    kept: dict[int, dict[str, Any]] = {}

    class StopError(Exception):
        pass

    def stop_in_the_middle(training: Training) -> None:
        if training.step == 2:  # of 4 steps in an epoch
            kept[training.config.seed] = copy.deepcopy(training.snapshot())
            if len(kept) == 2:
                raise StopError

    with pytest.raises(StopError):
        train_epoch(first, GraphExecutor(plainly), stop_in_the_middle)
    second = [training(config) for config in (configs[1], configs[2], configs[0])]
    second[0].restore(kept[1])
    second[2].restore(kept[0])
    outcomes = trained(second, GraphExecutor(plainly))
    for outcome, wanted in zip(outcomes, (alone[1], alone[2], alone[0]), strict=True):
        assert_same(outcome, wanted)


@pytest.mark.parametrize("fast", [False, True])
def test_a_graph_whose_first_step_differs_is_not_used(make_small: MakeConfig, fast: bool):
    config = make_small(*BASE)

    cell = training(config)
    (outcome,) = trained([cell], GraphExecutor(lambda step: lambda: None, fast=fast))
    assert cell.fallback == "CUDA graph: its first step was not that of the eager executor"
    assert_same(outcome, train_cell(config, few(load_splits(config, CPU.device)), CPU))


@pytest.mark.parametrize("fast", [False, True])
def test_a_graph_may_differ_in_the_last_bits_where_kernels_may(make_small: MakeConfig, fast: bool):
    cell = training(make_small(*BASE, "budget.epochs=1"))

    def almost(step: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            step()
            with torch.no_grad():
                next(cell.network.parameters()).mul_(1 + 1e-6)

        return replay

    trained([cell], GraphExecutor(almost, fast=fast))
    assert cell.fallback == ("" if fast else "CUDA graph: its first step was not that of the eager executor")


def test_a_step_that_cannot_be_captured_is_taken_eagerly_and_says_why(make_small: MakeConfig):
    config = make_small(*BASE)

    def failing(step: Callable[[], None]) -> Callable[[], None]:
        step()  # a warm-up, which must leave no trace
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    cell = training(config)
    (outcome,) = trained([cell], GraphExecutor(failing))
    assert cell.fallback == "CUDA graph: RuntimeError: operation not permitted when stream is capturing"
    assert_same(outcome, train_cell(config, few(load_splits(config, CPU.device)), CPU))


def test_too_little_memory_for_a_graph_is_not_passed_over(make_small: MakeConfig):
    def full(step: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        trained([training(make_small(*BASE))], GraphExecutor(full))


def test_a_graph_is_captured_once_for_each_batch_size_of_a_pack(make_small: MakeConfig):
    captured = []

    def counting(step: Callable[[], None]) -> Callable[[], None]:
        captured.append(step)
        return step

    trained([training(make_small(*BASE, f"seed={seed}")) for seed in range(2)], GraphExecutor(counting))
    assert len(captured) == 2  # 32 images, and the last 4


@pytest.mark.parametrize("seconds", [[1.0, 1.2, 1.3, 2.0], [1.0, 2.0, 3.0, 4.0], [1.0, 1.98, 2.0, 2.5]])
def test_as_many_cells_train_at_once_as_take_the_most_steps_in_a_second(make_small: MakeConfig, seconds: list[float]):
    class Timed(GraphExecutor):
        def seconds_per_step(self, trainings: Any, *, steps: int = 20) -> float:
            return seconds[len(trainings) - 1]

    cells = [training(make_small(*BASE, f"seed={seed}")) for seed in range(4)]
    rates = [(count + 1) / each for count, each in enumerate(seconds)]
    assert cells_at_once(cells, Timed(plainly)) == rates.index(max(rates)) + 1


def test_a_gain_within_the_noise_is_not_worth_the_memory_of_another_cell(make_small: MakeConfig):
    class Timed(GraphExecutor):
        def seconds_per_step(self, trainings: Any, *, steps: int = 20) -> float:
            return len(trainings) / (1 + 0.01 * len(trainings))  # 1% more steps in a second with each cell

    cells = [training(make_small(*BASE, f"seed={seed}")) for seed in range(3)]
    assert cells_at_once(cells, Timed(plainly)) == 1


def test_calibration_leaves_the_cells_as_they_were(make_small: MakeConfig):
    configs = [make_small(*BASE, f"seed={seed}", "model.batch_norm=true") for seed in range(2)]
    cells, executor = [training(config) for config in configs], GraphExecutor(plainly)
    before = [[tensor.clone() for tensor in cell.tensors()] for cell in cells]
    assert cells_at_once(cells, executor) in (1, 2)
    after = [cell.tensors() for cell in cells]
    assert all(torch.equal(a, b) for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True))
    for outcome, config in zip(trained(cells, executor), configs, strict=True):
        assert_same(outcome, train_cell(config, few(load_splits(config, CPU.device)), CPU))


def test_one_kernel_after_the_other_gains_nothing_from_company(make_small: MakeConfig):
    cells = [training(make_small(*BASE, f"seed={seed}")) for seed in range(2)]
    assert cells_at_once(cells, EagerExecutor()) == 1


def test_a_net_of_the_users_is_not_put_into_a_graph_and_goes_on_with_the_same_bits(
    make_small: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "flat_net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.AlphaDropout(0.5), nn.Linear(3 * image_size**2, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = make_small(*BASE, "model=extra/custom", "model.builder=flat_net:build", "model.width=1")
    cell = training(config)
    (outcome,) = trained([cell], GraphExecutor(plainly))
    assert cell.fallback.startswith("CUDA graph: model.builder's net")
    splits, states = few(load_splits(config, CPU.device)), list[dict[str, Any]]()
    whole = train_cell(config, splits, CPU, on_step=lambda step, now: states.append(copy.deepcopy(now())))
    assert_same(outcome, whole)
    # AlphaDropout draws from torch's own generator, of which a checkpoint keeps nothing.
    assert_same(train_cell(config, splits, CPU, state=states[2]), whole)


def test_the_seconds_of_packed_cells_add_up_to_the_devices(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    ticks = iter(range(1_000_000))
    monkeypatch.setattr("allcnn.training.train.time.perf_counter", lambda: float(next(ticks)))
    cells = [training(make_small(*BASE, f"seed={seed}", "budget.epochs=1")) for seed in range(2)]
    train_epoch(cells, EagerExecutor(), lambda training: None)
    # A tick for each of four steps, and one for what follows the last.
    assert cells[0].seconds == cells[1].seconds == 5 / 2


def test_bf16_copies_are_those_of_the_parameters_after_a_step_and_after_a_resume(make_small: MakeConfig):
    cells = [training(make_small(*BASE, "precision=bf16", f"seed={seed}")) for seed in range(2)]
    for cell in cells:
        cell.working.use_bf16_copies()  # as on a GPU
    train_epoch(cells[:1], EagerExecutor(), lambda training: None)
    cells[1].restore(copy.deepcopy(cells[0].snapshot()))
    for cell in cells:
        for mine, parameter in zip(cell.working.copies, cell.network.parameters(), strict=True):
            assert torch.equal(mine, parameter.bfloat16())


def warmed_up(step: Callable[[], None]) -> Callable[[], None]:
    """Capture as CUDA does: after a step, and with the modes that the net is in then."""
    step()
    return step


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_warm_up_at_an_epochs_last_batch_reads_nothing_beyond_it(make_small: MakeConfig, epochs: int):
    config = make_small(*BASE, "augment=flip_shift", f"budget.epochs={epochs}")
    cell = training(config)
    (outcome,) = trained([cell], GraphExecutor(warmed_up))
    assert cell.fallback == ""
    assert_same(outcome, train_cell(config, few(load_splits(config, CPU.device)), CPU))


def test_a_capture_warms_up_with_one_step_and_gives_the_stream_back_where_it_fails(monkeypatch: pytest.MonkeyPatch):
    steps, streams = [], ["here"]

    class Stream:
        device_index = 0

        def wait_stream(self, other: object) -> None: ...

    class Broken:
        def __init__(self, graph: object, **options: object) -> None: ...

        def __enter__(self) -> None:
            streams.append("capture")

        def __exit__(self, *error: object) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    here = Stream()
    for name, value in {
        "Stream": Stream, "current_stream": lambda: here, "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": object, "graph_pool_handle": lambda: (0, 0), "graph": Broken,
        "set_stream": lambda stream: streams.append("here" if stream is here else "another"),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)

    def step() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="previous error"):
        cuda_capture(step)
    assert len(steps) == 2  # to warm up, and within the capture
    assert streams[-1] == "here"


def test_what_broke_a_capture_off_is_what_is_told(make_small: MakeConfig):
    def broken_off(step: Callable[[], None]) -> Callable[[], None]:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    cells = [training(make_small(*BASE, f"seed={seed}")) for seed in range(2)]
    before = [tensor.clone() for tensor in cells[0].tensors()]
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        trained(cells, GraphExecutor(broken_off))
    assert all(torch.equal(a, b) for a, b in zip(before, cells[0].tensors(), strict=True))


def test_a_graph_that_is_captured_after_scoring_has_its_dropout(make_small: MakeConfig):
    modes = []

    def noting(step: Callable[[], None]) -> Callable[[], None]:
        modes.append([cell.network.training for cell in cells])
        return step

    cells = [training(make_small(*BASE, f"seed={seed}")) for seed in range(2)]
    for cell in cells:
        cell.network.eval()
    executor = GraphExecutor(noting)
    cells_at_once(cells, executor)
    assert modes == [[True, False], [True, True]]


@pytest.mark.parametrize("late", [0, 1])
def test_cells_resumed_at_the_end_of_an_epoch_are_calibrated(make_small: MakeConfig, late: int):
    cells = [training(make_small(*BASE, f"seed={seed}")) for seed in range(2)]
    cells[late].step = cells[late].steps_per_epoch
    assert cells_at_once(cells, GraphExecutor(warmed_up)) in (1, 2)
    assert [cell.fallback for cell in cells] == ["", ""]


def test_a_cell_whose_graph_failed_in_one_pack_is_a_graph_in_the_next(make_small: MakeConfig):
    def alone(step: Callable[[], None]) -> Callable[[], None]:
        if len(executor._branches) > 1:
            raise RuntimeError("too many branches")
        return step

    executor = GraphExecutor(alone)
    cells = [training(make_small(*BASE, f"seed={seed}", f"budget.epochs={2 - seed}")) for seed in range(2)]
    train_epoch(cells, executor, lambda training: None)
    assert [cell.fallback for cell in cells] == ["CUDA graph: RuntimeError: too many branches"] * 2
    train_epoch(cells[:1], executor, lambda training: None)
    assert cells[0].fallback == ""
