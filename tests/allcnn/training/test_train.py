import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import MakeConfig, train_cell
from torch import Tensor, nn
from torch.nn import functional as F

from allcnn.config import Config
from allcnn.data.splits import ResidentSplit, Splits, load_splits
from allcnn.networks.build import build_network
from allcnn.training import EagerExecutor, Execution, Outcome, Training, train_epoch
from strive.config.identity import science_keys

CPU = Execution(torch.device("cpu"), threads=1, compiled=False)


def few(splits: Splits, count: int = 100) -> Splits:
    """The first images of each split: training takes a moment, and the last batch is smaller."""

    def first(split: ResidentSplit) -> ResidentSplit:
        return ResidentSplit(split.images[:count].numpy(), split.labels[:count].numpy(), torch.device("cpu"))

    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    return dataclasses.replace(splits, **{name: split and first(split) for name, split in parts.items()})


def train(config: Config, **hooks: Any) -> Outcome:
    return train_cell(config, few(load_splits(config, CPU.device)), CPU, **hooks)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(a[name].equal(b[name]) for name in a)


# Every part that is not the paper's, at once.
ALL_PARTS = (
    "optimizer=adamw", "optimizer.schedule=one_cycle", "label_smoothing=0.1", "augment=flip_shift",
    "augment.cutout_px=8", "augment.mixup=0.2",
)  # fmt: skip
BASE = ("data.val_images=100", "precision=fp32", "budget.epochs=2", "budget.batch_size=32")


def test_the_first_step_is_the_formula_of_sgd_with_momentum_and_decay(make_small: MakeConfig):
    config = make_small(
        *BASE, "budget.epochs=1", "budget.batch_size=100", "model.dropout_input=0", "model.dropout_hidden=0"
    )
    splits = few(load_splits(config, CPU.device))
    outcome = train_cell(config, splits, CPU)
    network = build_network(config.model, num_classes=10, image_size=32, seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert isinstance(splits.train, ResidentSplit)
    loss = F.cross_entropy(network(splits.train.images.permute(0, 3, 1, 2)), splits.train.labels)
    loss.backward()
    assert outcome.history[0].train_loss == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        # v = grad + decay * w; w = w - lr * v, where momentum has nothing to add yet.
        expected = before[name] - 0.05 * (parameter.grad + 0.001 * before[name])
        torch.testing.assert_close(outcome.weights[name], expected, rtol=1e-4, atol=1e-6)


def test_momentum_carries_the_last_step_into_the_next(make_small: MakeConfig):
    config = make_small(
        *BASE, "budget.batch_size=100", "model.dropout_input=0", "model.dropout_hidden=0", "optimizer.drop_at=[]"
    )
    splits = few(load_splits(config, CPU.device))
    outcome = train_cell(config, splits, CPU)
    network = build_network(config.model, num_classes=10, image_size=32, seed=0)
    velocity = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}
    assert isinstance(splits.train, ResidentSplit)
    for _ in range(2):
        network.zero_grad()
        F.cross_entropy(network(splits.train.images.permute(0, 3, 1, 2)), splits.train.labels).backward()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None
                velocity[name] = 0.9 * velocity[name] + parameter.grad + 0.001 * parameter
                parameter -= 0.05 * velocity[name]
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(outcome.weights[name], parameter.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("biases", [True, False])
def test_weights_decay_and_biases_where_they_are_to(make_small: MakeConfig, biases: bool):
    config = make_small(*BASE, f"optimizer.decay_biases={biases}")
    cell = Training(config, few(load_splits(config, CPU.device)), CPU)
    decays = {id(each): group["weight_decay"] for group in cell.optimizer.param_groups for each in group["params"]}
    for name, parameter in cell.network.named_parameters():
        assert decays[id(parameter)] == (0.001 if biases or name.endswith("weight") else 0.0), name


def test_training_again_gives_the_same_bits(make_small: MakeConfig):
    config = make_small(*BASE, "augment=flip_shift", "precision=bf16")
    assert same(train(config).weights, train(config).weights)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("augment=flip_shift", "precision=bf16"),
        ("model=model_a", "augment=flip_shift"),
        ("model=strided_cnn_b", "precision=bf16"),
        ("model=convpool_cnn_c",),
        ("model=model_c", "model.batch_norm=true"),
        ALL_PARTS,
    ],
)
def test_a_cell_resumed_from_any_step_ends_with_the_same_bits(make_small: MakeConfig, overrides: tuple[str, ...]):
    config = make_small(*BASE, *overrides)
    snapshots: dict[int, dict[str, Any]] = {}

    def keep(step: int, snapshot: Callable[[], dict[str, Any]]) -> None:
        # Through bytes, as a checkpoint goes: a snapshot shares memory with the living network.
        snapshots[step] = _copied(snapshot())

    whole = train(config, on_step=keep)
    assert sorted(snapshots) == list(range(1, 9))  # 100 images in batches of 32, twice
    for step, state in snapshots.items():
        resumed = train(config, state=state)
        assert same(resumed.weights, whole.weights), step
        assert resumed.history == whole.history, step
        assert resumed.test.logits.equal(whole.test.logits), step


