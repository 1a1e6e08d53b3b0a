"""Initial weights. The paper does not state them; `model.init` chooses.

They decide whether these nets train at all: with torch's default an image moves the logits of
All-CNN-C by about 4e-4, and the loss stays at ln 10.
"""

import math

import torch
from torch import Tensor, nn

from allcnn import randomness
from allcnn.config import Init, ModelConfig


def initialise(network: nn.Module, model: ModelConfig, seed: int) -> None:
    """Set the weights and biases of every convolution, in place.

    Each layer has a generator of its own: a layer's numbers do not depend on the layers
    around it, so that nets which share layers share their initial weights.
    """
    convs = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    for index, conv in enumerate(convs):
        generator = randomness.generator(seed, "init", index)
        fan_in = math.prod(conv.weight.shape[1:])
        with torch.no_grad():
            # What a narrow net lacks in fan-in, gaussian weights make up in size, so that it starts
            # like the full one; the first layer sees the image's three channels at every width.
            std = model.init_std if index == 0 else model.init_std / math.sqrt(model.width)
            conv.weight.copy_(_weights(model.init, conv.weight.shape, fan_in, std, generator))
            if conv.bias is not None:
                conv.bias.copy_(_biases(model.init, conv.bias.shape, fan_in, generator))


def _weights(init: Init, shape: torch.Size, fan_in: int, std: float, generator: torch.Generator) -> Tensor:
    match init:
        case Init.he:
            return _normal(shape, math.sqrt(2 / fan_in), generator)
        case Init.gaussian:
            return _normal(shape, std, generator)
        case Init.xavier_caffe:
            # Caffe's filler counts the fan-in alone: variance 1/fan_in, unlike torch's Xavier.
            return _uniform(shape, math.sqrt(3 / fan_in), generator)
        case Init.torch_default:
            # What kaiming_uniform_(a=sqrt(5)), nn.Conv2d's own choice, comes to: variance 1/(3 fan_in).
            return _uniform(shape, 1 / math.sqrt(fan_in), generator)


def _biases(init: Init, shape: torch.Size, fan_in: int, generator: torch.Generator) -> Tensor:
    if init is Init.torch_default:
        return _uniform(shape, 1 / math.sqrt(fan_in), generator)
    return torch.zeros(shape)


def _normal(shape: torch.Size, std: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu").normal_(0, std, generator=generator)


def _uniform(shape: torch.Size, bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu").uniform_(-bound, bound, generator=generator)
