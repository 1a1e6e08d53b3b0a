"""An app whose config is one dataclass of keys: what follows from that class alone. Imports neither Hydra nor torch."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any

from strive.app import App
from strive.config.identity import with_argument_keys, without
from strive.config.json_value import json_scalar
from strive.config.keys import Meaning, knobs, values_of, wrong_values
from strive.errors import ConfigError

if TYPE_CHECKING:
    from strive.sweeps.compose import Composer

_AS_THEY_ARE = frozenset({str, int, bool, NoneType})


class TypedApp(App):
    """An app with a dataclass, `config_class`, whose fields are made by `config.keys.science` and `logistics`.

    A key whose default is a mapping takes keys of the user's own.
    """

    config_class: type

    @cached_property
    def _meanings(self) -> dict[str, tuple[Meaning, Any]]:
        """Return {key: (meaning, default)}."""
        return {key: (meaning, default) for key, meaning, default in knobs(self.config_class())}

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return {key: default for key, (_, default) in self._meanings.items()}

    @cached_property
    def _science(self) -> dict[str, None]:
        return {key: None for key, (meaning, _) in self._meanings.items() if meaning.science}

    @cached_property
    def _science_of(self) -> Callable[[Any], Iterable[Any]]:
        return values_of(self._science)

    @cached_property
    def _absent(self) -> dict[str, Any]:
        return {key: _json_value(default) for key, (meaning, default) in self._meanings.items() if meaning.absent}

    @cached_property
    def _groups(self) -> tuple[str, ...]:
        parts = dataclasses.fields(self.config_class)
        return tuple(item.name for item in parts if dataclasses.is_dataclass(item.default_factory))

    def defaults(self) -> Mapping[str, Any]:
        """Return {dotted key: default}."""
        return self._defaults

    def groups(self) -> Sequence[str]:
        """Return the fields that are dataclasses themselves; each may have a folder in conf/."""
        return self._groups

    def decides(self, key: str) -> bool:
        """Return whether a key is a science field, or below one."""
        return key in self._science or self._mapping_above(key) in self._science

    def absent(self) -> Mapping[str, Any]:
        """Return {key: default} of the fields that came later: at their default a cell's id lacks them."""
        return self._absent

    def is_open(self, key: str) -> bool:
        """Return whether a key is below one that holds a mapping."""
        return bool(self._mapping_above(key))

    def _mapping_above(self, key: str) -> str:
        parts = key.split(".")
        above = (".".join(parts[:count]) for count in range(1, len(parts)))
        return next((each for each in above if isinstance(self._defaults.get(each), dict)), "")

    def meaning_of(self, key: str) -> tuple[type, str, str] | None:
        """Return (type, meaning, legal range) of a key."""
        if key not in self._meanings:
            return None
        meaning, default = self._meanings[key]
        return type(default), meaning.text, meaning.legal

    def recorded_value(self, key: str, value: Any) -> Any:
        """Return a value as `flat` would have it; raises OmegaConf's errors for another type."""
        from omegaconf import OmegaConf

        node = OmegaConf.structured(self.config_class)
        OmegaConf.update(node, key, value, force_add=True)
        return with_argument_keys(self.flat(OmegaConf.to_object(node))).get(key, value)

    def composer(self, loader: Any, master: Any) -> "Composer":
        """Return what composes cells."""
        from strive.hydra_app.typed_compose import TypedComposer

        return TypedComposer(loader, master)

    def flat(self, config: Any) -> dict[str, Any]:
        """Return every key of a config as {dotted key: JSON value}."""
        return _json_values((key, value) for key, _, value in knobs(config))

    def science(self, config: Any) -> dict[str, Any]:
        """Return the part of `flat` that determines the numbers."""
        own = zip(self._science, self._science_of(config), strict=True)  # a plan asks some five times for each cell
        return without(self._absent, _json_values(own))

    def config_of(self, flat: Mapping[str, Any]) -> Any:
        """Return the config from which `flat` was made, its values checked; raises ConfigError for a wrong one.

        Unknown keys are skipped, because they may be logistics of another version: the caller must compare the
        cell's id.
        """
        parts: dict[str, dict[str, Any]] = {}
        config = self.config_class()
        for key, default in self._defaults.items():
            group, _, name = key.rpartition(".")
            parts.setdefault(group, {})[name] = _typed(key, flat.get(key, default), type(default))
        top = parts.pop("")
        own = {name: replace(getattr(config, name), **values) for name, values in parts.items()}
        return self.with_legal_values(self.config_class(**top, **own))

    def checked(self, config: Any) -> Any:
        """Return the config; raises ConfigError with a line for each value that its key does not take."""
        return self.with_legal_values(config)

    def with_legal_values(self, config: Any) -> Any:
        """Return the config with each value in its one spelling, or raise ConfigError. Imports no code of the user's.

        An app with rules between keys overrides this.
        """
        if errors := wrong_values(config):
            raise ConfigError("\n".join(errors))
        return config


def _typed(key: str, value: Any, kind: type) -> Any:
    """Return the JSON value converted to the key's type; a key whose default is null accepts true and false."""
    if kind is NoneType:
        if value is None:
            return None
        kind = bool
    try:
        if issubclass(kind, StrEnum) or kind is float:
            return kind(value)  # accepts "inf"
    except (TypeError, ValueError):
        pass
    else:
        if type(value) is kind:
            return value.copy() if isinstance(value, list | dict) else value
    raise ConfigError(f"{key}={value!r} is no {kind.__name__}")


def _json_values(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value if value.__class__ in _AS_THEY_ARE else _json_value(value) for key, value in values}


def _json_value(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return json_scalar(value)