def test_the_seconds_before_a_stop_count_too(make_small: MakeConfig):
    states: list[dict[str, Any]] = []
    config = make_small(*BASE, "budget.epochs=1")
    train(config, on_step=lambda step, snapshot: states.append(_copied(snapshot())))
    assert train(config, state=states[1] | {"seconds": 1e6}).train_seconds > 1e6


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def test_the_order_of_images_is_another_one_in_each_epoch_and_for_each_seed(make_small: MakeConfig):
    orders = []
    for seed in (0, 1):
        config = make_small(*BASE, f"seed={seed}")
        splits = few(load_splits(config, CPU.device))
        seen: list[int] = []
        original = splits.train.batches

        def spy(batches: Any, original: Any = original, seen: list[int] = seen) -> Any:
            seen += [int(index) for batch in batches for index in batch]
            return original(batches)

        splits.train.batches = spy  # type: ignore[method-assign]
        train_cell(config, splits, CPU)
        orders += [tuple(seen[:100]), tuple(seen[100:])]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_switching_augmentation_on_changes_neither_order_nor_initial_weights(make_small: MakeConfig):
    # A shift of 0 and no flips: the augmented path with nothing drawn must be the plain cell.
    still = ("augment=flip_shift", "augment.shift_px=0", "augment.flip_probability=0")
    assert same(train(make_small(*BASE)).weights, train(make_small(*BASE, *still)).weights)


def test_loss_and_rate_of_errors_are_those_of_the_final_weights(make_small: MakeConfig):
    config = make_small(*BASE)
    splits = few(load_splits(config, CPU.device))
    outcome = train_cell(config, splits, CPU)
    network = build_network(config.model, num_classes=10, image_size=32, seed=0)
    network.load_state_dict(outcome.weights)
    assert isinstance(splits.test, ResidentSplit)
    assert isinstance(splits.val, ResidentSplit)
    with torch.inference_mode():
        for split, error, loss in (
            (splits.test, outcome.test.error, outcome.test.loss),
            (splits.val, outcome.history[-1].val_error, outcome.history[-1].val_loss),
        ):
            logits = network.eval()(split.images.permute(0, 3, 1, 2))
            assert error == int((logits.argmax(1) != split.labels).sum()) / 100
            assert loss == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-5)


def test_an_epochs_train_numbers_are_means_over_all_its_images(make_small: MakeConfig):
    # A rate that moves no float32, and no dropout: every step of both epochs meets the first weights.
    still = ("optimizer.lr=1e-30", "model.dropout_input=0", "model.dropout_hidden=0")
    config = make_small(*BASE, *still)  # 100 images in batches of 32: the last batch is of four
    splits = few(load_splits(config, CPU.device))
    network = build_network(config.model, num_classes=10, image_size=32, seed=0)
    assert isinstance(splits.train, ResidentSplit)
    with torch.inference_mode():
        logits = network(splits.train.images.permute(0, 3, 1, 2))
    wrong = sum(int(row.argmax()) != int(label) for row, label in zip(logits, splits.train.labels, strict=True))
    assert wrong not in (0, 50, 100)
    for line in train_cell(config, splits, CPU).history:
        assert line.train_error == wrong / 100
        assert line.train_loss == pytest.approx(F.cross_entropy(logits, splits.train.labels).item(), rel=1e-5)


