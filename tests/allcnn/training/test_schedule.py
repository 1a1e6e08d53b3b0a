from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from allcnn.config import OptimizerConfig, Schedule
from allcnn.training.schedule import learning_rate

STEPS_PER_EPOCH = 391  # 50,000 images in batches of 128


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1), (199, 1), (200, 0.1), (249, 0.1), (250, 0.01), (299, 0.01), (300, 0.001), (349, 0.001)],
)
def test_the_papers_schedule_drops_after_200_250_and_300_of_350_epochs(epoch: int, factor: float):
    optimizer, total = OptimizerConfig(lr=0.25), 350 * STEPS_PER_EPOCH
    for step in (epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH - 1):
        assert learning_rate(step, total, optimizer, STEPS_PER_EPOCH) == pytest.approx(0.25 * factor, rel=1e-12)


def rates(optimizer: OptimizerConfig, *, epochs: int, steps_per_epoch: int = 1) -> list[float]:
    total = epochs * steps_per_epoch
    return [learning_rate(step, total, optimizer, steps_per_epoch) for step in range(total)]


def test_ten_epochs_run_the_whole_schedule():
    # 4/7, 5/7 and 6/7 of 10 are 5.7, 7.1 and 8.6.
    assert rates(OptimizerConfig(lr=1.0), epochs=10) == pytest.approx([1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.001])


def test_no_drops_keep_the_rate_constant():
    assert set(rates(OptimizerConfig(lr=0.1, drop_at=[]), epochs=50)) == {0.1}


def torchs(make: Callable[[torch.optim.SGD], LRScheduler], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_step_is_torchs_step_lr_of_whole_epochs():
    config = OptimizerConfig(lr=0.2, schedule=Schedule.step, step_epochs=3, drop_factor=0.5)
    expected = torchs(lambda optimizer: StepLR(optimizer, 3 * 7, gamma=0.5), 70)
    assert rates(config, epochs=10, steps_per_epoch=7) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("end_factor", [0.0, 0.1])
def test_cosine_is_torchs_cosine_annealing_over_all_steps(end_factor: float):
    config = OptimizerConfig(lr=0.2, schedule=Schedule.cosine, end_factor=end_factor)
    expected = torchs(lambda optimizer: CosineAnnealingLR(optimizer, 70, eta_min=0.2 * end_factor), 70)
    assert rates(config, epochs=10, steps_per_epoch=7) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("rise", "start", "end"), [(0.3, 0.04, 0.0), (0.45, 0.1, 1e-3)])
def test_one_cycle_is_torchs_one_cycle_lr(rise: float, start: float, end: float):
    config = OptimizerConfig(lr=0.2, schedule=Schedule.one_cycle, rise=rise, start_factor=start, end_factor=end)
    # torch divides the first rate to get the last; dividing by infinity gives zero.
    last = start / end if end else float("inf")
    expected = torchs(
        lambda optimizer: OneCycleLR(
            optimizer, 0.2, total_steps=70, pct_start=rise, div_factor=1 / start, final_div_factor=last,
            cycle_momentum=False,
        ),
        70,
    )  # fmt: skip
    assert rates(config, epochs=10, steps_per_epoch=7) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_one_cycle_that_is_too_short_to_rise_begins_at_its_peak():
    config = OptimizerConfig(lr=0.2, schedule=Schedule.one_cycle)
    assert rates(config, epochs=1) == [0.2]
    assert rates(config, epochs=3) == pytest.approx([0.2, 0.1, 0])
