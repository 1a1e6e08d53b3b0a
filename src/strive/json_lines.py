"""Dataclasses as lines of JSON: messages between processes, and files with an entry a line."""

import dataclasses
import json
from typing import Any, TypeVar

import msgspec

Entry = TypeVar("Entry")


def to_line(entry: Any) -> bytes:
    """Return a dataclass as one line of JSON, in ASCII: its texts may hold what UTF-8 cannot, such as half pairs."""
    return (json.dumps(dataclasses.asdict(entry), allow_nan=False) + "\n").encode()


def from_line(kind: type[Entry], line: str | bytes) -> Entry:
    """Return the entry that to_line wrote. Raises ValueError for a line that is none."""
    return msgspec.convert(json.loads(line), kind)
