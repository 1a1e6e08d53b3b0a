"""Which versions of the code are known to train the same numbers, for which cells.

The table is same_code.json. `tools/same_code.py` writes its rows, and only after it has trained cells at
both versions on one machine; `make same-code` does that again. A row speaks for what was compared, no more:
the nets, precisions and normalisation that agreed, and the kinds of values that the compared cells had.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from strive.config import identity

TABLE = Path(__file__).with_name("same_code.json")

# What a row names one by one, and what is a name alone or has no meaning for our own nets.
_NAMED = frozenset({"model.base", "model.variant", "model.batch_norm", "precision"})
_FREE = frozenset({"data.name", "model.builder", "model.kwargs", "seed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two versions of a row."""

    code_hash: str
    commit: str  # 40 hex digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a comparison of two versions has shown."""

    old: Side
    new: Side
    date: str  # UTC, YYYY-MM-DD
    machine: str
    torch: str
    python: str
    same: dict[str, list[str]]  # {kind of net: its settings} whose weights were the same bit for bit
    different: dict[str, list[str]]  # and those whose were not
    compared: dict[str, list[str]] = field(default_factory=dict)  # {key: kinds of values} of cells that agreed

    def vouches_for(self, config: Mapping[str, Any]) -> bool:
        """Return whether a cell like this one was compared, and came out the same. config: as identity.flat."""
        return setting(config) in self.same.get(net(config), ()) and all(
            kind(config.get(key)) in self.compared.get(key, ()) for key in _compared_keys()
        )


@cache
def _compared_keys() -> list[str]:
    return sorted(identity.science_keys() - _NAMED - _FREE)


def net(config: Mapping[str, Any]) -> str:
    """Return the net's name in a row, such as b strided."""
    return f"{config['model.base']} {config['model.variant']}"


def setting(config: Mapping[str, Any]) -> str:
    """Return a cell's arithmetic as a row has it, such as bf16 or fp32 batch_norm."""
    return f"{config['precision']}{' batch_norm' if config['model.batch_norm'] else ''}"


def kind(value: Any) -> str:
    """Return what kind of value a key has: a choice by its name; of numbers 0 alone differs from the others."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "number" if value else "0"
    if isinstance(value, list):
        return "list" if value else "[]"
    text = str(value)
    return ("list" if text != "[]" else text) if text.startswith("[") else text


def compared(configs: list[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the kinds of values that these cells have, as a row lists them."""
    return {key: sorted({kind(config[key]) for config in configs}) for key in _compared_keys()}


def same_code(code: str, config: Mapping[str, Any]) -> frozenset[str]:
    """Return the hashes of all code that trains the same numbers for a cell; this one is among them.

    config: as identity.flat, or a record's.
    """
    same, grows = {code}, True
    while grows:
        grows = False
        for row in rows_of(TABLE):
            sides = {row.old.code_hash, row.new.code_hash}
            if len(sides & same) == 1 and row.vouches_for(config):
                same |= sides
                grows = True
    return frozenset(same)


def is_stale(made: str, code: str, config: Mapping[str, Any]) -> bool:
    """Return whether other code than `code` trained a cell, so far as is known; "" is code that is not found."""
    return code not in ("", made) and code not in same_code(made, config)


@cache
def rows_of(table: Path) -> tuple[Row, ...]:
    """Return the rows of a table."""
    content = json.loads(table.read_text(encoding="utf-8"))
    return tuple(Row(**row | {side: Side(**row[side]) for side in ("old", "new")}) for row in content)
