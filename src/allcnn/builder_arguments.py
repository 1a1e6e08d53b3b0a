"""Fills in the arguments of a user's builders before a cell gets its id.

This is done only to composed configs: reading records, plans and frozen configs imports no user's code. Cells without
a builder are returned unchanged.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from allcnn import signature
from allcnn.config import Augment, AugmentConfig, Config, Family, ModelConfig
from strive.cells import records
from strive.config import identity
from strive.errors import ConfigError
from strive.user_modules import importable

Part = ModelConfig | AugmentConfig


def filled_in(config: Config) -> Config:
    """Return the config with all arguments of its builders, as the builders' signatures fill them in and type them.

    So they decide the cell's id: a default that is given and one that is left out are one training. Arguments of a
    builder that cannot be imported stay as they are. Raises ConfigError for those that a builder does not take.
    """
    for group, part in _parts(config):
        function = _builder(part)
        if function is None:
            continue
        try:
            kwargs = signature.as_called(function, signature.filled_in(function, part.kwargs))
        except signature.MisfitError as error:
            raise ConfigError(f"{group}.builder={part.builder}: {error}") from None
        config = _with(config, group, kwargs)
    return config


def check_arguments(config: Config) -> None:
    """Raise ConfigError for a value that its parameter does not take.

    A cell with a record from before arguments were filled in stays as it is.
    """
    try:
        filled_in(config)
    except ConfigError:
        if not records.record_path(Path(config.runs), identity.cell_id(config)).exists():
            raise


def as_called(config: Config) -> Config:
    """Return a frozen config with its arguments as the builders take them: JSON has no infinity and no tuples."""
    called = config
    for group, part in _parts(config):
        function = _builder(part)
        if function is None:
            continue
        try:
            kwargs = signature.filled_in(function, part.kwargs)
        except signature.MisfitError:
            continue
        given = {name: value for name, value in kwargs.items() if name in part.kwargs}
        called = _with(called, group, signature.as_called(function, given))
    # An older record may say 0 for a float, and keeps its id.
    return called if identity.cell_id(called) == identity.cell_id(config) else config


def _parts(config: Config) -> Iterator[tuple[str, Part]]:
    """Yield the groups of a config that have a builder, with their names."""
    if config.model.family is Family.custom:
        yield "model", config.model
    if config.augment.kind is Augment.custom:
        yield "augment", config.augment


def _with(config: Config, group: str, kwargs: dict[str, Any]) -> Config:
    return replace(config, **{group: replace(getattr(config, group), kwargs=kwargs)})


def _builder(part: Part) -> Callable[..., object] | None:
    """Return the builder; None without one, or if it cannot be imported; calling it then raises the error."""
    module, _, name = part.builder.partition(":")
    try:
        with importable():
            found = getattr(importlib.import_module(module), name, None)
    except Exception:  # a user's module may raise anything
        return None
    return found if callable(found) else None
