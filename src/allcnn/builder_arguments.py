"""Fills in the arguments of a user's builder before a cell gets its id.

This is done only to composed configs: reading records, plans and frozen configs imports no user's code. Nets without
a builder are returned unchanged.
"""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from allcnn import signature
from allcnn.config import Config, Family
from strive.cells import records
from strive.config import identity
from strive.errors import ConfigError
from strive.user_modules import importable


def filled_in(config: Config) -> Config:
    """Return the config with all arguments of its builder, as the builder's signature fills them in and types them.

    So they decide the cell's id: a default that is given and one that is left out are one training. A config
    comes back as it is if its builder cannot be imported or does not take its arguments.
    """
    try:
        return _filled(config)
    except signature.MisfitError:
        return config


def as_recorded(config: Config) -> Config:
    """Return the config of the cell that a checked one names: `filled_in`, if no older record has its name.

    Ids of records from before arguments were filled in are those of the arguments as they were typed.

    Raises ConfigError for a value that its parameter does not take.
    """
    if config.model.family is not Family.custom:
        return config
    try:
        filled = _filled(config)
    except signature.MisfitError as error:
        if _has_record(config):
            return config
        raise ConfigError(f"model.builder={config.model.builder}: {error}") from None
    return config if _has_record(config) and not _has_record(filled) else filled


def as_called(config: Config) -> Config:
    """Return a frozen config with its arguments as the builder takes them: JSON has no infinity and no tuples."""
    function = _builder(config)
    if function is None:
        return config
    try:
        kwargs = signature.filled_in(function, config.model.kwargs)
    except signature.MisfitError:
        return config
    given = {name: value for name, value in kwargs.items() if name in config.model.kwargs}
    called = _with(config, signature.as_called(function, given))
    # An older record may say 0 for a float, and keeps its id.
    return called if identity.cell_id(called) == identity.cell_id(config) else config


def _filled(config: Config) -> Config:
    function = _builder(config)
    if function is None:
        return config
    return _with(config, signature.as_called(function, signature.filled_in(function, config.model.kwargs)))


def _with(config: Config, kwargs: dict[str, Any]) -> Config:
    return replace(config, model=replace(config.model, kwargs=kwargs))


def _builder(config: Config) -> Callable[..., object] | None:
    """Return the builder; None without one, or if it cannot be imported; building the net then raises the error."""
    if config.model.family is not Family.custom:
        return None
    module, _, name = config.model.builder.partition(":")
    try:
        with importable():
            found = getattr(importlib.import_module(module), name, None)
    except Exception:  # a user's module may raise anything
        return None
    return found if callable(found) else None


def _has_record(config: Config) -> bool:
    return records.record_path(Path(config.runs), identity.cell_id(config)).exists()
