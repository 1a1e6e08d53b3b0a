"""A net that stops in the step that a test names, so that tests of killed and stopped cells need no exact times."""

from pathlib import Path

STEPS_PER_EPOCH = 3

# Each step of each cell leaves a line, so that a step trained twice shows. The file hold/NAME stops a
# cell in the step that it names, as long as nobody asks the process to stop.
NETS = """
import os
import signal
import time
from pathlib import Path

from torch import nn

from strive import signals


class Net(nn.Module):
    def __init__(self, num_classes, name):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, num_classes)
        self.name, self.steps = str(name), 0

    def forward(self, images):
        if self.training and images.device.type == "cpu":
            self.step()
        return self.linear(images.flatten(1))

    def step(self):
        with Path("steps", self.name).open("a") as lines:
            lines.write(f"{os.getpid()}\\n")
        self.steps += 1
        if self.steps == 2 and self.name == "raises":
            raise ArithmeticError("as the test wants it")
        if self.steps == 2 and self.name == "kills-itself":
            os.kill(os.getpid(), signal.SIGKILL)
        hold = Path("hold", self.name)
        while hold.exists() and int(hold.read_text() or 0) == self.steps and not signals.requested():
            time.sleep(0.02)


def net(num_classes, image_size, name):
    return Net(num_classes, name)
"""

# A cell of this net, from a folder that has it. A linear net costs less than starting the process does.
HELD = (
    "model=extra/custom", "model.builder=nets:net", "data=digits", "preprocess=standardize", "budget.batch_size=500",
    "trainer.device=cpu", "trainer.threads=1", "trainer.checkpoint_minutes=0",
)  # fmt: skip


def write_nets(folder: Path) -> None:
    """Make a folder from which cells of this net can be trained."""
    (folder / "nets.py").write_text(NETS)
    for name in ("steps", "hold"):
        (folder / name).mkdir()
