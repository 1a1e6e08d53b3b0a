import pytest

from allcnn.config import OptimizerConfig
from allcnn.training.schedule import learning_rate

STEPS_PER_EPOCH = 391  # 50,000 images in batches of 128


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 1), (199, 1), (200, 0.1), (249, 0.1), (250, 0.01), (299, 0.01), (300, 0.001), (349, 0.001)],
)
def test_the_papers_schedule_drops_after_200_250_and_300_of_350_epochs(epoch: int, factor: float):
    optimizer, total = OptimizerConfig(lr=0.25), 350 * STEPS_PER_EPOCH
    first, last = epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH - 1
    assert learning_rate(first, total, optimizer) == pytest.approx(0.25 * factor, rel=1e-12)
    assert learning_rate(last, total, optimizer) == pytest.approx(0.25 * factor, rel=1e-12)


def test_ten_epochs_run_the_whole_schedule():
    rates = [learning_rate(step, 10, OptimizerConfig(lr=1.0)) for step in range(10)]
    # 4/7, 5/7 and 6/7 of 10 are 5.7, 7.1 and 8.6.
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.001])


def test_no_drops_keep_the_rate_constant():
    assert {learning_rate(step, 50, OptimizerConfig(lr=0.1, drop_at=[])) for step in range(50)} == {0.1}
