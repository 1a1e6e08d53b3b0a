"""Nets that users build themselves: model=extra/custom model.builder=package.module:function."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from allcnn import randomness
from allcnn.config import ModelConfig
from allcnn.networks.dropout import HashDropout
from strive.errors import ConfigError
from strive.user_modules import importable


def build_custom(model: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Return what the builder returns, with float32 outputs and its dropout made resumable.

    The builder initialises its net itself, with torch's global CPU generator seeded for it.
    Each nn.Dropout becomes a HashDropout, so that a resume is exact; one that the net calls
    in several places drops the same values in all of them, so give each place its own.
    What else draws from torch's generator (F.dropout, Dropout2d, stochastic depth) is seeded for
    each step by the training loop. Draws from numpy or Python's random are not seeded:
    they work, but a resumed cell draws other numbers.

    Raises ConfigError if the builder cannot be imported, called or used.
    """
    # Builders may import more of the user's modules when they are called.
    with importable():
        function = _load_builder(model)
        arguments = _arguments(model, function, num_classes=num_classes, image_size=image_size)
        network = _call(model, function, arguments, seed)
    if not isinstance(network, nn.Module):
        raise _builder_error(model, f"must return a torch.nn.Module, got {type(network).__name__}")
    _replace_dropout(network)
    network.register_forward_hook(_to_float32)
    return network


def _load_builder(model: ModelConfig) -> Callable[..., object]:
    module_name, _, function_name = model.builder.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if not missing or not f"{module_name}.".startswith(f"{missing}."):
            raise _builder_error(model, f"importing {module_name} raised {error!r}") from error
        raise _builder_error(
            model,
            f"there is no module {missing}, neither in the current directory {Path.cwd()} nor installed;"
            " start from the directory that holds it, or install its package",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = sorted(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise _builder_error(
            model, f"{module.__file__} has no function {function_name}; it has {', '.join(there) or 'none'}"
        )
    return function  # type: ignore[no-any-return]


def _arguments(
    model: ModelConfig, function: Callable[..., object], *, num_classes: int, image_size: int
) -> dict[str, Any]:
    """Return the builder's keyword arguments, or raise ConfigError if it does not take them."""
    given = {"num_classes": num_classes, "image_size": image_size}
    taken = sorted(given.keys() & model.kwargs.keys())
    if taken:
        raise _builder_error(model, f"model.kwargs must not hold {', '.join(taken)}, which the data decides")
    arguments = given | model.kwargs
    signature = inspect.signature(function)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise _builder_error(
            model,
            f"{error}; it takes {signature} and is called with num_classes, image_size and model.kwargs,"
            f" here {sorted(model.kwargs)}",
        ) from error
    return arguments


def _call(model: ModelConfig, function: Callable[..., object], arguments: dict[str, Any], seed: int) -> object:
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reset the GPU generators of other cells.
        torch.default_generator.manual_seed(randomness.number(seed, "init"))
        try:
            return function(**arguments)
        except Exception as error:
            raise _builder_error(model, f"raised {type(error).__name__}: {error}") from error


def _replace_dropout(network: nn.Module) -> None:
    replaced: dict[nn.Module, HashDropout] = {}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        # p=1 draws nothing; subclasses of nn.Dropout may draw in a way of their own.
        if path and type(module) is nn.Dropout and module.p < 1:
            network.set_submodule(path, replaced.setdefault(module, HashDropout(module.p)))


def _to_float32(network: nn.Module, images: tuple[Tensor, ...], logits: object) -> object:
    """Cast the output of a forward pass; `check_network` tells a user about other types."""
    return logits.float() if isinstance(logits, Tensor) else logits


def _builder_error(model: ModelConfig, what: str) -> ConfigError:
    return ConfigError(f"model.builder={model.builder}: {what}")
