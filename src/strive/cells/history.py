"""A cell's history, history.jsonl: one line for each step that it logged. Imports no torch."""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec

from strive.cells import schema1

HISTORY = "history.jsonl"


class Step(msgspec.Struct, frozen=True):
    """The numbers of one step; the app says what its steps are."""

    step: Annotated[int, msgspec.Meta(ge=0)]
    values: dict[str, float | None]  # {name: value}; null: not finite, or not measured


_Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float
_decoder = msgspec.json.Decoder(dict[str, _Number | None])


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """Return {"step": step, name: value} of each line in a cell's history, without damaged ones; [] without a file."""
    lines = read_lines(folder)
    with suppress(ValueError, RecursionError):
        rows = _decoder.decode_lines(b"\n".join(lines))  # half the time of line by line
        if all(_is_step(row.get("step")) for row in rows):
            return rows
    return [{"step": step.step} | step.values for step in map(step_in, lines) if step is not None]


def read_lines(folder: Path) -> list[bytes]:
    """Return the unparsed lines of a cell's history; [] if there is no file."""
    path = history_path(folder)
    try:
        return path.read_bytes().splitlines() if path else []
    except OSError:
        return []


def history_path(folder: str | Path) -> Path | None:
    """Return the path of a cell's history, history.jsonl or the file of schema 1; None if it has none."""
    for name in (HISTORY, schema1.EPOCHS):
        if os.path.exists(f"{folder}/{name}"):
            return Path(folder, name)
    return None


def step_in(line: bytes) -> Step | None:
    """Parse a line of a history; return None if it is damaged, for example a truncated last line."""
    try:
        numbers: dict[str, Any] = _decoder.decode(line)
        if "step" not in numbers:
            numbers = schema1.as_step(numbers)
        step = numbers.pop("step")
        return Step(step, numbers) if _is_step(step) else None
    except (ValueError, KeyError, RecursionError):
        return None


def _is_step(number: Any) -> bool:
    return type(number) is int and number >= 0


def step_line(step: int, values: Mapping[str, float | None]) -> str:
    """Return a step as a line of history.jsonl; a number that is not finite becomes null."""
    numbers = {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}
    return json.dumps({"step": step} | numbers, allow_nan=False) + "\n"
