"""The optimizer of a cell: torch's own, with a state that exists before the first step."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from allcnn.config import Optimizer as Kind
from allcnn.config import OptimizerConfig


def make_optimizer(network: nn.Module, config: OptimizerConfig, lr: Tensor) -> Optimizer:
    """Return the optimizer of a network's parameters. lr: a tensor, which is read at each step."""
    on_gpu = lr.device.type == "cuda"
    groups = _parameter_groups(network, config)
    match config.kind:
        case Kind.sgd:
            optimizer: Optimizer = torch.optim.SGD(
                groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, fused=on_gpu
            )
        case Kind.adamw:
            betas = (config.beta1, config.beta2)
            optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=config.eps, fused=on_gpu, capturable=on_gpu)
    # As torch would at its first step, but where a CUDA graph finds it.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] |= _new_state(parameter, config, on_gpu)
    return optimizer


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Return all that an optimizer keeps from step to step, always in one order."""
    return [tensor for state in optimizer.state.values() for tensor in state.values()]


def _new_state(parameter: nn.Parameter, config: OptimizerConfig, on_gpu: bool) -> dict[str, Tensor]:
    match config.kind:
        case Kind.sgd:
            return {"momentum_buffer": torch.zeros_like(parameter)} if config.momentum else {}
        case Kind.adamw:
            step = torch.zeros((), dtype=torch.float32, device=parameter.device if on_gpu else None)
            return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}


def _parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    decay = {True: config.weight_decay, False: config.weight_decay if config.decay_biases else 0.0}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in network.parameters():
        groups[parameter.dim() > 1].append(parameter)
    return [
        {"params": parameters, "weight_decay": decay[is_weight]}
        for is_weight, parameters in groups.items()
        if parameters
    ]
