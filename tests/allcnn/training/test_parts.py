"""Parts of training that are not the paper's, each against torch's own."""

import pytest
import torch
from support import MakeConfig, train_cell
from test_train import BASE, CPU, few
from torch import Tensor, nn
from torch.nn import functional as F

from allcnn import randomness
from allcnn.config import Optimizer as Kind
from allcnn.config import OptimizerConfig
from allcnn.data.splits import ResidentSplit, load_splits
from allcnn.networks.build import build_network
from allcnn.training.optimizer import make_optimizer, state_tensors

OPTIMIZERS = {
    "sgd": OptimizerConfig(lr=0.1),
    "nesterov": OptimizerConfig(lr=0.1, nesterov=True),
    "adamw": OptimizerConfig(kind=Kind.adamw, lr=0.01, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.1),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def gradients(network: nn.Module, step: int) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.sin(torch.arange(parameter.numel()) + step).view_as(parameter)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_torchs_own_from_the_first_on(name: str):
    config, mine, other = OPTIMIZERS[name], net(), net()
    lr = torch.tensor(config.lr, dtype=torch.float64)
    optimizer = make_optimizer(mine, config, lr)
    torchs: torch.optim.Optimizer
    if name == "adamw":
        torchs = torch.optim.AdamW(other.parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)
    else:
        torchs = torch.optim.SGD(
            other.parameters(), lr=0.1, momentum=0.9, weight_decay=0.001, nesterov=name == "nesterov"
        )
    for step in range(5):
        for each, network in ((optimizer, mine), (torchs, other)):
            gradients(network, step)
            each.step()
        for one, two in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)
    # Another learning rate reaches the next step.
    lr.fill_(0)
    before = [parameter.detach().clone() for parameter in mine.parameters()]
    optimizer.step()
    assert all(map(torch.equal, before, mine.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_is_what_torchs_would_be(name: str):
    optimizer = make_optimizer(net(), OPTIMIZERS[name], torch.tensor(0.1, dtype=torch.float64))
    names = {key for state in optimizer.state.values() for key in state}
    assert names == ({"step", "exp_avg", "exp_avg_sq"} if name == "adamw" else {"momentum_buffer"})
    assert all(int(tensor.count_nonzero()) == 0 for tensor in state_tensors(optimizer))


def first_loss(make_small: MakeConfig, *overrides: str) -> tuple[float, float, Tensor, Tensor]:
    """Train one step on all images at once; return its loss and error, and the logits and labels that it met."""
    config = make_small(
        *BASE, "budget.epochs=1", "budget.batch_size=100", "model.dropout_input=0", "model.dropout_hidden=0", *overrides
    )
    splits = few(load_splits(config, CPU.device))
    line = train_cell(config, splits, CPU).history[0]
    assert isinstance(splits.train, ResidentSplit)
    order = torch.randperm(100, generator=randomness.generator(0, "order", 0))
    images, labels = splits.train.take(order)
    if config.augment.mixup:
        # Beta(1, 1) is uniform, so its quantiles are their own shares.
        drawn = randomness.integers(randomness.key(0, "mixup", 0), 1, 32_768)
        share = (float(drawn) + 0.5) / 32_768
        images = share * images + (1 - share) * images.flip(0)
    network = build_network(config.model, num_classes=10, image_size=32, seed=0)
    with torch.no_grad():
        return line.train_loss, line.train_error, network(images), labels


def test_label_smoothing_mixes_each_label_with_all_classes(make_small: MakeConfig):
    loss, error, logits, labels = first_loss(make_small, "label_smoothing=0.2")
    wanted = 0.8 * F.one_hot(labels, 10) + 0.2 / 10
    expected = -(wanted * logits.log_softmax(1)).sum(1).mean().item()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert error == (logits.argmax(1) != labels).float().mean().item().__round__(2)


def test_mixup_mixes_the_loss_as_it_mixes_the_images(make_small: MakeConfig):
    loss, error, logits, labels = first_loss(make_small, "augment.mixup=1", "label_smoothing=0.1")
    share = (float(randomness.integers(randomness.key(0, "mixup", 0), 1, 32_768)) + 0.5) / 32_768
    own, others = (F.cross_entropy(logits, each, label_smoothing=0.1).item() for each in (labels, labels.flip(0)))
    assert loss == pytest.approx(share * own + (1 - share) * others, rel=1e-4)
    heavier = labels if share >= 0.5 else labels.flip(0)
    assert error == pytest.approx(float((logits.argmax(1) != heavier).float().mean()), abs=1e-6)
