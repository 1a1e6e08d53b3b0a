"""A good plain PyTorch loop for a data set that fits on the GPU: no workers, no strive.

Plain modules, bf16 autocast, channels_last, cuDNN's own choice of kernels, SGD in one kernel, augmentation a batch at a
time, nothing read back within an epoch. bench/gpu_speed.py compares strive with it.

Shapes: n images, b of a batch, h height and w width, c channels.
"""

import plain_loop
import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT_PX = 5


def switches() -> None:
    """Let this process take the fastest kernels it finds."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True


class Loop:
    """A net, its optimizer and the images."""

    def __init__(
        self, net: str, images: Tensor, labels: Tensor, *, width: float, lr: float, compiled: bool, classes: int = 10
    ) -> None:
        """images: [n, h, w, c] and labels [n], on the device."""
        torch.manual_seed(0)
        self.device, self.labels, self.size = images.device, labels, images.shape[1]
        self.padded = F.pad(images, (0, 0, SHIFT_PX, SHIFT_PX, SHIFT_PX, SHIFT_PX))
        self.model = plain_loop.build_net(net, width, classes).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = torch.compile(self.model) if compiled else self.model
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=lr, momentum=0.9, weight_decay=0.001, fused=fused or None
        )

    def epoch(self) -> float:
        """Train an epoch and return its mean loss."""
        total = torch.zeros((), device=self.device)
        for rows in torch.randperm(len(self.labels), device=self.device).split(plain_loop.BATCH):
            labels = self.labels[rows]
            with torch.autocast(self.device.type, torch.bfloat16):
                loss = F.cross_entropy(self.forward(self._augmented(rows)), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(labels)
        return float(total) / len(self.labels)

    def _augmented(self, rows: Tensor) -> Tensor:
        """Return the images [b, c, h, w] of rows [b], half of them flipped, each moved by up to SHIFT_PX."""
        count, places = len(rows), torch.arange(self.size, device=self.device)
        down, right = torch.randint(0, 2 * SHIFT_PX + 1, (2, count, 1), device=self.device)
        flips = torch.rand(count, 1, device=self.device) < 0.5
        columns = torch.where(flips, places.flip(0), places) + right  # [b, w]
        moved = self.padded[rows[:, None, None], (places + down)[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2)
