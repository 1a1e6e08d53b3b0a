"""Digits on several processes with PyTorch's DistributedDataParallel: `torchrun --nproc-per-node 2 train.py`."""

import contextlib
import os
from pathlib import Path

import hydra
import torch
import torch.distributed as dist
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import strive


def read_digits(num_test: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images [n, 64] in [0, 1] with their labels, and test images with theirs."""
    images, labels = load_digits(return_X_y=True)
    shuffle = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(images, dtype=torch.float32)[shuffle] / 16, torch.tensor(labels)[shuffle]
    return x[num_test:], y[num_test:], x[:num_test], y[:num_test]


def start_process_group() -> tuple[int, int]:
    """Return this process's rank, and how many there are."""
    if "RANK" not in os.environ:
        return 0, 1
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), dist.get_world_size()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> dict[str, float]:
    """Train one net, and return how well it does on digits that it has not seen."""
    rank, size = start_process_group()
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    torch.manual_seed(config.seed)
    x, y, test_x, test_y = (part.to(device) for part in read_digits(config.num_test))
    net = nn.Sequential(nn.Linear(64, config.width), nn.ReLU(), nn.Linear(config.width, 10)).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.lr, momentum=0.9)
    step = 0
    if path := strive.load():
        state = torch.load(path, weights_only=True, map_location=device)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    parallel = DistributedDataParallel(net) if size > 1 else net

    def write(path: Path) -> None:
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)

    while step < config.steps:
        # Each process takes its share of a batch that depends on seed and step alone, so that a resume is exact.
        order = torch.Generator().manual_seed(1_000_003 * config.seed + step)
        batch = torch.randint(len(x), (config.batch_size,), generator=order).to(device)
        parts = batch[rank::size].chunk(config.accumulate)
        for number, part in enumerate(parts, 1):
            last = number == len(parts) or size == 1
            with contextlib.nullcontext() if last else parallel.no_sync():
                loss = F.cross_entropy(parallel(x[part]), y[part]) / len(parts)
                loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % config.log_every == 0:
            strive.log(step, train_loss=loss.item() * len(parts))
        strive.save(write)
    with torch.no_grad():
        accuracy = (net(test_x).argmax(1) == test_y).float().mean().item()
        checksum = sum(parameter.double().abs().sum().item() for parameter in net.parameters())
    if size > 1:
        dist.destroy_process_group()
    if rank == 0:
        print(f"test accuracy {accuracy:.4f} on {size} processes")
    return {"test_acc": accuracy, "weight_sum": checksum}


if __name__ == "__main__":
    main()
