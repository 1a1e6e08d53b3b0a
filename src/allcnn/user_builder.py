"""Calls a user's builder, package.module:function: of a net (model.builder) or an augmentation (augment.builder)."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from allcnn import randomness
from strive.errors import ConfigError
from strive.user_modules import importable


def built(group: str, builder: str, kwargs: Mapping[str, Any], given: Mapping[str, Any], *, seed: int) -> object:
    """Return what the builder returns, with torch's global CPU generator seeded for it.

    group: model or augment, whose keys are named in errors. kwargs: what the user gives. given: what the study adds.

    Raises ConfigError if the builder cannot be imported or called.
    """
    # Builders may import more of the user's modules when they are called.
    with importable():
        function = _loaded(group, builder)
        _check_arguments(group, builder, function, kwargs, given)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also reset the GPU generators of other cells.
            torch.default_generator.manual_seed(randomness.number(seed, "init"))
            try:
                return function(**given, **kwargs)
            except Exception as error:
                raise builder_error(group, builder, f"raised {type(error).__name__}: {error}") from error


def builder_error(group: str, builder: str, what: str) -> ConfigError:
    """Return the error that says what is wrong with a builder."""
    return ConfigError(f"{group}.builder={builder}: {what}")


def _loaded(group: str, builder: str) -> Callable[..., object]:
    module_name, _, function_name = builder.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if not missing or not f"{module_name}.".startswith(f"{missing}."):
            raise builder_error(group, builder, f"importing {module_name} raised {error!r}") from error
        raise builder_error(
            group,
            builder,
            f"there is no module {missing}, neither in the current directory {Path.cwd()} nor installed;"
            " start from the directory that holds it, or install its package",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = sorted(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise builder_error(
            group, builder, f"{module.__file__} has no function {function_name}; it has {', '.join(there) or 'none'}"
        )
    return function  # type: ignore[no-any-return]


def _check_arguments(
    group: str, builder: str, function: Callable[..., object], kwargs: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Raise ConfigError if the builder does not take its arguments."""
    if taken := sorted(given.keys() & kwargs.keys()):
        raise builder_error(group, builder, f"{group}.kwargs must not hold {', '.join(taken)}, which the data decides")
    signature = inspect.signature(function)
    try:
        signature.bind(**given, **kwargs)
    except TypeError as error:
        called = "".join(f"{name}, " for name in given).rstrip(", ")
        raise builder_error(
            group,
            builder,
            f"{error}; it takes {signature} and is called with {f'{called} and ' if called else ''}{group}.kwargs,"
            f" here {sorted(kwargs)}",
        ) from error
