"""Cached Hydra composition: each distinct choice of groups is composed only once for many cells.

Hydra takes 50 to 75 ms to compose one cell. Most cells of a sweep differ only in values, and a value can
be put into an already composed config if its type is converted in the same way.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from strive import app
from strive.config.keys import groups
from strive.errors import ConfigError, UnknownKeyError
from strive.hydra_internals import with_number
from strive.sweeps.override_syntax import plain_keys

_COUNT = re.compile(r"[1-9][0-9]{0,17}")
_MOST = 1_000_000  # values of one override: more is a mistake and would fill the memory


def _is_of_keys(error: Exception) -> bool:
    """Return whether Hydra refuses keys, whatever their values are."""
    of_keys = (ConfigAttributeError, ConfigKeyError, UnknownKeyError)
    return isinstance(error, of_keys) or isinstance(error.__cause__, of_keys) or "item is already at" in str(error)


class Composer:
    """Builds the configs of an app from override strings, as Hydra would."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed = lru_cache(maxsize=None)(self._parse)
        self._refused: dict[tuple[str, ...], Exception] = {}  # {keys: what Hydra says to any of their values}

    def expand(self, text: str) -> list[str]:
        """Return the "key=value" strings of an override that may sweep: lists, ranges, globs.

        Raises ConfigError for an interval, and for more values than a plan may have.
        """
        override = self._parsed(text)
        if not override.is_sweep_override():
            return [text]
        if not override.is_discrete_sweep():
            raise ConfigError(f"{text}: an interval has no values to train one by one; legal: A,B,C, range and glob")
        key = override.input_line.partition("=")[0] if override.input_line else override.get_key_element()
        try:
            values = list(itertools.islice(override.sweep_string_iterator(), _MOST + 1))
        except (ValueError, ZeroDivisionError, OverflowError) as error:  # raised by range(...)
            raise ConfigError(f"{text} cannot be counted out: {error}") from error
        if len(values) > _MOST:
            raise ConfigError(f"{text} has more than {_MOST:,} values, too many for one sweep")
        return [f"{key}={value}" for value in values]

    def check(self, text: str) -> None:
        """Raise the error for an illegal value, even if a later override replaces it in every cell."""

    def unchecked(self, overrides: Sequence[str]) -> Any:
        """Return the config of one cell with only the types checked.

        Raises ConfigError, or an error of Hydra or OmegaConf, for a user's mistake.
        """
        raise NotImplementedError

    def compose(self, overrides: Sequence[str]) -> Any:
        """Return the checked config of one cell. Raises as `unchecked`."""
        return app.in_use().checked(self.unchecked(overrides))

    def _parse(self, text: str) -> Override:
        key, _, value = text.partition("=")
        if _COUNT.fullmatch(value):  # thousands of seeds, and Hydra takes half a millisecond for each
            return with_number(self._parsed(f"{key}=0"), text, int(value))
        (override,) = self._parser.parse_overrides([text])
        return override

    @contextmanager
    def _refusals(self, overrides: Sequence[str]) -> Iterator[None]:
        """Compose in the block. Keys that Hydra does not take are refused once for all their values.

        A refusal takes as long as a composition, and a range has thousands of values.
        """
        keys = tuple(map(self._without_value, overrides))
        if keys in self._refused:
            raise self._refused[keys]
        try:
            yield
        except (HydraException, OmegaConfBaseException, UnknownKeyError) as error:
            if _is_of_keys(error):
                self._refused[keys] = error
            raise

    def _without_value(self, text: str) -> str:
        """Return the key of an override with its sign, where keys alone decide whether Hydra takes it."""
        override = self._parsed(text)
        holds_keys = self._is_group(override.key_or_group) or override.is_delete() or isinstance(override.value(), dict)
        return text if holds_keys else text.partition("=")[0]

    @cached_property
    def _plain_keys(self) -> frozenset[str]:
        return plain_keys()

    def _is_plain(self, override: Override) -> bool:
        """Return whether an override sets one value of an existing key, by nothing but Hydra's conversion of types."""
        return (
            override.key_or_group in self._plain_keys
            and override.package is None
            # ++ on an existing key does the same as no sign.
            and not (override.is_add() or override.is_delete())
            and "${" not in (override.input_line or "")
        )

    def _is_group(self, key: str) -> bool:
        """Return whether an override of this key chooses an option."""
        return key in groups()

    def _plain(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides whose values can be put into a composed config with the same result as in Hydra."""
        parsed = [self._parsed(text) for text in overrides]
        plain: list[str] = []
        # Keys, or parents of keys, that an override of another kind sets later or deletes.
        reached = [each.key_or_group for each in parsed if each.is_delete()]
        for text, override in zip(reversed(overrides), reversed(parsed), strict=True):
            key = override.key_or_group
            if not self._is_plain(override):
                # Hydra chooses group options before it sets any value, whatever their order.
                reached += [] if self._is_group(key) and not isinstance(override.value(), dict) else [key]
            elif not any(f"{key}.".startswith(f"{each}.") or each.startswith(f"{key}.") for each in reached):
                plain.append(text)
        return plain[::-1]

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        """Return the composed config of one cell, with its hydra node."""
        return self._loader.load_sweep_config(self._master, list(overrides))
