"""A good plain PyTorch loop without this project: torchvision's loader, plain modules, SGD.

It imports nothing of strive; bench/train_speed.py compares the two.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms  # type: ignore[import-untyped]
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

BATCH, WINDOW, BLOCK = 128, 5, 50  # images per step; steps per reading of the clock; steps per mean loss
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training images
KERNELS = {"a": (5,), "b": (5, 1), "c": (3, 3)}  # the convolutions of one block (the paper's Table 1)
VARIANTS = ("model", "strided_cnn", "convpool_cnn", "all_cnn")
NETS = [f"{variant}_{base}" for base in KERNELS for variant in VARIANTS]


def build_net(name: str, width: float, num_classes: int) -> nn.Sequential:
    """Return one of the paper's 12 nets with He's initial weights: [n, 3, 32, 32] to [n, num_classes]."""
    variant, _, base = name.rpartition("_")
    layers: list[tuple[int, int, int, int] | str] = []  # (channels, kernel, stride, padding), or another layer
    small, large = (max(1, round(width * channels)) for channels in (96, 192))
    for channels in (small, large):
        block = [(channels, kernel, 1, kernel // 2) for kernel in KERNELS[base]]
        if variant == "strided_cnn":
            block[-1] = (*block[-1][:2], 2, block[-1][3])
        if variant in ("convpool_cnn", "all_cnn"):
            block.append((channels, 3, 2 if variant == "all_cnn" else 1, 1))
        layers += [*block, "pool", "dropout"] if variant in ("model", "convpool_cnn") else [*block, "dropout"]
    layers += [(large, 3, 1, 0), (large, 1, 1, 0), (num_classes, 1, 1, 0)]  # without padding, 8x8 becomes 6x6
    net, wide = nn.Sequential(nn.Dropout(0.2)), 3
    for layer in layers:
        if isinstance(layer, str):
            net.append(nn.Dropout(0.5) if layer == "dropout" else nn.MaxPool2d(3, 2, ceil_mode=True))
            continue
        if layer[1:3] == (1, 2):
            # torch 2.14.1 corrupts memory in narrow 1x1 convolutions with stride on a CPU. This is the same map.
            net.append(nn.MaxPool2d(1, 2))
            layer = (layer[0], 1, 1, layer[3])
        conv = nn.Conv2d(wide, *layer)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        net.extend([conv, nn.ReLU(inplace=True)])  # the class convolution too (Table 1)
        wide = layer[0]
    return net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])


class Clock:
    """Images per second in windows of WINDOW steps; the first `warmup` steps are not counted."""

    def __init__(self, warmup: int) -> None:
        self.warmup, self.step, self.images, self.rates = warmup, 0, 0, list[float]()
        self.marks = list[tuple[float, int]]()  # each reading: seconds, images since the first one
        self.started = time.perf_counter()

    def tick(self, images: int) -> None:
        """Note that one more step was queued."""
        self.step, self.images = self.step + 1, self.images + images
        if self.step < self.warmup or (self.step - self.warmup) % WINDOW:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.step > self.warmup:
            self.rates.append(self.images / (now - self.started))
            self.marks.append((now, self.marks[-1][1] + self.images))
        else:
            self.marks.append((now, 0))
        self.started, self.images = now, 0

    def images_per_second(self) -> float:
        """Return the median over the windows."""
        return statistics.median(self.rates)


def images(data: Path) -> Any:
    """Return torchvision's data set of the training images: shifted, flipped and normalised as they are read."""
    fill = tuple(round(255 * mean) for mean in MEAN)  # zero, once normalised
    crop, flip = transforms.RandomCrop(32, padding=5, fill=fill), transforms.RandomHorizontalFlip()
    transform = transforms.Compose([crop, flip, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return ImageFolder(str(data / "train"), transform)


def measure(
    *, data: Path, net: str, width: float, steps: int, warmup: int, lr: float, threads: int, seed: int,
    bf16: bool, channels_last: bool, workers: int = 2, clock: Clock | None = None
) -> tuple[float, list[float]]:  # fmt: skip
    """Train for warmup + steps steps; return images per second and the loss of every step, warm-up included."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pin, keep, train = device.type == "cuda", workers > 0, images(data)
    loader = DataLoader(train, BATCH, shuffle=True, num_workers=workers, persistent_workers=keep, pin_memory=pin)
    model = build_net(net, width, len(train.classes)).to(device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.001)
    losses, clock = list[Tensor](), clock or Clock(warmup)
    while True:
        for inputs, labels in loader:
            inputs = inputs.to(device, non_blocking=True, memory_format=layout)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(inputs), labels.to(device, non_blocking=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            clock.tick(len(labels))
            if clock.step == warmup + steps:
                return clock.images_per_second(), torch.stack(losses).tolist()


def measure_bare(
    *, net: str, width: float, steps: int, warmup: int, lr: float, threads: int, seed: int, clock: Clock | None = None
) -> tuple[float, list[float]]:  # fmt: skip
    """Train on one batch of noise: forward, backward and SGD of the net, channels_last, and nothing else.

    Returns as `measure`.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_net(net, width, 10).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = torch.randn(BATCH, 3, 32, 32).to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.001)
    losses, clock = list[Tensor](), clock or Clock(warmup)
    while clock.step < warmup + steps:
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        clock.tick(len(labels))
    return clock.images_per_second(), torch.stack(losses).tolist()


def block_means(losses: list[float], size: int) -> list[float]:
    """Return the mean of each block of `size` losses; the last one may be shorter."""
    return [statistics.fmean(losses[start : start + size]) for start in range(0, len(losses), size)]


def options() -> argparse.Namespace:
    """Return what the command line says, for this program and lightning_loop.py."""
    parser = argparse.ArgumentParser(description="Train for a few steps and print one line of JSON.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS/FILE, 32x32 images")
    parser.add_argument("--net", choices=NETS, default="all_cnn_c")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies the channels")
    parser.add_argument("--steps", type=int, default=30, help=f"timed steps, {WINDOW} or more")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the clock starts, 1 or more")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice")
    parser.add_argument("--workers", type=int, default=2, help="processes that load images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--channels-last", action="store_true")
    given = parser.parse_args()
    if given.steps < WINDOW or given.warmup < 1:
        parser.error(f"--steps must be at least {WINDOW} and --warmup at least 1")
    return given


def line(rate: float, losses: list[float]) -> str:
    """Return what both programs print."""
    return json.dumps({"images_per_second": rate, "block_steps": BLOCK, "losses": block_means(losses, BLOCK)})


if __name__ == "__main__":
    print(line(*measure(**vars(options()))))
