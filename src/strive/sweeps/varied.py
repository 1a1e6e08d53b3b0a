"""Columns of short texts for the keys in which the cells of a plan differ. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from strive import app
from strive.config import identity
from strive.sweeps.factors import independent, names_option
from strive.sweeps.labels import ARM
from strive.sweeps.plan import Planned


@dataclass(frozen=True, kw_only=True, slots=True)
class VariedColumn:
    """The values of one key, or the arms, or what the first word of an id is."""

    key: str  # "" for arms and first words
    title: str
    texts: list[str]  # one for each cell
    is_text: bool  # rather than numbers

    @property
    def number(self) -> int:
        """How many different values there are."""
        return len(set(self.texts))

    def labelled(self, cell: int) -> str:
        """Return a cell's value as it is typed; names of arms and nets are clear without their title."""
        return f"{self.title}={self.texts[cell]}" if self.key else self.texts[cell]


@dataclass(frozen=True, kw_only=True, slots=True)
class Varied:
    """The columns of some cells."""

    configs: list[dict[str, Any]]  # {key: value} of each cell
    keys: list[str]  # all that vary
    columns: list[VariedColumn]

    @classmethod
    def of(cls, cells: Sequence[Planned], swept: Sequence[str] = ()) -> Self:
        """Return what varies, without what follows from other keys. swept: keys that were given several values."""
        labels = app.in_use().labels()
        configs = [identity.with_argument_keys(app.in_use().flat(planned.config)) for planned in cells]
        open_keys = {planned.open_key for planned in cells}
        keys = dict.fromkeys(key for config in configs for key in config if key not in identity.BUILDERS)
        varying = [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]
        factors = [key for key in varying if key not in (*labels.in_first_word, *open_keys) and identity.decides(key)]
        factors = independent(factors, configs, first=[key for key in factors if key in swept or labels.first_word])
        columns = []
        if any(planned.arm for planned in cells):
            columns.append(_names(ARM, [planned.arm for planned in cells]))
        if labels.first_word:
            columns.append(
                _names(labels.first_word, [app.in_use().cell_name(each.config).partition("-")[0] for each in cells])
            )
        typed = [key for key in swept if key in factors]  # in the user's order
        columns += [_column(key, factors, configs) for key in dict.fromkeys((*typed, *factors))]
        return cls(configs=configs, keys=varying, columns=columns)

    def factors(self, excluded: int = 0) -> list[VariedColumn]:
        """Return the columns whose numbers of values multiply to that of the cells; [] if there are none such.

        excluded: number of combinations that are no cells.
        """
        moving = [column for column in self.columns if column.number > 1]
        # Columns that are zipped, or belong to an arm, follow from others.
        rows = [{column.title: column.texts[cell] for column in moving} for cell in range(len(self.configs))]
        chosen = independent([column.title for column in moving], rows)
        total = len(self.configs) + excluded
        for found in (moving, [column for column in moving if column.title in chosen]):
            if math.prod(column.number for column in found) == total:
                return found
        return []


def _names(title: str, texts: list[str]) -> VariedColumn:
    return VariedColumn(key="", title=title, texts=texts, is_text=True)


def _column(key: str, factors: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> VariedColumn:
    return VariedColumn(
        key=key,
        title=_heading(key, factors),
        texts=[_value_text(key, config) for config in configs],
        is_text=any(isinstance(config.get(key), str) for config in configs),
    )


def _value_text(key: str, config: Mapping[str, Any]) -> str:
    """Return a value as a column shows it: a class by its last name, for its module is long and says less."""
    text = str(config.get(key, "-"))
    return text.rpartition(".")[2] if key.endswith("_target_") else text


def _heading(key: str, keys: Sequence[str]) -> str:
    """Return the last word of a key; what its group says where that word does not, and the key where two are alike."""
    group, _, name = key.rpartition(".")
    if names_option(key):
        return group
    return key if [other.rpartition(".")[2] for other in keys].count(name) > 1 else name
