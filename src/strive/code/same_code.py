"""Tables of the code versions that are known to train the same numbers, and for which cells.

The study's table is same_code.json here. `tools/same_code.py` writes a row only after it has trained cells with both
versions on one machine; `make same-code` repeats that. A row holds only for what was compared: the nets,
precisions and normalisation that agreed, and the kinds of values that the compared cells had.

A user's own table is same_code.json in a runs folder. `strive same-code CELL` writes a row after it has trained one
cell again; a row holds for every cell of that folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from strive.errors import RecordError

TABLE = Path(__file__).with_name("same_code.json")

# Keys that rows list by name, and keys that are only names or do not apply to our own nets.
_NAMED = frozenset({"model.base", "model.variant", "model.batch_norm", "precision"})
_FREE = frozenset({"data.name", "model.builder", "model.kwargs", "seed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two versions of a row."""

    code_hash: str
    commit: str  # 40 hex digits


@dataclass(frozen=True, kw_only=True, slots=True)
class SameCodeRow:
    """The result of comparing two versions."""

    old: Side
    new: Side
    date: str  # UTC, YYYY-MM-DD
    machine: str
    torch: str
    python: str
    same: dict[str, list[str]]  # {kind of net: its settings} with bit-identical weights
    different: dict[str, list[str]]  # {kind of net: its settings} with other weights
    compared: dict[str, list[str]] = field(default_factory=dict)  # {key: kinds of values} in cells that agreed

    def vouches_for(self, config: Mapping[str, Any]) -> bool:
        """Return whether such a cell was compared with equal results. config: its science, as a record has it."""
        keys = {*config, *self.compared} - _NAMED - _FREE
        return setting(config) in self.same.get(net(config), ()) and all(
            kind(config.get(key)) in self.compared.get(key, ()) for key in keys
        )


def net(config: Mapping[str, Any]) -> str:
    """Return the net's name as used in rows, such as b strided."""
    return f"{config.get('model.base')} {config.get('model.variant')}"


def setting(config: Mapping[str, Any]) -> str:
    """Return a cell's arithmetic as used in rows, such as bf16 or fp32 batch_norm."""
    return f"{config.get('precision')}{' batch_norm' if config.get('model.batch_norm') else ''}"


def kind(value: Any) -> str:
    """Return the kind of a key's value: the name of an option; for a number, whether it is 0."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "number" if value else "0"
    if isinstance(value, list):
        return "list" if value else "[]"
    text = str(value)
    return ("list" if text != "[]" else text) if text.startswith("[") else text


def compared(configs: list[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the kinds of values in these cells, as listed in a row."""
    keys = sorted({key for config in configs for key in config} - _NAMED - _FREE)
    return {key: sorted({kind(config[key]) for config in configs}) for key in keys}


def same_code(code: str, config: Mapping[str, Any], runs: Path | None = None) -> frozenset[str]:
    """Return the hashes of all code versions that train the same numbers for a cell, including this one.

    config: its science, {key: value}, as a record has it. runs: the runs folder of the cell's record, which may have a
    table, too. Raises RecordError for a table of that folder that cannot be read.
    """
    own = noted(runs) if runs is not None else ()
    same, grows = {code}, True
    while grows:
        grows = False
        for row in rows_of(TABLE):
            sides = {row.old.code_hash, row.new.code_hash}
            if len(sides & same) == 1 and row.vouches_for(config):
                same |= sides
                grows = True
        for note in own:
            if len({note.old, note.new} & same) == 1:
                same |= {note.old, note.new}
                grows = True
    return frozenset(same)


def is_stale(made: str, code: str, config: Mapping[str, Any], runs: Path | None = None) -> bool:
    """Return whether a cell was trained by code not known to equal `code`; False if `code` is "" (not found).

    config, runs: as for same_code.
    """
    return code not in ("", made) and code not in same_code(made, config, runs)


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a runs folder's own table."""

    old: str  # code hash in the cell's record
    new: str  # code hash of the training that gave the same numbers
    cell: str  # the cell that was trained again
    date: str  # UTC, YYYY-MM-DD
    host: str


def noted(runs: Path) -> tuple[Note, ...]:
    """Return the rows of a runs folder's own table; raises RecordError if it cannot be read."""
    path = runs / TABLE.name
    try:
        stamp = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return _noted(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=16)
def _noted(path: Path, time_ns: int, size: int) -> tuple[Note, ...]:
    try:
        return tuple(msgspec.json.decode(path.read_bytes(), type=list[Note]))
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not a table of `strive same-code` ({error}); move it away") from None


def notes_with(runs: Path, note: Note) -> bytes:
    """Return the content of a runs folder's own table with one more row."""
    return msgspec.json.format(msgspec.json.encode([*noted(runs), note]), indent=1) + b"\n"


@cache
def rows_of(table: Path) -> tuple[SameCodeRow, ...]:
    """Return the rows of a table."""
    content = json.loads(table.read_text(encoding="utf-8"))
    return tuple(SameCodeRow(**row | {side: Side(**row[side]) for side in ("old", "new")}) for row in content)
