"""Composition for an app whose config is one dataclass: a value goes into a composed config as its field's type."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, IntegerNode, OmegaConf, open_dict

from strive import app
from strive.config.schema import to_dataclass
from strive.hydra_internals import apply_overrides, node_of
from strive.sweeps.compose import Composer
from strive.sweeps.override_syntax import flattened


class TypedComposer(Composer):
    """Builds the configs of an app whose config is one dataclass of keys."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        super().__init__(loader, master)
        self._base = lru_cache(maxsize=None)(self._compose_base)
        self._value = lru_cache(maxsize=None)(lambda text: _converted(self._parsed(text)))

    def check(self, text: str) -> None:
        """Raise the error for an illegal value, even if a later override replaces it in every cell."""
        for each in self.expand(text):
            for leaf in flattened(each):
                if self._is_plain(self._parsed(leaf)):
                    self._value(leaf)

    def unchecked(self, overrides: Sequence[str]) -> Any:
        """Return the config of one cell with only the types checked."""
        with self._refusals(overrides):
            plain = self._plain(overrides)
            base = self._base(tuple(text for text in overrides if text not in plain))
            if base is None:
                return to_dataclass(self._without_hydra(overrides))
            return _replaced(base, [self._value(text) for text in plain])

    def _compose_base(self, overrides: tuple[str, ...]) -> Any:
        """Return the config; None where a value interpolates (`${`): replacing another one would leave it stale."""
        composed = self._without_hydra(overrides)
        if any("${" in value for value in _texts(OmegaConf.to_container(composed, resolve=False))):
            return None
        return to_dataclass(composed)

    def _without_hydra(self, overrides: Sequence[str]) -> DictConfig:
        composed = self._load(overrides)
        with open_dict(composed):
            del composed["hydra"]
        return composed


def _converted(override: Override) -> tuple[str, Any]:
    """Return (key, value) with the value converted to the knob's type."""
    node = _all_knobs()
    # A shortcut for whole numbers: a sweep may have thousands of seeds, and OmegaConf needs 0.2 ms to return each
    # unchanged.
    if type(override.value()) is int and isinstance(node_of(node, override.key_or_group), IntegerNode):
        return override.key_or_group, override.value()
    # Uses Hydra's own step, so errors are the same as for a single cell.
    apply_overrides([override], node)
    value = OmegaConf.select(node, override.key_or_group)
    return override.key_or_group, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


@lru_cache(maxsize=1)
def _all_knobs() -> DictConfig:
    """Return one shared config for all conversions, because a new one takes 5 ms. Each writes and reads its own key."""
    return OmegaConf.structured(app.in_use().config_class)  # type: ignore[no-any-return]


def _replaced(config: Any, values: Sequence[tuple[str, Any]]) -> Any:
    top: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in values:
        group, dot, name = key.partition(".")
        if dot:
            nested.setdefault(group, {})[name] = value
        else:
            top[group] = value
    parts = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in nested.items()}
    return dataclasses.replace(config, **top, **parts)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
