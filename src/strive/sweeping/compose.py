"""Hydra's composition for many cells: each distinct choice of groups is composed once.

Hydra composes one cell in 50 to 75 ms. Most cells of a sweep differ in values only, and a value can
be put into a config that was composed before, after the same conversion of its type.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from strive.config import Config, checked, knobs

# A dict's keys are the user's, and adding one has rules of its own: that is left to Hydra.
_PLAIN_KEYS = frozenset(key for key, _, value in knobs(Config()) if not isinstance(value, dict))


class Composer:
    """Makes configs of override strings, as Hydra would."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed = lru_cache(maxsize=None)(self._parse)
        self._base = lru_cache(maxsize=None)(self._compose_base)
        self._value = lru_cache(maxsize=None)(lambda text: _converted(self._parsed(text)))

    def expand(self, text: str) -> list[str]:
        """Return the "key=value" strings of an override that may sweep: lists, ranges, globs."""
        override = self._parsed(text)
        if not override.is_sweep_override():
            return [text]
        key = override.input_line.partition("=")[0] if override.input_line else override.get_key_element()
        return [f"{key}={value}" for value in override.sweep_string_iterator()]

    def compose(self, overrides: Sequence[str]) -> Config:
        """Return the checked config of one cell.

        Raises ConfigError, or Hydra's and OmegaConf's errors, for what the user must put right.
        """
        return checked(self.unchecked(overrides))

    def unchecked(self, overrides: Sequence[str]) -> Config:
        """Return the config of one cell, of which only the types are right."""
        plain = [text for text in overrides if self._is_plain(text)]
        base = self._base(tuple(text for text in overrides if text not in plain))
        if base is None:  # a value may reach others by interpolation
            return _to_object(self._load(overrides))
        return _replaced(base, [self._value(text) for text in plain])

    def _parse(self, text: str) -> Override:
        (override,) = self._parser.parse_overrides([text])
        return override

    def _is_plain(self, text: str) -> bool:
        override = self._parsed(text)
        return (
            override.key_or_group in _PLAIN_KEYS
            and override.package is None
            and not (override.is_add() or override.is_force_add() or override.is_delete())
            and "${" not in text
        )

    def _compose_base(self, overrides: tuple[str, ...]) -> Config | None:
        composed = self._load(overrides)
        if any("${" in value for value in _texts(OmegaConf.to_container(composed, resolve=False))):
            return None
        return _to_object(composed)

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        composed = self._loader.load_sweep_config(self._master, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return composed


def _to_object(composed: DictConfig) -> Config:
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


def _converted(override: Override) -> tuple[str, Any]:
    """Return (key, value) with the value as the knob's type has it."""
    node = _all_knobs()
    # Hydra's own step: its errors are those that a single cell would give.
    ConfigLoaderImpl._apply_overrides_to_config([override], node)
    value = OmegaConf.select(node, override.key_or_group)
    return override.key_or_group, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


@lru_cache(maxsize=1)
def _all_knobs() -> DictConfig:
    """Return one config for all conversions: each writes its own key and reads it back; a new one takes 5 ms."""
    return OmegaConf.structured(Config)  # type: ignore[no-any-return]


def _replaced(config: Config, values: Sequence[tuple[str, Any]]) -> Config:
    top: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in values:
        group, dot, name = key.partition(".")
        if dot:
            nested.setdefault(group, {})[name] = value
        else:
            top[group] = value
    # optimizer is always a copy: checked() brings its fractions to lowest terms in place.
    nested.setdefault("optimizer", {})
    groups = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in nested.items()}
    return dataclasses.replace(config, **top, **groups)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
