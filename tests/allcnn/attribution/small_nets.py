"""Small nets with lively weights, in eval mode, and images for them."""

import itertools

import torch
from torch import Tensor, nn

from allcnn.attribution.rules import Pooling, Rule
from allcnn.config import Base, ModelConfig, Variant
from allcnn.networks.build import build_network

TWELVE = list(itertools.product(Base, Variant))
SIZE = 12
WAYS = list(itertools.product(Rule, Pooling))


def small_net(base: Base, variant: Variant, *, size: int = SIZE, seed: int = 0, **knobs) -> nn.Sequential:
    """Build a net of 4 and 8 channels in float64, whose biases are not zero as they are at the start of training."""
    model = ModelConfig(**({"base": base, "variant": variant, "width": 0.04, "class_relu": False} | knobs))
    network = build_network(model, num_classes=5, image_size=size, seed=seed).double().eval()
    noise = torch.Generator().manual_seed(seed + 1)
    for name, value in network.state_dict().items():
        if name.endswith("bias") or name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=noise, dtype=value.dtype) / 10)
        elif name.endswith("running_var") or name.startswith("norm"):
            value.copy_(torch.rand(value.shape, generator=noise) + 0.5)
    return network


def images(
    count: int = 2, *, channels: int = 3, size: int = SIZE, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draw images [n, 3, h, w], or with other channels."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def convs(network: nn.Module) -> list[str]:
    """Return the names of the net's convolutions."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference as a share of the largest value, of which there must be one."""
    largest = float(theirs.abs().max())
    assert largest > 0, "a comparison of zeros says nothing"
    return float((ours - theirs).abs().max()) / largest
