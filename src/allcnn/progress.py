"""Progress display of one training cell."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from allcnn.config import Config
from strive.console import CONSOLE, OUTPUT, only_shown

if TYPE_CHECKING:  # torch takes seconds to import, and a sweep's launcher also imports this
    from allcnn.training import EpochLine

_QUIET_SECONDS = 10.0  # between two lines, if stderr is not a terminal


class CellProgress:
    """A progress line: epoch, loss, validation error, images/s and time left.

    If stderr is not a terminal, a plain line is printed every few seconds.
    """

    def __init__(self, config: Config, num_train: int, num_steps: int) -> None:
        self._config, self._num_train, self._num_steps = config, num_train, num_steps
        self._steps_per_epoch = num_steps // config.budget.epochs
        self._scores = f"epoch 0/{config.budget.epochs}"
        self._first: tuple[float, int] | None = None
        self._step = 0
        self._spoke = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(),
            console=CONSOLE,
            disable=not (config.trainer.progress and CONSOLE.is_terminal),
            # Keeps a net's output out of the terminal if stdout is a file.
            redirect_stdout=OUTPUT.is_terminal,
        )
        self._task = self._bar.add_task(config.model.name, total=num_steps, line="starting")

    def __enter__(self) -> Self:
        """Show the line."""
        self._bar.start()
        return self

    @only_shown()
    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leave the last line on the screen."""
        self._bar.stop()

    @only_shown()
    def step(self, step: int) -> None:
        """Set the number of completed steps."""
        now = time.monotonic()
        self._step = step
        if self._first is None:
            self._first = (now, step)
        self._bar.update(self._task, completed=step, line=self._line(step, now))

    @only_shown()
    def epoch(self, line: "EpochLine") -> None:
        """Record an epoch's numbers."""
        val = "-" if line.val_error is None else f"{100 * line.val_error:.2f}%"
        self._scores = (
            f"epoch {line.epoch}/{self._config.budget.epochs}  loss {line.train_loss:.3f}"
            f"  train error {100 * line.train_error:.1f}%  val error {val}"
        )
        now, last = time.monotonic(), line.epoch == self._config.budget.epochs
        if not self._config.trainer.progress or CONSOLE.is_terminal:
            return
        if last or now - self._spoke >= _QUIET_SECONDS:
            self._spoke = now
            step = line.epoch * self._steps_per_epoch
            left = "" if last else f"  {self._minutes_left(step, now)} left"
            CONSOLE.print(f"{self._config.model.name}  {self._line(step, now)}{left}")

    def numbers(self) -> dict[str, float]:
        """Return the cell's progress, for display in another process."""
        now = time.monotonic()
        return {
            "step": self._step,
            "steps": self._num_steps,
            "epoch": min(self._step // self._steps_per_epoch + 1, self._config.budget.epochs),
            "epochs": self._config.budget.epochs,
            "images_per_second": round(self._rate(self._step, now), 1),
        }

    def _line(self, step: int, now: float) -> str:
        return f"{self._scores}  {self._rate(step, now):,.0f} images/s"

    def _rate(self, step: int, now: float) -> float:
        if self._first is None or now <= self._first[0]:
            return 0.0
        images = (step - self._first[1]) * self._num_train / self._steps_per_epoch
        return images / (now - self._first[0])

    def _minutes_left(self, step: int, now: float) -> str:
        rate = self._rate(step, now)
        seconds = (self._num_steps - step) * self._num_train / self._steps_per_epoch / rate if rate else 0
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
