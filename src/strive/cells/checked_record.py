"""A record with what the other files of its cell say of it. Imports no torch."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from strive.cells.evidence import Evidence, check_record
from strive.cells.records import Record, parse_record


@dataclass(frozen=True, slots=True)
class CheckedRecord:
    """A record, its file's content, and its comparison with the files beside it."""

    record: Record
    content: bytes
    evidence: Evidence

    @classmethod
    def read(cls, path: str | Path, *, most_bytes: float = math.inf) -> "CheckedRecord":
        """Read a record and compare it. most_bytes: as for check_record.

        Raises as records.read_record.
        """
        content = _content(path)
        while True:
            record = parse_record(content, path)
            evidence = check_record(record, os.path.dirname(path), most_bytes=most_bytes)
            # A training that ends now replaces the record and the files compared with it one after the other.
            if not evidence.contradictions or (now := _content(path)) == content:
                return cls(record, content, evidence)
            content = now


def _content(path: str | Path) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
