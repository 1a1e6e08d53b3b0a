import io

import pytest
from rich.console import Console
from support import MakeConfig

from allcnn import progress
from allcnn.progress import CellProgress
from allcnn.training import EpochLine


def line(epoch: int, val_error: float | None) -> EpochLine:
    return EpochLine(epoch=epoch, lr=0.1, train_loss=1.234, train_error=0.5, val_loss=None, val_error=val_error)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, markup=False, soft_wrap=True, highlight=False)
    monkeypatch.setattr(progress, "CONSOLE", console)
    return text


def test_without_a_terminal_it_is_a_plain_line_every_few_seconds(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, clock: list[float]
):
    text = shown(monkeypatch, terminal=False)
    with CellProgress(make_small("budget.epochs=4"), num_train=1000, num_steps=40) as bar:
        bar.step(0)
        for epoch, now in ((1, 5.0), (2, 20.0), (3, 21.0), (4, 40.0)):
            clock[0] = now
            bar.step(10 * epoch)
            bar.epoch(line(epoch, 0.25))
    first, last = text.getvalue().splitlines()
    # 2 epochs of 1,000 images in 20 s; the other 2 take as long.
    assert first.split("  ") == [
        "all_cnn_c", "epoch 2/4", "loss 1.234", "train error 50.0%", "val error 25.00%", "100 images/s", "0:20 left",
    ]  # fmt: skip
    assert last.split("  ")[1:3] == ["epoch 4/4", "loss 1.234"]
    assert "left" not in last


def test_with_a_terminal_it_is_one_line_with_epoch_loss_val_error_and_speed(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    text = shown(monkeypatch, terminal=True)
    with CellProgress(make_small(), num_train=1000, num_steps=20) as bar:
        bar.step(10)
        bar.epoch(line(1, None))
        bar.step(11)
    for part in ("all_cnn_c", "epoch 1/2", "loss 1.234", "val error -", "images/s"):
        assert part in text.getvalue()


def test_it_can_be_switched_off(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, clock: list[float]):
    text = shown(monkeypatch, terminal=False)
    with CellProgress(make_small("trainer.progress=false"), num_train=1000, num_steps=20) as bar:
        bar.step(10)
        clock[0] = 100.0
        bar.epoch(line(2, None))
    assert text.getvalue() == ""