def test_an_epochs_line_has_the_learning_rate_of_its_last_step(make_small: MakeConfig):
    # Eight steps in two epochs: the rate drops before the last step of the first, and before the second epoch.
    history = train(make_small(*BASE, "optimizer.drop_at=[3/8,1/2]")).history
    assert [line.lr for line in history] == pytest.approx([0.05 * 0.1, 0.05 * 0.1**2])


def test_without_held_out_images_there_is_no_val_value(make_small: MakeConfig):
    last = train(make_small(*BASE, "data.val_images=0")).history[-1]
    assert (last.val_loss, last.val_error) == (None, None)


def test_a_loss_that_is_not_finite_ends_the_cell_as_diverged(make_small: MakeConfig):
    outcome = train(make_small(*BASE, "optimizer.lr=1e30", "budget.epochs=5", "model.class_relu=false"))
    assert "the training loss became" in outcome.diverged
    assert len(outcome.history) < 5
    assert 0 <= outcome.test.error <= 1
    assert not math.isfinite(outcome.history[-1].train_loss)


def test_a_net_whose_outputs_are_all_zero_ends_as_diverged(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    outcome = _train_with(monkeypatch, make_small(*BASE, "budget.epochs=5"), bias=-100.0)
    assert outcome.diverged == "all class outputs were zero on every training image of epoch 1"
    assert len(outcome.history) == 1
    assert outcome.history[0].train_loss == pytest.approx(math.log(10), rel=1e-5)


def test_a_net_whose_outputs_become_zero_in_a_later_epoch_ends_with_that_one(make_small: MakeConfig):
    config = make_small(*BASE, "budget.epochs=3")
    cell = Training(config, few(load_splits(config, CPU.device)), CPU)
    train_epoch([cell], EagerExecutor(), lambda training: None)
    assert cell.diverged == ""
    last = [module for module in cell.network.modules() if isinstance(module, nn.Conv2d)][-1]
    assert last.bias is not None
    with torch.no_grad():
        last.bias.fill_(-1e6)
    train_epoch([cell], EagerExecutor(), lambda training: None)
    assert cell.diverged == "all class outputs were zero on every training image of epoch 2"


@pytest.mark.parametrize(("bias", "class_relu"), [(1.0, True), (-1.0, False)])
def test_a_loss_of_ln_10_alone_is_not_diverged(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, bias: float, class_relu: bool
):
    # The same small output for every class, also below zero: the loss is ln 10, and gradients still flow.
    config = make_small(*BASE, "optimizer.lr=1e-9", f"model.class_relu={class_relu}")
    outcome = _train_with(monkeypatch, config, bias=bias)
    assert outcome.history[-1].train_loss == pytest.approx(math.log(10), rel=1e-2)
    assert outcome.diverged == ""
    assert len(outcome.history) == 2


def _train_with(monkeypatch: pytest.MonkeyPatch, config: Config, bias: float) -> Outcome:
    """Train a net whose class convolution starts with weights of zero and this bias."""

    def build(*args: Any, **kwargs: Any) -> nn.Module:
        network = build_network(*args, **kwargs)
        last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(bias)  # type: ignore[union-attr]
        return network

    monkeypatch.setattr("allcnn.training.cell_training.build_network", build)
    return train(config)


# A small canvas: what it holds is drawn in the same way.
EXTREME = ("augment=extreme", "augment.canvas_px=40", "augment.scale_min=1", "augment.scale_max=1.5")
ADAMW = ("optimizer=adamw",)
ONE_CYCLE = ("optimizer.schedule=one_cycle",)
# One line per science key that acts on a small cell: the base it acts on, and another value.
KNOBS = {
    "model.base": ((), "a"),
    "model.variant": ((), "strided"),
    "model.width": ((), "0.15"),
    "model.class_relu": ((), "false"),
    "model.head_padding": ((), "same"),
    "model.pool_rounding": (("model=model_a",), "pad"),
    "model.pool_norm": (("model=model_a",), "2"),
    "model.strided_b": (("model=strided_cnn_b",), "conv5x5"),
    "model.init": ((), "xavier_caffe"),
    "model.init_std": (("model.init=gaussian",), "0.1"),
    "model.dropout_input": ((), "0.1"),
    "model.dropout_hidden": ((), "0.4"),
    "model.dropout_after": (("model=strided_cnn_a",), "pool_or_added_conv"),
    "model.leaky_slope": (
        ("model=extra/large_all_cnn", "model.width=0.01", "augment=extreme", "budget.batch_size=50"),
        "0.1",
    ),
    "model.batch_norm": ((), "true"),
    "data.val_images": ((), "200"),
    "preprocess.kind": ((), "gcn_zca"),
    "preprocess.gcn_scale": (("preprocess=gcn_zca",), "50"),
    "preprocess.zca_bias": (("preprocess=gcn_zca",), "0.2"),
    "augment.kind": ((), "flip_shift"),
    "augment.flip_probability": (("augment=flip_shift",), "0.2"),
    "augment.shift_px": (("augment=flip_shift",), "2"),
    "augment.canvas_px": (EXTREME, "48"),
    "augment.scale_min": (EXTREME, "0.8"),
    "augment.scale_max": (EXTREME, "1.3"),
    "augment.rotate_degrees": (EXTREME, "10"),
    "augment.contrast": (EXTREME, "0.1"),
    "augment.colour_shift": (EXTREME, "0.1"),
    "augment.cutout_px": ((), "8"),
    "augment.mixup": ((), "0.4"),
    "optimizer.kind": ((), "adamw"),
    "optimizer.nesterov": ((), "true"),
    "optimizer.beta1": (ADAMW, "0.5"),
    "optimizer.beta2": (ADAMW, "0.9"),
    "optimizer.eps": (ADAMW, "0.01"),
    "optimizer.schedule": ((), "cosine"),
    "optimizer.step_epochs": (("optimizer.schedule=step", "budget.epochs=3", "optimizer.step_epochs=1"), "2"),
    "optimizer.rise": (ONE_CYCLE, "0.6"),
    "optimizer.start_factor": (ONE_CYCLE, "0.5"),
    "optimizer.end_factor": (("optimizer.schedule=cosine",), "0.5"),
    "label_smoothing": ((), "0.1"),
    "optimizer.lr": ((), "0.01"),
    "optimizer.momentum": ((), "0.5"),
    "optimizer.weight_decay": ((), "0.01"),
    "optimizer.decay_biases": ((), "false"),
    "optimizer.drop_at": ((), "[1/4]"),
    "optimizer.drop_factor": ((), "0.5"),
    "budget.epochs": ((), "3"),
    "budget.batch_size": ((), "50"),
    "precision": ((), "bf16"),
    "seed": ((), "1"),
}


@pytest.mark.parametrize("key", KNOBS)
def test_a_knob_reaches_the_numbers(make_small: MakeConfig, key: str):
    on, value = KNOBS[key]
    # On whole splits where the knob decides which images they hold, else on a few images.
    base = train(make_small(*BASE, *on))
    other = train(make_small(*BASE, *on, f"{key}={value}"))
    if [tensor.shape for tensor in base.weights.values()] == [tensor.shape for tensor in other.weights.values()]:
        assert not same(base.weights, dict(zip(base.weights, other.weights.values(), strict=True)))


def test_every_science_key_is_tried():
    # The data set's source and name choose the images, image_size is fixed for digits, and the
    # keys of a user's net and augmentation have tests of their own.
    builders = {f"{group}.{name}" for group in ("model", "augment") for name in ("builder", "kwargs")}
    assert set(KNOBS) | builders | {"model.family", "data.source", "data.name", "data.image_size"} == science_keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch 2.11, inside its compiler
@pytest.mark.slow
def test_each_of_many_nets_in_one_process_is_compiled(make_small: MakeConfig):
    # torch counts the graphs of all nets together, and beyond eight it goes on without compiling.
    graphs: list[int] = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    compiled = dataclasses.replace(CPU, compiled=True)
    original = torch.compile
    for seed in range(6):
        config = make_small(*BASE, "budget.epochs=1", f"model.width={0.05 * (seed + 1)}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "compile", lambda net, **options: original(net, backend=count, **options))
            train_cell(config, few(load_splits(config, CPU.device)), compiled)
        assert len(graphs) == 2 * (seed + 1)  # one for the batch of 32, one for the tail of 4
