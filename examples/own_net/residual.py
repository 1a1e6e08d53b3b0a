"""A small residual network (He et al. 2016): model=extra/custom model.builder=examples.own_net.residual:residual."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut round them."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.AvgPool2d(stride, ceil_mode=True)
        self.lacking = width - channels

    def forward(self, maps: Tensor) -> Tensor:
        """Map [n, channels, h, w] to [n, width, h / stride, w / stride]."""
        kept = self.shortcut(maps)
        if self.lacking:  # channels that the shortcut has not are zero
            kept = nn.functional.pad(kept, (0, 0, 0, 0, 0, self.lacking))
        return torch.relu(self.body(maps) + kept)


def residual(num_classes: int, image_size: int, width: int = 8, blocks: int = 1) -> nn.Module:
    """Map images [n, 3, image_size, image_size] to logits [n, num_classes].

    Three stages of so many blocks, of width, 2 x width and 4 x width channels.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range(blocks):
            layers.append(Block(channels, width * 2**stage, stride=2 if stage and not block else 1))
            channels = width * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
